//! Requests on their way to the server: rewritten into the connection's buffer, and the account of
//! the replies that they will bring.

use super::Worker;
use super::arena::Key;
use super::astray::Tried;
use super::lanes::reading::only_reads;
use super::memory;
use super::pausing;
use super::session::{Executing, Gate, Lane, Session, Transaction};
use super::upstream::{Owed, Recipient, Upstream};
use crate::commands::{self, Command, Need, Placement};
use crate::metrics::stats;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::rewrite;
use crate::rewrite::reply::ReplyPlan;
use crate::scoped::Queued;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is on its way or answered.
    Taken,
    /// It stays in the buffer until the session's gate opens.
    Later,
}

/// EXEC would answer with one confirmation for each name.
pub(super) const SUBSCRIPTION_IN_TRANSACTION: &[u8] =
    b"-ERR subscriptions cannot be part of a transaction in a store\r\n";

/// Whether a subscription may be sent on.
enum Granted {
    Yes,
    /// It has been refused.
    Refused,
    /// The control side has been asked.
    Later,
}

/// Valkey takes no ACL rule with such a byte (`ACLStringHasSpaces` in acl.c).
fn breaks_rule(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace() || byte == 0x0b
}

/// Whether a replica may answer this command.
fn session_reads(session: Option<&Session>, command: &Command) -> bool {
    session.is_some_and(|session| session.store.replica_reads()) && only_reads(command.name)
}

impl Worker {
    /// Sends a request on, its names rewritten.
    pub(super) fn forward(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(session) = self.sessions.get_mut(key) else {
            return Outcome::Taken;
        };
        let placement = commands::placement(command, request);
        if session.transaction.is_some() && placement == Placement::Dedicated(Need::Subscription) {
            // EXEC would answer with one confirmation for each name, inside and behind its array.
            self.refuse(key, SUBSCRIPTION_IN_TRANSACTION);
            return Outcome::Taken;
        }
        if gives_up_all(command, request) && !session.is_idle() {
            // Each name that is given up is confirmed: how many there are, the confirmations of what is
            // under way must have told.
            session.gate = Gate::Idle;
            return Outcome::Later;
        }
        let queues = session.transaction.is_some();
        let own = session.needs_own() || session.heavy || placement != Placement::Shared;
        if command.name == "exec"
            && let Some(outcome) = self.before_exec(key)
        {
            return outcome;
        }
        match self.names_granted(key, command, request) {
            Granted::Yes => {}
            Granted::Refused => return Outcome::Taken,
            Granted::Later => return Outcome::Later,
        }
        if !self.listens(key, command, request) {
            return Outcome::Later;
        }
        let reads = !own && session_reads(self.sessions.get(key), command);
        let lane = if reads {
            self.lane_of_read(key)
        } else {
            self.lane(key, own)
        };
        let Some(upstream) = lane else {
            return Outcome::Later;
        };
        let blocking = placement == Placement::Dedicated(Need::Blocking);
        if blocking && may_block_now(self.sessions.get(key)) {
            if !self.may_block_again(key, upstream) {
                return Outcome::Later;
            }
            self.ask_server_id(upstream);
        }
        // In a transaction the ECHO would be queued as well, and WAIT does not wait there.
        if matches!(command.name, "wait" | "waitaof") && !queues {
            // WAIT is about this connection's last write. The server notes the replication offset
            // at every command (`c->woff` in server.c), so one more brings it up to date with the
            // writes that went over the shared connection.
            self.send_own(
                upstream,
                b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
                Recipient::Greeting,
            );
        }
        let (Some(session), Some(lane)) =
            (self.sessions.get_mut(key), self.upstreams.get_mut(upstream))
        else {
            return Outcome::Taken;
        };
        let begin = lane.out.tail().len();
        let plan = rewrite::request::rewrite(command, request, &session.namespace, lane.out.tail());
        if blocking {
            session.wait_for(command, request);
        }
        if let Some(transaction) = &mut session.transaction {
            let written = &lane.out.tail()[begin..];
            transaction
                .queued
                .mention_all(&session.store.prefix, written);
        }
        match command.name {
            "psubscribe" => session.note_patterns(true, request),
            "punsubscribe" => session.note_patterns(false, request),
            "client|no-touch" if command.accepts(request.argc()) => {
                session.no_touch = rewrite::words::is(request.arg(2), b"on");
                lane.tainted = true;
            }
            "subscribe" => session.note_channels(true, Some(request)),
            "unsubscribe" => session.note_channels(false, Some(request)),
            "client|caching" => session.tracking.cache(request),
            _ => {}
        }
        self.sent(key, upstream, command, plan, request.argc(), blocking);
        Outcome::Taken
    }

    /// Enters a request that has been written whole into the account.
    pub(super) fn sent(
        &mut self,
        key: Key<Session>,
        upstream_key: Key<Upstream>,
        command: &Command,
        plan: ReplyPlan,
        argc: usize,
        blocking: bool,
    ) {
        let (Some(session), Some(upstream)) = (
            self.sessions.get_mut(key),
            self.upstreams.get_mut(upstream_key),
        ) else {
            return;
        };
        if session.transaction.is_none() && !command.name.starts_with("client|") {
            // CLIENT CACHING is about one command (`resetClient` in networking.c).
            session.tracking.caching = false;
        }
        let (plan, frames) = follow_state(session, command, plan, argc);
        let muted = session.mutes_next();
        session.owe();
        upstream.owed.push_back(Owed {
            to: Recipient::Session(key),
            plan,
            frames,
            muted,
            blocking,
            patterns: matches!(
                command.name,
                "psubscribe" | "punsubscribe" | "subscribe" | "unsubscribe"
            ),
            exec: command.name == "exec" && command.accepts(argc),
            since_us: self.now_us,
            command: Some(command.number),
            end: upstream.out.position(),
            noted: None,
            by_name: None,
            turn: 0,
            tried: Tried::default(),
            argc: if session.transaction.is_some() {
                0
            } else {
                u32::try_from(argc).unwrap_or(u32::MAX)
            },
        });
        self.queue_flush_upstream(upstream_key);
    }

    /// Answers a request with an error. Inside MULTI the server must know too, so that EXEC is
    /// aborted as a private server's would be.
    pub(super) fn refuse(&mut self, key: Key<Session>, error: &[u8]) {
        let command = self.current.map(|command| command.number);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.transaction.is_none() {
            session.answer(error, command);
            self.queue_flush_session(key);
            return;
        }
        // ECHO without its argument: an error that marks the transaction.
        self.substitute(
            key,
            b"*1\r\n$4\r\nECHO\r\n",
            ReplyPlan::Replace(error.into()),
        );
    }

    /// Answers a request, or queues the answer when the session is inside MULTI: the server holds
    /// its place in EXEC's reply with an ECHO.
    pub(super) fn answer(&mut self, key: Key<Session>, bytes: &[u8]) {
        let command = self.current.map(|command| command.number);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(transaction) = &mut session.transaction else {
            session.answer(bytes, command);
            // What a job has done is counted by the job, with its time.
            if let Some(command) = command
                && session.gate != Gate::Job
                && !bytes.strip_prefix(b"-").is_some_and(stats::is_rejection)
            {
                session.meter.carried_out(command, 0);
            }
            self.queue_flush_session(key);
            return;
        };
        transaction.plans.push(ReplyPlan::Replace(bytes.into()));
        self.substitute(key, b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", ReplyPlan::Verbatim);
    }

    /// Ends a transaction without carrying it out: the server forgets what is queued.
    pub(super) fn abort(&mut self, key: Key<Session>, error: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.watching = false;
        if session.transaction.take().is_some() {
            session.select(session.database);
        }
        self.substitute(
            key,
            b"*1\r\n$7\r\nDISCARD\r\n",
            ReplyPlan::Replace(error.into()),
        );
    }

    fn substitute(&mut self, key: Key<Session>, request: &[u8], plan: ReplyPlan) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Lane::Own(upstream) = session.lane else {
            return;
        };
        let muted = session.mutes_next();
        session.owe();
        if let Some(lane) = self.upstreams.get_mut(upstream) {
            lane.out.tail().extend_from_slice(request);
            lane.owed.push_back(Owed {
                to: Recipient::Session(key),
                plan,
                frames: 1,
                muted,
                blocking: false,
                patterns: false,
                exec: false,
                since_us: self.now_us,
                command: None,
                end: lane.out.position(),
                noted: None,
                by_name: None,
                turn: 0,
                tried: Tried::default(),
                argc: 0,
            });
            self.queue_flush_upstream(upstream);
        }
    }

    /// PSUBSCRIBE needs each pattern granted literally; the control side is asked where one is not.
    fn names_granted(
        &mut self,
        key: Key<Session>,
        command: &Command,
        request: &Request<'_>,
    ) -> Granted {
        if command.name != "psubscribe" {
            return Granted::Yes;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return Granted::Refused;
        };
        let channels = session.namespace.channels();
        let granted = session.store.granted();
        if request
            .args()
            .skip(1)
            .any(|pattern| pattern.iter().any(|byte| breaks_rule(*byte)))
        {
            drop(granted);
            self.refuse(
                key,
                b"-ERR a pattern with blanks or NUL cannot be subscribed to in a store\r\n",
            );
            return Granted::Refused;
        }
        let missing: Vec<Vec<u8>> = request
            .args()
            .skip(1)
            .map(|pattern| [channels, pattern].concat())
            .filter(|pattern| !granted.contains(pattern))
            .collect();
        drop(granted);
        if missing.is_empty() {
            return Granted::Yes;
        }
        session.gate = Gate::Grant;
        let request = super::Request::Grant {
            store: session.store.clone(),
            patterns: missing,
            worker: self.number,
            ticket: super::Ticket(key),
        };
        // The control side ends only with the process.
        let _ = self.control.send(request);
        Granted::Later
    }

    /// The control side has answered.
    pub(super) fn granted(&mut self, key: Key<Session>, granted: bool) {
        if granted {
            self.open_gate(key, Gate::Grant);
            return;
        }
        let mut reply = Vec::new();
        encode::error(
            "ERR the agent could not prepare the subscription; try again",
            &mut reply,
        );
        self.finish_with(key, &reply);
    }
}

/// Inside MULTI nothing blocks.
fn may_block_now(session: Option<&Session>) -> bool {
    session.is_some_and(|session| session.transaction.is_none())
}

/// Follows what a request does to the connection's state, and says how its reply comes.
fn follow_state(
    session: &mut Session,
    command: &Command,
    plan: ReplyPlan,
    argc: usize,
) -> (ReplyPlan, u32) {
    if !command.accepts(argc) {
        // The server refuses it, and one error comes. Nothing changes, but that a refused EXEC ends its
        // transaction too (`execCommandAbort` in multi.c).
        if command.name == "exec" && session.transaction.take().is_some() {
            session.watching = false;
            session.select(session.database);
        }
        return (plan, 1);
    }
    match command.name {
        "exec" => {
            let Some(transaction) = session.transaction.take() else {
                // The server refuses it, and keys stay watched.
                session.executing.push_back(Executing::default());
                return (plan, 1);
            };
            session.watching = false;
            session.executing.push_back(Executing {
                queued: transaction.shown,
                own: None,
                flushing: transaction.flushing,
                scripts: transaction.scripts,
            });
            session.finishing |= transaction.ends;
            if transaction.database != session.database {
                session.selecting = Some(transaction.database);
                session.gate = Gate::Idle;
            }
            if transaction.tracking.is_some() {
                session.tracking_after = transaction.tracking;
                session.gate = Gate::Idle;
            }
            return (ReplyPlan::Exec(transaction.plans), 1);
        }
        "discard" => {
            if session.transaction.take().is_some() {
                session.watching = false;
                session.select(session.database);
            }
            return (plan, 1);
        }
        "multi" if session.transaction.is_none() => {
            session.transaction = Some(Transaction {
                plans: Vec::new(),
                database: session.database,
                tracking: None,
                needs_memory: false,
                writes: false,
                ends: false,
                shown: Vec::new(),
                flushes: 0,
                flushing: None,
                scripts: Vec::new(),
                queued: Queued::default(),
                unfilled: None,
            });
            return (plan, 1);
        }
        // Both are refused inside MULTI and not queued (CMD_NO_MULTI in server.c).
        "multi" => return (plan, 1),
        "watch" => {
            if session.transaction.is_none() {
                let before = if session.watching { session.watched } else { 0 };
                session.watched =
                    before.saturating_add(u32::try_from(argc - 1).unwrap_or(u32::MAX));
                session.watching = true;
            }
            return (plan, 1);
        }
        _ => {}
    }
    if let ReplyPlan::Script(names) = &plan
        && matches!(command.name, "eval" | "eval_ro")
    {
        session.queue_script(names.app, names.server);
    }
    let declared = std::mem::take(&mut session.declares);
    if let Some(transaction) = &mut session.transaction {
        transaction.plans.push(plan);
        transaction.needs_memory |= memory::needs_memory(command);
        transaction.writes |= pausing::replicates(command, declared);
        return (ReplyPlan::Verbatim, 1);
    }
    let names = u32::try_from(argc - 1).unwrap_or(u32::MAX);
    let frames = match command.name {
        "subscribe" | "psubscribe" | "ssubscribe" => names,
        "unsubscribe" => acks(names, session.subscribed.channels),
        "punsubscribe" => acks(names, session.subscribed.patterns),
        "sunsubscribe" => acks(names, session.subscribed.shard_channels),
        "unwatch" => {
            session.watching = false;
            1
        }
        _ => 1,
    };
    (plan, frames)
}

/// Whether a request ends all subscriptions of a kind.
fn gives_up_all(command: &Command, request: &Request<'_>) -> bool {
    let ends = ["unsubscribe", "punsubscribe", "sunsubscribe"];
    request.argc() == 1 && ends.contains(&command.name)
}

/// Without names, everything is given up: a confirmation each, and one if there was nothing.
fn acks(names: u32, subscribed: u32) -> u32 {
    if names > 0 { names } else { subscribed.max(1) }
}
