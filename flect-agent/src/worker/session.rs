//! One client connection: its identity, its protocol state, and the replies it is owed.
//!
//! Invariant: replies leave in the order of requests. A session has requests on one upstream
//! connection at a time; what the agent answers itself waits in `answered` for the replies before
//! it.

mod subscribed;
mod transaction;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use mio::net::TcpStream;

use super::arena::Key;
use super::clients::Errand;
use super::events::{concerns_channel, concerns_pattern};
use super::flushes::Flushed;
use super::outbox::Outbox;
use super::redirect::{Asker, Found};
use super::tracking::Tracking;
use super::upstream::Upstream;
use crate::cgroup::CgroupId;
use crate::commands::Command;
use crate::environment::{App, Entry, Place, Store};
use crate::metrics::Meter;
use crate::resp::Protocol;
use crate::resp::request::{Request, RequestScanner};
use crate::rewrite;
use crate::rewrite::stream::StreamRewriter;
use crate::scripts::{Declared, Sha};
use crate::store::Namespace;
pub use subscribed::Subscribed;
pub use transaction::{Executing, Transaction};

/// The largest request that is looked at as a whole, and what one read takes at most. Larger
/// requests are streamed on a connection of the session's own.
pub const INPUT_BYTES_MAX: usize = 68 * 1024;

// A line that is too long must be seen whole to be refused.
const _: () = assert!(INPUT_BYTES_MAX > crate::resp::REQUEST_LINE_BYTES_MAX);

/// The same where a request brings a script's text: the text must be there as a whole. The largest scripts
/// of known libraries have 30 KiB.
pub const SCRIPT_INPUT_BYTES_MAX: usize = 1024 * 1024 + INPUT_BYTES_MAX;

/// The same for a request that brings libraries of functions: all that a store may have come in one dump.
pub const LIBRARIES_INPUT_BYTES_MAX: usize = 2 * 1024 * 1024 + INPUT_BYTES_MAX;

/// Reply bytes that may wait for a client before the agent reads no more requests of it, and no
/// more replies for it where nobody else is harmed by that.
pub const CLIENT_OUT_BYTES_HIGH: usize = 256 * 1024;

/// Reply bytes that a worker holds for all clients together that read nothing while others wait
/// behind them; past this such a client is disconnected, as Valkey does at its
/// client-output-buffer-limit. Half of the largest value: a client gets here only by its first
/// large reply, since it has connections of its own from then on.
pub const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Requests that one session may have in flight: enough to fill the pipe, few enough that others
/// on the shared connection do not queue behind thousands, and that answers of the agent's own
/// behind a blocked request do not pile up.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// A reply above this marks its session as heavy: it gets connections of its own from then on, so
/// that small requests do not wait behind its transfers.
pub const HEAVY_REPLY_BYTES: usize = 64 * 1024;

/// A client connection.
pub struct Session {
    pub socket: TcpStream,
    pub app: Arc<App>,
    pub store: Arc<Store>,
    /// Its place with this worker among the store's sessions.
    pub place: Place,
    /// Who connected, where that was intercepted.
    pub cgroup: Option<CgroupId>,
    pub namespace: Namespace,
    pub entry: Arc<Entry>,
    /// What this worker counts for the store.
    pub meter: Arc<Meter>,
    pub protocol: Protocol,
    pub database: u32,
    /// Bytes received and not yet taken.
    pub input: Vec<u8>,
    /// How much of a request is gathered: more for a script's text.
    pub input_bytes_max: usize,
    pub scanner: RequestScanner,
    /// Nothing that has been read stands behind the request being taken.
    pub nothing_behind: bool,
    pub out: Outbox,
    /// Replies under way, the agent's own answers behind them included.
    pub in_flight: u32,
    /// Replies to come from upstream before the first of `answered`.
    pub owed: u32,
    /// What the agent answered itself while replies were still to come.
    pub answered: VecDeque<Answer>,
    /// A frame is partly in `out`: nothing may be put behind it before its end.
    pub receiving: bool,
    pub lane: Lane,
    pub gate: Gate,
    /// A request that does not fit the buffer is under way.
    pub stream: Option<Stream>,
    pub transaction: Option<Transaction>,
    /// The database that a queued SELECT chooses if the EXEC under way succeeds.
    pub selecting: Option<u32>,
    pub watching: bool,
    pub subscribed: Subscribed,
    /// The HELLO in front has changed the protocol, and is still to be answered.
    pub switched: bool,
    pub astray: super::astray::Turns,
    /// What the script declares that is being queued.
    pub declares: Declared,
    /// The script that has just been looked for.
    pub sought: Option<Sha>,
    /// Patterns that it subscribed to.
    pub patterns: HashSet<Vec<u8>>,
    /// Channels of notifications that it subscribed to.
    pub event_channels: HashSet<Vec<u8>>,
    /// Notifications that wait for replies before them.
    pub events: Vec<u8>,
    /// It has heard of all that happened before the request in front.
    pub heard: bool,
    /// What the server has not confirmed yet of them, in order.
    pub pattern_changes: VecDeque<PatternChange>,
    /// CLIENT NO-TOUCH ON.
    pub no_touch: bool,
    /// How many keys it watches.
    pub watched: u32,
    /// MONITOR.
    pub monitoring: bool,
    /// Bytes of MONITOR's lines behind replies that are owed.
    pub lines_bytes: usize,
    /// What other workers do for it.
    pub errand: Option<Errand>,
    /// EXECs under way, as MONITOR will show them.
    pub executing: VecDeque<Executing>,
    /// What CLIENT LIST tells of it.
    pub doing: Doing,
    pub tracking: Tracking,
    /// What it is to be told of flushes.
    pub flushed: Flushed,
    /// What a queued CLIENT TRACKING makes of it if the EXEC under way succeeds.
    pub tracking_after: Option<Tracking>,
    /// What has been found out about the session that invalidations shall go to.
    pub redirect_found: Option<Found>,
    /// Other sessions' invalidations come to it.
    pub redirected_to: bool,
    /// Who waits for the id of its connection.
    pub redirect_askers: Vec<Asker>,
    /// Whom ACL WHOAMI names: the user of the last AUTH.
    pub user: Vec<u8>,
    pub replies: Replies,
    /// It moves large values: see [`HEAVY_REPLY_BYTES`].
    pub heavy: bool,
    /// Bytes of the reply being received, to find heavy sessions.
    pub reply_bytes: usize,
    /// Small replies in a row while heavy.
    pub light_replies: u16,
    /// Others have waited long enough for this client to read.
    pub overdue: bool,
    /// A short read says nothing: tcp_bpf_recvmsg hands out what was redirected first, and what came
    /// through TCP behind it only to the next read, which no event announces.
    pub accelerated: bool,
    pub readable: bool,
    pub hung_up: bool,
    /// No more requests are taken; the session ends when all replies are out.
    pub finishing: bool,
    pub flush_queued: bool,
    pub run_queued: bool,
    /// The store's share has paid for the request in front.
    pub admitted: bool,
    /// What the store's sum knows that is held for it.
    pub noted_bytes: usize,
}

/// A reply of the agent's own, and how many upstream replies follow it before the next.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub then_owed: u32,
}

/// Where the session's requests are under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lane {
    None,
    Shared(Key<Upstream>),
    Own(Key<Upstream>),
}

/// Why a session takes no more requests for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Until every reply it is owed has come: the next request needs another connection.
    Idle,
    /// Until an upstream connection has room.
    Upstream,
    /// Until the client has read more of its replies.
    Client,
    /// Until replies of earlier requests have come: too many are in flight.
    InFlight,
    /// Until the agent has done what the last request asked for.
    Job,
    /// Until fewer of the store's store-wide commands are under way.
    Turn,
    /// Until the store's user may subscribe to a pattern.
    Grant,
    /// Until the store may have more commands.
    Pace,
    /// Until the store's pause is over.
    Pause,
    /// Until the server has been told to end an earlier blocking command.
    Unblocking,
    /// Until the store's notifications are listened to.
    Listener,
    /// Until the connection is known that invalidations shall go to.
    Redirect,
    /// Until the session's connection speaks another protocol.
    Protocol,
}

/// A request on its way that does not fit the buffer.
pub struct Stream {
    pub rewriter: StreamRewriter,
    /// Where it goes; `None` swallows it and answers `refusal`.
    pub to: Option<StreamTo>,
    pub refusal: Vec<u8>,
}

/// The destination of a streamed request.
pub struct StreamTo {
    pub upstream: Key<Upstream>,
    pub command: &'static crate::commands::Command,
    pub argc: usize,
}

/// What CLIENT LIST tells of a session, as it goes.
#[derive(Debug, Default)]
pub struct Doing {
    /// The number of its last command.
    pub last_command: Option<u16>,
    /// Commands carried out.
    pub commands: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// When it last read or was written to, in milliseconds of the workers' clock.
    pub touched_ms: u64,
    /// When it last asked for anything but a plain read, by the same clock.
    pub wrote_ms: u64,
}

/// A SUBSCRIBE, PSUBSCRIBE or the end of one under way.
pub struct PatternChange {
    /// Channels, of which only those of notifications count.
    pub channels: bool,
    pub add: bool,
    /// Without names, PUNSUBSCRIBE gives up all.
    pub names: Vec<Vec<u8>>,
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    On,
    Off,
    /// SKIP was asked for: the next request's reply is dropped.
    SkipNext,
}

impl Session {
    /// Nothing is owed: another connection may be used without changing the order of things.
    pub fn is_idle(&self) -> bool {
        self.owed == 0 && self.answered.is_empty() && !self.receiving
    }

    /// Nothing is owed, by upstream or by a task of the agent's own.
    pub fn is_served(&self) -> bool {
        self.is_idle() && self.gate != Gate::Job
    }

    /// The session needs state on the server.
    pub fn needs_own(&self) -> bool {
        self.transaction.is_some()
            || self.watching
            || self.subscribed.any()
            || self.no_touch
            || self.tracking.on
            || self.redirected_to
    }

    /// What tracking will be when the next request is carried out.
    pub fn tracking_now(&self) -> &Tracking {
        let queued = self.transaction.as_ref();
        queued
            .and_then(|transaction| transaction.tracking.as_ref())
            .unwrap_or(&self.tracking)
    }

    /// Notes what a blocking command may come to wait for.
    pub fn wait_for(&self, command: &Command, request: &Request<'_>) {
        // Where they move to, they do not wait for.
        let most = if matches!(command.name, "blmove" | "brpoplpush") {
            1
        } else {
            usize::MAX
        };
        let prefix = self.namespace.keys();
        let keys = rewrite::request::keys(command, request).take(most);
        let names = keys.map(|key| [prefix, key].concat()).collect();
        self.entry.wait_for(names);
    }

    /// One more reply will come from upstream.
    pub fn owe(&mut self) {
        self.in_flight += 1;
        match self.answered.back_mut() {
            Some(last) => last.then_owed += 1,
            None => self.owed += 1,
        }
    }

    /// Whether CLIENT REPLY holds back the reply to the next request; SKIP is used up by it.
    pub fn mutes_next(&mut self) -> bool {
        match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::On;
                true
            }
        }
    }

    /// Answers the next request; the bytes wait for the replies before them.
    pub fn answer(&mut self, bytes: &[u8], command: Option<u16>) {
        if let [b'-', error @ ..] = bytes {
            self.meter.error(command, error);
        }
        if self.mutes_next() {
            return;
        }
        if self.is_idle() {
            self.out.tail().extend_from_slice(bytes);
        } else {
            self.in_flight += 1;
            self.answered.push_back(Answer {
                bytes: bytes.to_vec(),
                then_owed: 0,
            });
        }
    }

    /// The front upstream reply is complete: answers behind it may leave.
    pub fn paid(&mut self) {
        self.owed = self.owed.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.settle();
    }

    /// Answers that wait for nothing any more leave.
    pub fn settle(&mut self) {
        while self.owed == 0 && !self.receiving {
            let Some(answer) = self.answered.pop_front() else {
                return;
            };
            self.out.tail().extend_from_slice(&answer.bytes);
            self.owed = answer.then_owed;
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// A reply was an error or null; if it was EXEC's, what was queued has not happened. Nothing is
    /// sent behind an EXEC that would change the session, so its reply is the last one.
    pub fn refused_exec(&mut self) {
        if self.in_flight > 1 {
            return;
        }
        self.tracking_after = None;
        if self.selecting.take().is_some() {
            self.select(self.database);
        }
    }

    /// It has asked for these patterns, or to give them up; the server confirms it later.
    pub fn note_patterns(&mut self, add: bool, request: &Request<'_>) {
        let names = request.args().skip(1).map(<[u8]>::to_vec).collect();
        self.pattern_changes.push_back(PatternChange {
            channels: false,
            add,
            names,
        });
    }

    /// The same of channels. A request that streams is not looked at: there is none.
    pub fn note_channels(&mut self, add: bool, request: Option<&Request<'_>>) {
        let names = request
            .into_iter()
            .flat_map(|request| request.args().skip(1));
        self.pattern_changes.push_back(PatternChange {
            channels: true,
            add: add || request.is_none(),
            names: names.map(<[u8]>::to_vec).collect(),
        });
    }

    /// Whether it may want to hear of keyspace events.
    pub fn wants_events(&self) -> bool {
        !self.event_channels.is_empty()
            || !self.pattern_changes.is_empty()
            || matches!(self.gate, Gate::Listener)
            || self.patterns.iter().any(|p| concerns_pattern(p))
    }

    /// Whether it hears of keyspace events, or will when what it has asked for is confirmed.
    pub fn hears_events(&self) -> bool {
        let asked = |change: &PatternChange| {
            let concerns = if change.channels {
                concerns_channel
            } else {
                concerns_pattern
            };
            change.add && change.names.iter().any(|name| concerns(name))
        };
        !self.event_channels.is_empty()
            || self.patterns.iter().any(|p| concerns_pattern(p))
            || self.pattern_changes.iter().any(asked)
    }

    /// The server has confirmed the first change under way, or refused it.
    pub fn change_patterns(&mut self, refused: bool) {
        let Some(change) = self.pattern_changes.pop_front() else {
            return;
        };
        if refused {
            return;
        }
        if change.channels {
            if !change.add && change.names.is_empty() {
                self.event_channels.clear();
            }
            for channel in change.names {
                if !change.add {
                    self.event_channels.remove(&channel);
                } else if concerns_channel(&channel) {
                    self.event_channels.insert(channel);
                }
            }
            return;
        }
        if !change.add && change.names.is_empty() {
            self.forget_patterns();
        }
        for pattern in change.names {
            if !change.add {
                if self.patterns.remove(&pattern) {
                    self.store.patterns.remove(&pattern);
                }
            } else if self.patterns.insert(pattern.clone()) {
                self.store.patterns.add(&pattern);
            }
        }
    }

    /// It subscribes to nothing any more.
    pub fn forget_patterns(&mut self) {
        for pattern in self.patterns.drain() {
            self.store.patterns.remove(&pattern);
        }
    }

    /// Chooses a database for the requests to come.
    pub fn select(&mut self, database: u32) {
        self.namespace = self.store.prefix.namespace(database);
    }
}
