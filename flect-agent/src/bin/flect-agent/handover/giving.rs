//! The predecessor's side: a thread that waits for a successor.
//!
//! Invariant: the thread asks the main loop for everything that it gives, and the main loop does what it asks
//! between two other things, so nothing is given twice.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use flect_agent::worker::Parting;
use flect_ebpf::SCHEMA;
use socket2::Socket;
use tokio::sync::{mpsc, oneshot};

use super::channel::{self, Channel};
use super::{VERSION, Word, place};
use crate::control::{Desk, Peer};

/// How long the successor may take for a word: it puts its hooks in place before it says the second one.
const WORD_WITHIN: Duration = Duration::from_secs(120);

/// How long it may take to take a session.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// How long accepting pauses when it fails: the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// What the thread asks of the main loop.
pub enum Ask {
    /// Change no listener from now on, and give copies of all: those of interception and those of explicit mode.
    Listeners(oneshot::Sender<anyhow::Result<[Vec<TcpListener>; 2]>>),
    /// The successor has gone without taking over: go on.
    Resume,
    /// Accept no more; the stores' last ids, and the sessions as they leave.
    Leave(oneshot::Sender<Left>),
    /// All has been handed over: end.
    End,
}

/// What the main loop gives when it accepts no more.
pub struct Left {
    pub ids: Vec<(String, u64)>,
    pub sessions: mpsc::UnboundedReceiver<Parting>,
}

/// The socket in the file system; removed when it is dropped.
pub struct Offer {
    path: PathBuf,
}

impl Drop for Offer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits for successors from now on. `supervised`: whoever keeps the descriptors starts the successor itself.
///
/// # Errors
/// When there is no socket or no thread.
pub fn offer(
    control: &Path,
    desk: Arc<Desk>,
    supervised: bool,
    asks: mpsc::UnboundedSender<Ask>,
) -> anyhow::Result<Offer> {
    let path = place(control);
    // The control socket's place is ours, so nobody else's is beside it.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        channel::listen(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let giver = Giver {
        desk,
        supervised,
        asks,
    };
    std::thread::Builder::new()
        .name("hand-over".to_owned())
        .spawn(move || giver.run(&listener))
        .context("no thread for the hand-over")?;
    Ok(Offer { path })
}

struct Giver {
    desk: Arc<Desk>,
    supervised: bool,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Giver {
    fn run(self, listener: &Socket) {
        loop {
            let accepted = listener.accept().and_then(|(socket, _)| {
                let peer = Peer::of(socket.as_fd())?;
                Ok((peer, Channel::new(socket, WORD_WITHIN)?))
            });
            match accepted {
                Ok((peer, channel)) => match self.give(&peer, &channel) {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!("nothing was handed over: {error:#}");
                        // The main loop ends only with the process.
                        let _ = self.asks.send(Ask::Resume);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "the hand-over's socket failed");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// A whole conversation; when it ends well, so does this agent.
    fn give(&self, peer: &Peer, channel: &Channel) -> anyhow::Result<()> {
        if let Err(why) = self.permits(peer, channel) {
            let refused = Word::Refused { why: why.clone() };
            // Whoever is refused may be gone.
            let _ = channel.send(&refused, b"", None);
            bail!("{why}");
        }
        tracing::info!(pid = peer.pid, "a successor takes over");
        let [listeners, explicit] = self.ask(Ask::Listeners)??;
        for (word, listeners) in [(Word::Listener, listeners), (Word::Explicit, explicit)] {
            for listener in listeners {
                channel.send(&word, b"", Some(listener.as_fd()))?;
            }
        }
        channel.send(&Word::Listening, b"", None)?;
        match channel.receive()?.map(|received| received.word) {
            Some(Word::Yield) => {}
            Some(word) => bail!("the successor says {word:?}"),
            None => bail!("the successor has ended before it could serve; its log says why"),
        }
        let left = self.ask(Ask::Leave)?;
        self.leave(channel, left);
        let _ = self.asks.send(Ask::End);
        Ok(())
    }

    /// Whether this peer may take over.
    fn permits(&self, peer: &Peer, channel: &Channel) -> Result<(), String> {
        if !self.desk.is_heir(peer) {
            self.desk
                .audit(peer, &self.desk.judge(peer), "taking over the service");
            return Err(
                "only root and the agent's own user, outside of apps and containers, may take over"
                    .to_owned(),
            );
        }
        let hello = channel.receive().map_err(|error| error.to_string())?;
        match hello.map(|received| received.word) {
            Some(Word::Hello {
                version: VERSION,
                schema: SCHEMA,
            }) => {}
            Some(Word::Hello { version, schema }) => {
                return Err(format!(
                    "the running agent hands over in version {VERSION} with hooks of schema {SCHEMA}, the new one in \
                     {version} with {schema}: restart it instead"
                ));
            }
            _ => return Err("no hello".to_owned()),
        }
        if self.supervised {
            return Err("systemd runs this agent and would not know its successor; `systemctl restart flect-agent` hands over as well".to_owned());
        }
        Ok(())
    }

    /// From here on there is no way back: what the successor does not take ends.
    fn leave(&self, channel: &Channel, mut left: Left) {
        let mut said = channel
            .set_patience(TAKEN_WITHIN)
            .and_then(|()| channel.send(&Word::Yielded { ids: left.ids }, b"", None));
        let (mut handed, mut lost) = (0_u64, 0_u64);
        while let Some(parting) = left.sessions.blocking_recv() {
            if said.is_ok() {
                let word = Word::Session(Box::new(parting.state));
                said = channel.send(&word, &parting.early, Some(parting.stream.as_fd()));
            }
            match said {
                Ok(()) => handed += 1,
                Err(_) => lost += 1,
            }
        }
        let said = said.and_then(|()| channel.send(&Word::Done, b"", None));
        if let Err(error) = said {
            tracing::error!(%error, lost, "the successor has gone while it took over");
        }
        tracing::info!(sessions = handed, "handed over");
    }

    fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> anyhow::Result<T> {
        let (asker, answer) = oneshot::channel();
        let ends = || "the agent ends";
        self.asks.send(ask(asker)).ok().with_context(ends)?;
        answer.blocking_recv().ok().with_context(ends)
    }
}
