//! Sessions that leave this process: handed to a successor where that is exact, ended otherwise.
//!
//! Invariant: a session leaves between two requests. It is owed nothing, all that it was answered has been
//! written, and what was received of its next request goes with it, untouched; so no request is lost, carried
//! out twice, or answered by another agent than the one that sent it on. What has state on the server (WATCH,
//! subscriptions, tracking) cannot leave: it is ended between two requests, at a moment of its own so that
//! clients do not all come back at once, and what never comes to such a moment when the limit is over.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Worker;
use super::arena::Key;
use super::session::{Gate, INPUT_BYTES_MAX, Replies, Session};
use crate::environment::Named;

/// What a client has said of itself may be as long as it likes; what is longer than this in all stays, so that
/// a session fits a message to the successor.
const SAID_BYTES_MAX: usize = 4096;

/// A worker's sessions are to leave.
pub struct Leaving {
    /// Where those go that can go on elsewhere; without it all are ended.
    pub to: Option<mpsc::UnboundedSender<Parting>>,
    /// How long the others may take.
    pub limit: Duration,
}

/// The same, as it goes.
pub(super) struct Departure {
    to: Option<mpsc::UnboundedSender<Parting>>,
    /// By the worker's clock.
    began: Duration,
    limit: Duration,
}

/// A session on its way to another process.
#[derive(Debug)]
pub struct Parting {
    /// Its client.
    pub stream: TcpStream,
    /// What the successor must know of it.
    pub state: Parted,
    /// What was received and not taken, at most [`EARLY_BYTES_MAX`](super::EARLY_BYTES_MAX).
    pub early: Vec<u8>,
}

/// A session that has left, in words that another process understands.
///
/// Who it is, is judged anew there: by the cgroup, as if it had just connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parted {
    /// The name of its app.
    pub app: String,
    /// The cgroup that connected; none where the connection was not intercepted.
    pub cgroup: Option<u64>,
    /// What its store's keys begin with.
    pub prefix: String,
    /// As whom it has logged in.
    pub user: Vec<u8>,
    /// CLIENT ID within the store.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it asked for.
    pub asked: SocketAddr,
    /// How long ago it began, in milliseconds.
    pub age_ms: u64,
    /// How long ago it last said or was told something, in milliseconds.
    pub idle_ms: u64,
    /// What it said of itself, its protocol and its database.
    pub named: Said,
    /// Its socket is in the sock hash.
    pub accelerated: bool,
    /// It moves large values.
    pub heavy: bool,
    /// CLIENT REPLY: 0 on, 1 off, 2 the next one is left out.
    pub replies: u8,
    /// The number of its last command.
    pub last_command: Option<u16>,
    /// Commands carried out.
    pub commands: u64,
    /// Bytes received.
    pub read_bytes: u64,
    /// Bytes sent.
    pub written_bytes: u64,
}

/// [`Named`], in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    name: Vec<u8>,
    lib_name: Vec<u8>,
    lib_version: Vec<u8>,
    user: Vec<u8>,
    database: u32,
    protocol: u8,
    redirect: bool,
    no_evict: bool,
    read_only: bool,
}

impl Said {
    /// 2 or 3.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

impl From<&Named> for Said {
    fn from(named: &Named) -> Self {
        let named = named.clone();
        Self {
            name: named.name,
            lib_name: named.lib_name,
            lib_version: named.lib_version,
            user: named.user,
            database: named.database,
            protocol: named.protocol,
            redirect: named.redirect,
            no_evict: named.no_evict,
            read_only: named.read_only,
        }
    }
}

impl From<Said> for Named {
    fn from(said: Said) -> Self {
        Self {
            name: said.name,
            lib_name: said.lib_name,
            lib_version: said.lib_version,
            user: said.user,
            database: said.database,
            protocol: said.protocol,
            redirect: said.redirect,
            no_evict: said.no_evict,
            read_only: said.read_only,
        }
    }
}

impl Departure {
    pub(super) fn new(leaving: Leaving, now: Duration) -> Self {
        Self {
            to: leaving.to,
            began: now,
            limit: leaving.limit,
        }
    }

    /// When a session that cannot go on elsewhere is ended, if it is between two requests: spread over the
    /// first three quarters of the time, and by its number, so that it is the same moment at each look. The
    /// multiplier is Knuth's: neighbours are far from each other.
    fn turn_of(&self, id: u64) -> Duration {
        let spread = (id.wrapping_mul(2_654_435_761) % 1024) as u32;
        self.began + self.limit * 3 / 4 * spread / 1024
    }
}

impl Replies {
    fn number(self) -> u8 {
        match self {
            Self::On => 0,
            Self::Off => 1,
            Self::SkipNext => 2,
        }
    }

    /// Of another process's [`Parted::replies`].
    fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Off,
            2 => Self::SkipNext,
            _ => Self::On,
        }
    }
}

impl Session {
    /// It is between two requests: owed nothing, and all that it was told is written.
    fn is_between_requests(&self) -> bool {
        // Behind any other gate something has begun for the request in front.
        let untouched = matches!(
            self.gate,
            Gate::Open
                | Gate::Idle
                | Gate::Upstream
                | Gate::Client
                | Gate::InFlight
                | Gate::Pace
                | Gate::Pause
        );
        untouched
            && self.is_idle()
            && self.out.is_empty()
            && self.events.is_empty()
            && self.stream.is_none()
            && self.errand.is_none()
            && !self.finishing
    }

    /// It can go on elsewhere: nothing of it is on the server or in other sessions.
    fn is_portable(&self) -> bool {
        let said_bytes = {
            let named = self.entry.named();
            named.name.len() + named.lib_name.len() + named.lib_version.len() + named.user.len()
        };
        !self.needs_own()
            && !self.monitoring
            && said_bytes + self.user.len() <= SAID_BYTES_MAX
            && self.cgroup.is_some()
            && self.input.len() <= INPUT_BYTES_MAX
            && self.patterns.is_empty()
            && self.event_channels.is_empty()
            && self.pattern_changes.is_empty()
            && self.redirect_askers.is_empty()
            && self.redirect_found.is_none()
            && self.tracking_after.is_none()
            && self.selecting.is_none()
            && self.executing.is_empty()
            && !self.switched
    }

    /// It takes no further request while its worker's sessions leave, since it can leave before it.
    pub(super) fn rests(&self) -> bool {
        self.stream.is_none() && self.is_portable()
    }

    /// What the successor must know.
    fn parted(&self, now_ms: u64) -> Parted {
        Parted {
            app: self.app.name.clone(),
            cgroup: self.cgroup.map(|cgroup| cgroup.0),
            prefix: self.store.prefix.as_str().to_owned(),
            user: self.user.clone(),
            id: self.entry.id,
            peer: self.entry.peer,
            asked: self.entry.asked,
            age_ms: u64::try_from(self.entry.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            idle_ms: now_ms.saturating_sub(self.doing.touched_ms),
            named: Said::from(&*self.entry.named()),
            accelerated: self.accelerated,
            heavy: self.heavy,
            replies: self.replies.number(),
            last_command: self.doing.last_command,
            commands: self.doing.commands,
            read_bytes: self.doing.read_bytes,
            written_bytes: self.doing.written_bytes,
        }
    }

    /// It goes on as another process has left it.
    pub(super) fn resume(&mut self, state: &Parted, now_ms: u64) {
        self.database = state.named.database;
        self.select(self.database);
        self.heavy = state.heavy;
        self.replies = Replies::of_number(state.replies);
        self.doing.last_command = state.last_command;
        self.doing.commands = state.commands;
        self.doing.read_bytes = state.read_bytes;
        self.doing.written_bytes = state.written_bytes;
        self.doing.touched_ms = now_ms.saturating_sub(state.idle_ms);
    }

    /// Whether its client has sent nothing that was not read.
    fn is_silent(&self) -> bool {
        let waits = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        self.input.is_empty() && self.socket.peek(&mut [0]).is_err_and(|error| waits(&error))
    }
}

impl Worker {
    /// From now on sessions leave, as they come between two requests.
    pub(super) fn leave(&mut self, leaving: Leaving) {
        self.rests = leaving.to.is_some();
        self.departure = Some(Departure::new(leaving, self.now));
    }

    /// Lets those go that may, at the end of each turn.
    pub(super) fn depart(&mut self) {
        let Some(departure) = self.departure.take() else {
            return;
        };
        let is_over = self.now >= departure.began + departure.limit;
        for key in self.sessions.keys() {
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            let between = session.is_between_requests();
            match &departure.to {
                Some(to) if between && session.is_portable() => {
                    self.part(key, to);
                    continue;
                }
                _ => {}
            }
            // Whoever takes nothing over leaves nothing to wait for.
            let is_due = departure.to.is_none() || self.now >= departure.turn_of(session.entry.id);
            let has_begun = session.transaction.is_some() || session.watching;
            if is_over || between && is_due && !has_begun && session.is_silent() {
                self.close_session(key);
            }
        }
        self.departure = Some(departure);
    }

    /// Gives a session's client to whoever takes over.
    fn part(&mut self, key: Key<Session>, to: &mpsc::UnboundedSender<Parting>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let state = session.parted(self.now_ms);
        let early = std::mem::take(&mut session.input);
        let Some(session) = self.end_session(key) else {
            return;
        };
        let parting = Parting {
            stream: session.socket.into(),
            state,
            early,
        };
        // Who takes over may be gone: the client's connection ends, and it is served when it comes again.
        let _ = to.send(parting);
    }
}
