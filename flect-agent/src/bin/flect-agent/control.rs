//! The control socket: one JSON request a line, one JSON reply a line. Anybody may connect; every
//! request is judged by who asks ([`standing`]).
//!
//! Invariant: nobody keeps others out. A line, its time and the number of connections of each user are
//! bounded; operators are served beyond what others may fill.

mod answer;
mod peer;
mod people;
mod standing;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

pub use answer::Desk;
pub use peer::Peer;
pub use people::People;
use standing::{Kind, Standing};

/// A request names an operation and an app; this is many times that.
const LINE_BYTES_MAX: u64 = 4096;

/// How long a client may pause between requests: `flect top` asks every second.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// How long a client may take to read a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Connections of one user at once: a build that runs `flect run` on every core of a large machine.
const CONNECTIONS_PER_USER_MAX: usize = 128;

/// Connections of all users but operators at once.
const CONNECTIONS_MAX: usize = 512;

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers nobody any more and removes the socket when it is dropped.
pub struct Control {
    path: PathBuf,
    accepting: AbortHandle,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.accepting.abort();
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers from now on.
pub fn listen(path: &Path, desk: Arc<Desk>) -> anyhow::Result<Control> {
    let listener = bind(path)?;
    let path = path.to_owned();
    let connections = Arc::new(Connections::default());
    let accepting = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => admit(stream, &desk, &connections),
                Err(error) => {
                    tracing::warn!(%error, "the control socket failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    let accepting = accepting.abort_handle();
    Ok(Control { path, accepting })
}

/// A socket that everybody may connect to, in the place of one that nobody answers at.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = path.parent()
        // A bare file name has an empty parent: the working folder.
        && folder != Path::new("")
        && !folder.is_dir()
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // Whatever the umask: everybody must be able to reach the socket.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot open {} to users", folder.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!(
            "another agent answers at {}; `flect-agent upgrade` takes over from it, or stop it first",
            path.display()
        );
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {} to users", path.display()))?;
    Ok(listener)
}

/// Serves a connection if its user has not too many.
fn admit(stream: UnixStream, desk: &Arc<Desk>, connections: &Arc<Connections>) {
    let peer = match Peer::of(stream.as_fd()) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(%error, "a connection to the control socket was dropped");
            return;
        }
    };
    let standing = desk.judge(&peer);
    let Some(place) = Connections::take(connections, &peer, &standing) else {
        desk.audit(&peer, &standing, "too many connections");
        return;
    };
    let desk = desk.clone();
    tokio::spawn(async move {
        // Whatever ends it ends this connection alone.
        let _ = serve(stream, peer, &desk).await;
        drop(place);
    });
}

async fn serve(stream: UnixStream, peer: Peer, desk: &Desk) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let peer = Arc::new(peer);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut line);
        if tokio::time::timeout(REQUEST_WITHIN, read).await?? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let mut reply = if whole {
            desk.answer(&peer, &line).await.to_string()
        } else {
            answer::invalid("the request has no end of line, or more than 4096 bytes").to_string()
        };
        reply.push('\n');
        tokio::time::timeout(REPLY_WITHIN, writer.write_all(reply.as_bytes())).await??;
        if !whole {
            return Ok(());
        }
    }
}

/// How many connections there are, by user.
#[derive(Default)]
struct Connections(Mutex<HashMap<Holder, usize>>);

/// Tenants are counted apart: uid 0 in a container must not use up the operator's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Holder {
    uid: u32,
    kind: Kind,
}

struct Place {
    connections: Arc<Connections>,
    holder: Holder,
}

impl Connections {
    fn take(connections: &Arc<Self>, peer: &Peer, standing: &Standing) -> Option<Place> {
        let holder = Holder {
            uid: peer.uid,
            kind: standing.kind,
        };
        let mut counts = connections.lock();
        let others: usize = counts
            .iter()
            .filter(|(holder, _)| holder.kind != Kind::Operator)
            .map(|(_, count)| count)
            .sum();
        let own = counts.entry(holder).or_default();
        if *own >= CONNECTIONS_PER_USER_MAX
            || (holder.kind != Kind::Operator && others >= CONNECTIONS_MAX)
        {
            return None;
        }
        *own += 1;
        drop(counts);
        Some(Place {
            connections: connections.clone(),
            holder,
        })
    }

    /// Each change is one call, so a panic elsewhere cannot leave it half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Holder, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.lock();
        if let Some(count) = counts.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.holder);
            }
        }
    }
}
