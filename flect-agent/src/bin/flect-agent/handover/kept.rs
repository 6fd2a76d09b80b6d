//! What the supervisor keeps while no agent runs: systemd's store of descriptors (sd_pid_notify_with_fds(3),
//! `FDSTORE=1`), and what it gives back at the next start (sd_listen_fds(3)).
//!
//! | name | what it is |
//! | --- | --- |
//! | `l`, `n<cookie>` | listeners for intercepted connections: the agent's own namespace, and others |
//! | `e` | listeners of explicit mode |
//! | `s` | clients' connections, from the end of one agent to the start of the next |
//! | `m` | what the next agent must know of these, in memory: a line of JSON each, by the socket's cookie |
//!
//! Names are short because all of them together are one variable of the next agent's environment, which may
//! have 128 KiB (`MAX_ARG_STRLEN` in include/uapi/linux/binfmts.h); config/flect-agent.service bounds their number.
//!
//! Invariant: a connection that is kept is in no agent. What is given back is taken out of the store at once:
//! otherwise a session's end would not reach its client, since the supervisor would still have it open.

#![expect(
    unsafe_code,
    reason = "descriptors that were inherited are known by their numbers alone"
)]

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead as _, BufReader, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flect_agent::interception::netns_cookie;
use flect_agent::worker::{Parted, Parting};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::net::sockopt::socket_cookie;
use serde::{Deserialize, Serialize};

use super::Estate;
use crate::supervisor::Supervisor;

const LISTENER: &str = "l";
const EXPLICIT: &str = "e";
const SESSION: &str = "s";
const MEMORY: &str = "m";

/// The first descriptor that is given (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Namespaces whose listeners are kept; connects in others are refused while no agent runs. With them the names
/// stay far below what a variable may have.
const NAMESPACES_MAX: usize = 1024;

/// Descriptors in one message: less than the kernel's `SCM_MAX_FD`, 253.
const BATCH: usize = 64;

/// How long the supervisor may take to take a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first line of the memory. Another version is another language: then the clients come again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    version: u32,
    /// Prefixes of stores, and the last CLIENT ID that each has given.
    ids: Vec<(String, u64)>,
}

/// Another line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    cookie: u64,
    state: Parted,
    early: Vec<u8>,
}

/// Gives the supervisor what it shall keep.
pub struct Keep {
    supervisor: Arc<Supervisor>,
    namespaces: Mutex<HashSet<u64>>,
}

impl Keep {
    pub fn new(supervisor: Arc<Supervisor>) -> Self {
        Self {
            supervisor,
            namespaces: Mutex::default(),
        }
    }

    /// Whether there is a supervisor who keeps descriptors.
    pub fn is_there(&self) -> bool {
        self.supervisor.keeps()
    }

    /// A listener of explicit mode is to outlive this agent.
    pub fn explicit(&self, listener: &TcpListener) {
        self.supervisor.keep(EXPLICIT, &[listener.as_fd()], None);
    }

    /// A listener for intercepted connections is.
    pub fn listener(&self, listener: &TcpListener, own_namespace: u64) {
        let Ok(cookie) = netns_cookie(listener.as_fd()) else {
            return;
        };
        if cookie == own_namespace {
            return self.supervisor.keep(LISTENER, &[listener.as_fd()], None);
        }
        let mut kept = self.kept();
        if kept.len() < NAMESPACES_MAX || kept.contains(&cookie) {
            kept.insert(cookie);
            self.supervisor
                .keep(&of_namespace(cookie), &[listener.as_fd()], None);
        }
    }

    /// Nobody lives in a namespace any more: kept listeners would keep it.
    pub fn leave(&self, namespace: u64) {
        if self.kept().remove(&namespace) {
            self.supervisor.forget(&of_namespace(namespace));
        }
    }

    /// Listeners that were given back and are not used are not kept any longer.
    pub fn forget(&self, names: &HashSet<String>) {
        let used: HashSet<String> = self.kept().iter().map(|it| of_namespace(*it)).collect();
        for name in names.difference(&used) {
            self.supervisor.forget(name);
        }
    }

    /// Keeps sessions for the next agent; waits until the supervisor has them.
    ///
    /// # Errors
    /// When there is no memory for what the next agent must know.
    pub fn sessions(&self, ids: Vec<(String, u64)>, sessions: &[Parting]) -> io::Result<()> {
        let memory = rustix::fs::memfd_create("flect-sessions", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(memory);
        let mut text = serde_json::to_vec(&Head {
            version: super::VERSION,
            ids,
        })?;
        text.push(b'\n');
        for session in sessions {
            let kept = Kept {
                cookie: socket_cookie(&session.stream)?,
                state: session.state.clone(),
                early: session.early.clone(),
            };
            serde_json::to_writer(&mut text, &kept)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        for batch in sessions.chunks(BATCH) {
            let fds: Vec<BorrowedFd<'_>> = batch.iter().map(|it| it.stream.as_fd()).collect();
            self.supervisor.keep(SESSION, &fds, Some(PATIENCE));
        }
        self.supervisor
            .keep(MEMORY, &[file.as_fd()], Some(PATIENCE));
        self.supervisor.settle(PATIENCE);
        Ok(())
    }

    /// Each change is one call, so a panic elsewhere cannot leave it half done.
    fn kept(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_namespace(cookie: u64) -> String {
    format!("n{cookie:x}")
}

/// What the supervisor gives back, and the names under which listeners of other namespaces were kept. To be
/// called once.
pub fn inherit(supervisor: &Supervisor) -> (Estate, HashSet<String>) {
    let mut estate = Estate::default();
    let mut names = HashSet::new();
    let (mut streams, mut memory) = (Vec::new(), None);
    let mut kept = false;
    for (name, fd) in descriptors() {
        match name.as_str() {
            LISTENER => estate.listeners.push(TcpListener::from(fd)),
            EXPLICIT => estate.explicit.push(TcpListener::from(fd)),
            SESSION => streams.push(TcpStream::from(fd)),
            MEMORY => memory = Some(std::fs::File::from(fd)),
            _ if name.starts_with('n') => {
                estate.listeners.push(TcpListener::from(fd));
                names.insert(name);
                continue;
            }
            _ => tracing::warn!(name, "a descriptor that nobody knows was inherited"),
        }
        kept |= name == SESSION || name == MEMORY;
    }
    if kept {
        supervisor.forget(SESSION);
        supervisor.forget(MEMORY);
    }
    if let Some(memory) = memory
        && let Err(error) = remember(memory, streams, &mut estate)
    {
        tracing::warn!(%error, "sessions that were kept cannot go on; their clients come again");
    }
    (estate, names)
}

/// Puts sessions together again.
fn remember(
    mut memory: std::fs::File,
    streams: Vec<TcpStream>,
    estate: &mut Estate,
) -> io::Result<()> {
    memory.rewind()?;
    let mut lines = BufReader::new(memory).lines();
    let head = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let head: Head = serde_json::from_str(&head)?;
    if head.version != super::VERSION {
        return Err(io::Error::other(format!(
            "they are of version {}, this agent knows {}",
            head.version,
            super::VERSION
        )));
    }
    estate.ids = head.ids;
    let mut by_cookie = HashMap::new();
    for stream in streams {
        by_cookie.insert(socket_cookie(&stream)?, stream);
    }
    for line in lines {
        let kept: Kept = serde_json::from_str(&line?)?;
        // One that has ended meanwhile is not given back.
        if let Some(stream) = by_cookie.remove(&kept.cookie) {
            stream.set_nonblocking(true)?;
            estate.sessions.push(Parting {
                stream,
                state: kept.state,
                early: kept.early,
            });
        }
    }
    Ok(())
}

/// LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
fn descriptors() -> Vec<(String, OwnedFd)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok());
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut all = Vec::new();
    for number in FIRST..FIRST.saturating_add(count.unwrap_or(0)) {
        let name = names.next().unwrap_or_default().to_owned();
        // SAFETY: F_GETFD takes no argument and only tells whether the descriptor is open.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            continue;
        }
        // SAFETY: it is open, and it was opened for this process by whoever started it; nobody has taken it
        // before, since this is called once and first.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        // It is not passed on in any case: this process starts no other.
        let _ = rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC);
        all.push((name, fd));
    }
    all
}
