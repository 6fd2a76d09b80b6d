//! What the supervisor is told: systemd's notifications (sd_notify(3)), where it asks for them.
//!
//! Invariant: READY means what /readyz means, and a ping of the watchdog means that every loop has turned
//! since the last one. Nothing here waits for the supervisor, but the end: for it to keep what is left.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::PipeFlags;

use crate::node::Node;
use crate::vitals::Vitals;

/// Pings in the time after which the supervisor gives up: with a second one, a late one is no death.
const PINGS_PER_LIMIT: u32 = 3;

/// How often the status is looked at where there is no watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How much more time a start is given with each try to use Valkey; the tries are seconds apart, and each
/// waits for some.
const STARTING_LONGER: Duration = Duration::from_secs(60);

/// The way to the supervisor, if there is one.
#[derive(Default)]
pub struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// It keeps descriptors while no agent runs.
    keeps: bool,
    /// The last status, so that each is told once.
    said: Mutex<String>,
}

impl Supervisor {
    /// As the environment says: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.
    pub fn of_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let name = name.into_encoded_bytes();
        let address = match name.split_first() {
            Some((b'@', rest)) => SocketAddr::from_abstract_name(rest),
            _ => SocketAddr::from_pathname(std::path::Path::new(&*String::from_utf8_lossy(&name))),
        };
        let to = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A supervisor that does not read must not hold anything up.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        let to = to.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used"));
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| is_ours && *limit > 0);
        // Only newer ones say how many they keep (systemd 254).
        let keeps = number("FDSTORE").is_none_or(|most| most > 0);
        Self {
            keeps: keeps && to.is_ok(),
            to: to.ok(),
            watchdog: limit.map(Duration::from_micros),
            said: Mutex::default(),
        }
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, "the supervisor was not told");
        }
    }

    /// What the agent is doing, in a line.
    pub fn status(&self, status: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != status {
            status.clone_into(&mut said);
            self.tell(&format!("STATUS={status}"));
        }
    }

    /// The start goes on: Valkey is not there yet.
    pub fn starting(&self, status: &str) {
        self.status(status);
        self.tell(&format!(
            "EXTEND_TIMEOUT_USEC={}",
            STARTING_LONGER.as_micros()
        ));
    }

    /// Whether it keeps descriptors while no agent runs.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// It shall keep these under a name. Without patience one that does not read is not waited for.
    pub fn keep(&self, name: &str, fds: &[BorrowedFd<'_>], patience: Option<Duration>) {
        if self.keeps {
            let text = format!("FDSTORE=1\nFDNAME={name}");
            self.hand(&text, fds, patience);
        }
    }

    /// It shall keep nothing of this name any longer.
    pub fn forget(&self, name: &str) {
        if self.keeps {
            self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
    }

    /// Waits until it has taken what it was told: of a process that has gone it might not know whose it was
    /// (sd_notify_barrier(3)).
    pub fn settle(&self, patience: Duration) {
        let Ok((read, write)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else {
            return;
        };
        if !self.hand("BARRIER=1", &[write.as_fd()], Some(patience)) {
            return;
        }
        drop(write);
        let mut fds = [PollFd::new(&read, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        // Its end is closed when it has; past the time there is nothing more to be done.
        let _ = poll(&mut fds, Some(&wait));
    }

    /// Tells it something with descriptors; whether it was taken.
    fn hand(&self, text: &str, fds: &[BorrowedFd<'_>], patience: Option<Duration>) -> bool {
        let Some((_, address)) = &self.to else {
            return false;
        };
        let handed = || -> std::io::Result<()> {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(address)?;
            socket.set_nonblocking(patience.is_none())?;
            socket.set_write_timeout(patience)?;
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(fds));
            let parts = [IoSlice::new(text.as_bytes())];
            sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        handed()
            .inspect_err(
                |error| tracing::warn!(%error, "the supervisor does not keep a descriptor"),
            )
            .is_ok()
    }

    /// Connections are served.
    pub fn ready(&self, status: &str) {
        status.clone_into(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; [`Supervisor::ready`] ends it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// The agent ends.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Pings the watchdog for as long as every loop turns, and keeps the status up to date; never returns.
    /// To be run in the main loop, so that this has to turn as well.
    pub async fn watch(self: Arc<Self>, node: Arc<Node>, vitals: Arc<Vitals>) {
        if self.to.is_none() {
            return;
        }
        let pause = self
            .watchdog
            .map_or(LOOK_EVERY, |limit| limit / PINGS_PER_LIMIT);
        let mut tick = tokio::time::interval(pause);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match vitals.look(pause).await.stuck() {
                None => {
                    if self.watchdog.is_some() {
                        self.tell("WATCHDOG=1");
                    }
                    self.status(&summary(&node));
                }
                Some(stuck) => {
                    tracing::error!(stuck, "the agent does not serve as it should");
                    self.status(&stuck);
                }
            }
        }
    }
}

/// How it goes, for `systemctl status`.
pub fn summary(node: &Node) -> String {
    if let Err(why) = node.readiness() {
        return why;
    }
    let serving = node.serving.load();
    format!(
        "serving {} stores to {} apps",
        serving.stores().len(),
        serving.workloads.len()
    )
}
