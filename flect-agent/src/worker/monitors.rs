//! MONITOR: sessions that are told every command of their store, as the apps sent it to this node.
//!
//! Lines are gathered per store and turn, and go to the monitoring sessions of this worker and, as one
//! message, to each other worker that has some. A command is told when it is taken; what was queued since
//! MULTI, when EXEC has carried it out. What scripts do inside the server is not seen here.
//!
//! Invariant: a line reaches only sessions of the store that it is about. A session that does not read its
//! lines is ended, as Valkey ends it at an output limit: they never pile up.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::arena::Key;
use super::forward::Outcome;
use super::lanes;
use super::session::{Answer, Replies, Session};
use super::{Between, Message, Worker};
use crate::clients::{command_line, quoted};
use crate::commands::{Command, Flags, Policy};
use crate::environment::{Entry, Store};
use crate::resp::Protocol;
use crate::resp::request::{Head, Request};
use crate::scripts::Declared;

/// Lines that may wait for one session: some seconds of a busy store.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Lines that may wait for all monitoring sessions of a worker, and on the way to another worker.
const ALL_WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Lines of one transaction that are kept until its EXEC; what comes behind is not shown.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;

const NOT_QUEUED: &[u8] = b"-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n";
const NO_KEYSPACE: &[u8] = b"-ERR Replica can't interact with the keyspace\r\n";
const REDACTED: &[u8] = b"(redacted)";

/// What is known of a request before it is carried out, to tell of it afterwards.
pub(super) struct Tap {
    store: Arc<Store>,
    entry: Arc<Entry>,
    /// It was sent between MULTI and EXEC.
    queued: bool,
    /// Its client may only subscribe.
    subscriber: bool,
}

impl Worker {
    /// MONITOR.
    pub(super) fn monitor(&mut self, key: Key<Session>) -> Outcome {
        let Some(session) = self.sessions.get_mut(key) else {
            return Outcome::Taken;
        };
        if session.transaction.is_some() {
            self.answer(key, NOT_QUEUED);
        } else if !session.monitoring {
            session.monitoring = true;
            session.store.monitors.enter(&self.mailbox);
            self.monitors.push(key);
            self.answer(key, b"+OK\r\n");
        }
        Outcome::Taken
    }

    /// The session monitors no more.
    pub(super) fn end_monitoring(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.monitoring
        {
            session.monitoring = false;
            session.store.monitors.leave(&self.mailbox);
            self.monitors.retain(|other| *other != key);
        }
    }

    /// What a session that monitors may not send: Valkey takes it for a replica.
    pub(super) fn monitors_may_not(&self, key: Key<Session>, command: &Command) -> bool {
        let Some(session) = self.sessions.get(key) else {
            return false;
        };
        let transaction = session.transaction.as_ref();
        let touches = command.flags.has(Flags::READONLY)
            || super::pausing::replicates(command, Declared::default());
        session.monitoring
            && (touches || command.name == "exec" && transaction.is_some_and(|t| t.writes))
    }

    pub(super) fn refuse_monitor(&mut self, key: Key<Session>) {
        self.current = None;
        self.refuse(key, NO_KEYSPACE);
    }

    /// Before a request is carried out, if its store is monitored.
    #[cold]
    pub(super) fn tap(&self, key: Key<Session>) -> Option<Tap> {
        let session = self.sessions.get(key)?;
        Some(Tap {
            store: session.store.clone(),
            entry: session.entry.clone(),
            queued: session.transaction.is_some(),
            subscriber: session.subscribed.any() && session.protocol == Protocol::Resp2,
        })
    }

    /// After a request was taken: tells of it.
    #[cold]
    pub(super) fn tell_monitors(&mut self, tap: &Tap, key: Key<Session>, request: &Request<'_>) {
        let Some(command) = self.current.filter(|command| {
            // An EXEC is told even if it is refused, so that the end of its MULTI shows
            // (`execCommandAbort` in multi.c).
            let taken = command.name == "exec" || command.accepts(request.argc());
            is_shown(command) && taken && !tap.refuses(command)
        }) else {
            return;
        };
        let mut arguments = Vec::new();
        let first_secret = first_secret(command, request);
        for (index, argument) in request.args().enumerate() {
            if index > 0 {
                arguments.push(b' ');
            }
            let secret = first_secret.is_some_and(|(first, count)| {
                index >= first && index < first.saturating_add(count)
            });
            quoted(if secret { REDACTED } else { argument }, &mut arguments);
        }
        let accepted = command.accepts(request.argc());
        self.show(tap, key, command, arguments, accepted);
    }

    /// A request too long to be looked at as a whole is on its way: what of it has come is shown, and how
    /// much there is of the rest, in the words of SLOWLOG.
    #[cold]
    pub(super) fn tell_beginning(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        head: &[u8],
    ) {
        if let Some(tap) = self.tap(key)
            && is_shown(command)
        {
            self.show(&tap, key, command, head.to_vec(), true);
        }
    }

    fn show(
        &mut self,
        tap: &Tap,
        key: Key<Session>,
        command: &'static Command,
        arguments: Vec<u8>,
        accepted: bool,
    ) {
        let session = self.sessions.get_mut(key);
        let mut database = session.as_ref().map_or(0, |session| session.database);
        if let Some(session) = session {
            if let Some(transaction) = &mut session.transaction {
                if tap.queued {
                    let bytes: usize = transaction.shown.iter().map(|(_, line)| line.len()).sum();
                    if bytes + arguments.len() <= QUEUED_BYTES_MAX {
                        transaction.shown.push((transaction.database, arguments));
                    }
                    return;
                }
            } else if command.name == "exec" && accepted {
                // The server's reply tells whether it was carried out.
                if let Some(last) = session.executing.back_mut() {
                    last.own = Some(arguments);
                    return;
                }
            }
            database = session.database;
        }
        let (store, peer) = (tap.store.number, tap.entry.peer);
        self.note_line(store, database, peer, &arguments);
    }

    fn note_line(
        &mut self,
        store: usize,
        database: u32,
        peer: std::net::SocketAddr,
        arguments: &[u8],
    ) {
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return;
        };
        if lanes.lines.is_empty() {
            self.told.push(store);
        }
        // A clock before 1970 shows as 0.
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        command_line(time, database, peer, arguments, &mut lanes.lines);
    }

    /// EXEC has been answered: shows what it has carried out, and itself.
    pub(super) fn executed(&mut self, key: Key<Session>, refused: bool) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(mut executing) = session.executing.pop_front() else {
            return;
        };
        if let Some(flushing) = executing.flushing.take() {
            self.flushes_over(flushing, !refused);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !refused {
            for (app, server, walks) in executing.scripts {
                session.store.scripts.learn(app, server, walks);
            }
        }
        let (store, peer) = (session.store.number, session.entry.peer);
        let database = session.database;
        if !session.store.monitors.any() {
            return;
        }
        let queued = executing.queued.into_iter().filter(|_| !refused);
        let mut at = database;
        for (database, arguments) in queued {
            at = database;
            self.note_line(store, database, peer, &arguments);
        }
        if let Some(own) = executing.own {
            self.note_line(store, at, peer, &own);
        }
    }

    /// Hands this turn's lines to whoever monitors.
    pub(super) fn deliver_lines(&mut self) {
        for number in std::mem::take(&mut self.told) {
            let Some(lanes) = lanes::of(&mut self.stores, Some(number)) else {
                continue;
            };
            let lines: Arc<[u8]> = std::mem::take(&mut lanes.lines).into();
            let store = lanes.store.clone();
            for mailbox in store.monitors.workers() {
                if Arc::ptr_eq(&mailbox, &self.mailbox) {
                    continue;
                }
                let fits = store.monitors.send(lines.len(), ALL_WAITING_BYTES_MAX);
                // A worker that is so far behind ends its monitoring sessions.
                let lines = fits.then(|| lines.clone());
                let store = store.clone();
                mailbox.send(Message::Clients(Between::Lines { store, lines }));
            }
            self.show_lines(number, Some(&lines));
        }
    }

    /// Lines have come from another worker; `None` when they were too many.
    pub(super) fn take_lines(&mut self, store: &Arc<Store>, lines: Option<&[u8]>) {
        store.monitors.received(lines.map_or(0, <[u8]>::len));
        self.show_lines(store.number, lines);
    }

    fn show_lines(&mut self, store: usize, lines: Option<&[u8]>) {
        let mut all_waiting_bytes = 0;
        for key in self.monitors.clone() {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let waiting_bytes = session.out.len() + session.lines_bytes;
            all_waiting_bytes += waiting_bytes;
            if session.store.number != store || session.replies == Replies::Off || session.finishing
            {
                continue;
            }
            let fits =
                waiting_bytes <= WAITING_BYTES_MAX && all_waiting_bytes <= ALL_WAITING_BYTES_MAX;
            match lines {
                Some(lines) if fits => {
                    session.take_lines(lines);
                    self.queue_flush_session(key);
                }
                _ => {
                    self.end_at_limit(key, "a client that monitors does not read what it is told");
                }
            }
        }
    }
}

impl Session {
    /// Lines of MONITOR come behind the replies that are owed already, as from a server that does one
    /// thing after the other.
    fn take_lines(&mut self, lines: &[u8]) {
        if self.is_idle() {
            self.lines_bytes = 0;
            self.out.tail().extend_from_slice(lines);
            return;
        }
        self.lines_bytes += lines.len();
        match self.answered.back_mut() {
            Some(last) if last.then_owed == 0 => last.bytes.extend_from_slice(lines),
            _ => {
                self.in_flight += 1;
                self.answered.push_back(Answer {
                    bytes: lines.to_vec(),
                    then_owed: 0,
                });
            }
        }
    }
}

impl Tap {
    /// What the server refuses before it is a command that could be shown.
    fn refuses(&self, command: &Command) -> bool {
        let listens = command.flags.has(Flags::PUBSUB) && command.name.ends_with("subscribe");
        let subscriber =
            self.subscriber && !listens && !matches!(command.name, "ping" | "quit" | "reset");
        let queued = self.queued && matches!(command.name, "multi" | "watch");
        subscriber || queued
    }
}

/// Valkey shows no administration, and none of what it is told not to show (`call` in server.c).
fn is_shown(command: &Command) -> bool {
    // Scripts are not shown where all commands are, but where they begin.
    let script = matches!(
        command.name,
        "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro"
    );
    !command.flags.has(Flags::ADMIN)
        && (script || !command.flags.has(Flags::SKIP_MONITOR))
        && !matches!(command.policy, Policy::Operator(_))
}

/// The arguments that are not shown: from which on, and how many (`redactClientCommandArgument`).
fn first_secret(command: &Command, request: &Request<'_>) -> Option<(usize, usize)> {
    match command.name {
        "auth" => Some((1, usize::MAX)),
        "hello" => {
            let is_auth = |at: &usize| request.arg(*at).eq_ignore_ascii_case(b"auth");
            let at = (2..request.argc()).find(is_auth)?;
            Some((at + 1, 2))
        }
        _ => None,
    }
}

/// The beginning of a long request, as it is shown.
pub(super) fn beginning(head: &Head<'_>) -> Vec<u8> {
    let mut shown = Vec::new();
    for index in 0..head.args_complete {
        quoted(head.arg(index).unwrap_or_default(), &mut shown);
        shown.push(b' ');
    }
    let mut rest = head.argc - head.args_complete;
    if let Some(bytes) = head.next_bytes {
        quoted(format!("... ({bytes} more bytes)").as_bytes(), &mut shown);
        shown.push(b' ');
        rest -= 1;
    }
    if rest > 0 {
        quoted(
            format!("... ({rest} more arguments)").as_bytes(),
            &mut shown,
        );
    }
    while shown.last() == Some(&b' ') {
        shown.pop();
    }
    shown
}
