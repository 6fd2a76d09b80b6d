//! The successor's side.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use flect_agent::worker::Parting;
use flect_ebpf::SCHEMA;
use tokio::sync::mpsc;

use super::channel::{Channel, Received};
use super::{Estate, VERSION, Word, place};
use crate::control::Peer;

/// How long the predecessor may take for a word: what it does for each takes milliseconds.
const WORD_WITHIN: Duration = Duration::from_secs(30);

/// How long the next session may take: no agent lets the last of them take longer to end
/// (`agent.drain_seconds`), and this is some more.
const SESSION_WITHIN: Duration = Duration::from_secs(3600 + 60);

/// The agent that is to be followed.
pub struct Predecessor {
    channel: Channel,
}

/// Sessions, as they come.
pub type Sessions = mpsc::UnboundedReceiver<Parting>;

impl Predecessor {
    /// Asks the agent with this control socket for its listeners.
    ///
    /// # Errors
    /// When there is none, it does not hand over to this process, or not in this agent's language.
    pub fn find(control: &Path) -> anyhow::Result<(Self, Estate)> {
        let path = place(control);
        let channel = Channel::connect(&path, WORD_WITHIN).with_context(|| {
            format!(
                "no agent offers to hand over at {}; `flect-agent run` starts one",
                path.display()
            )
        })?;
        let peer = Peer::of(channel.as_fd())?;
        let own = rustix::process::geteuid().as_raw();
        if peer.uid != 0 && peer.uid != own {
            bail!("{} is user {}'s, not the agent's", path.display(), peer.uid);
        }
        let hello = Word::Hello {
            version: VERSION,
            schema: SCHEMA,
        };
        let mut estate = Estate::default();
        let mut answer = channel.greet(&hello);
        loop {
            let Received {
                word, descriptor, ..
            } = said(answer)?;
            match (word, descriptor) {
                (Word::Refused { why }, _) => bail!("the running agent does not hand over: {why}"),
                (Word::Listener, Some(fd)) => estate.listeners.push(TcpListener::from(fd)),
                (Word::Explicit, Some(fd)) => estate.explicit.push(TcpListener::from(fd)),
                (Word::Listening, None) => return Ok((Self { channel }, estate)),
                (word, _) => bail!("the running agent says {word:?}"),
            }
            answer = channel.receive();
        }
    }

    /// Tells it that this agent can serve. From when this returns on, the predecessor accepts nothing, and its
    /// sessions come.
    ///
    /// # Errors
    /// When it has gone, or its sessions cannot be received.
    pub async fn succeed(self, estate: &mut Estate) -> anyhow::Result<Sessions> {
        let yielded = tokio::task::spawn_blocking(move || {
            self.channel.send(&Word::Yield, b"", None)?;
            match next(&self.channel)?.word {
                Word::Yielded { ids } => Ok((self.channel, ids)),
                word => bail!("the running agent says {word:?}"),
            }
        });
        let (channel, ids) = yielded.await??;
        estate.ids = ids;
        let (sender, sessions) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("hand-over".to_owned())
            .spawn(move || {
                if let Err(error) = receive(&channel, &sender) {
                    tracing::warn!("not all sessions were handed over: {error:#}");
                }
            })
            .context("no thread for the hand-over")?;
        Ok(sessions)
    }
}

/// Receives sessions until there are no more.
fn receive(channel: &Channel, to: &mpsc::UnboundedSender<Parting>) -> anyhow::Result<()> {
    channel.set_patience(SESSION_WITHIN)?;
    let mut count = 0_u64;
    loop {
        let Received {
            word,
            bytes,
            descriptor,
        } = next(channel)?;
        match (word, descriptor) {
            (Word::Session(state), Some(fd)) => {
                count += 1;
                let parting = Parting {
                    stream: stream(fd)?,
                    state: *state,
                    early: bytes,
                };
                // Nobody takes them any more only while the process ends.
                let _ = to.send(parting);
            }
            (Word::Done, None) => {
                tracing::info!(sessions = count, "taken over");
                return Ok(());
            }
            (word, _) => bail!("the running agent says {word:?}"),
        }
    }
}

fn next(channel: &Channel) -> anyhow::Result<Received> {
    said(channel.receive())
}

fn said(answer: io::Result<Option<Received>>) -> anyhow::Result<Received> {
    let received = answer.context("the running agent")?;
    received.context("the running agent has ended the conversation; its log says why")
}

/// A client's connection, non-blocking as workers want it.
fn stream(fd: OwnedFd) -> io::Result<TcpStream> {
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(stream)
}
