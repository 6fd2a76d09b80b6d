//! How stores and sessions come and go.
//!
//! Invariant: a session's store is one that this worker knows and that is not retired. Stores come by
//! [`Message::Store`](super::Message::Store) before the first session that may use them, since both
//! come through the same queue.

use std::collections::{HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::arena::Key;
use super::astray::Turns;
use super::audit;
use super::flushes::Flushed;
use super::lanes::{self, StoreLanes};
use super::outbox::Outbox;
use super::session::{Doing, Gate, INPUT_BYTES_MAX, Lane, Replies, Session, Subscribed};
use super::tracking::Tracking;
use super::{Accepted, Mailbox, Worker};
use crate::audit::Reason;
use crate::environment::{App, Entry, Live, Named, Store};
use crate::metrics::Meter;
use crate::resp::Protocol;
use crate::resp::request::RequestScanner;
use crate::scripts::Declared;

/// Valkey's text (`acceptCommonHandler` in networking.c).
pub(super) const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

/// What the audit log says of connections that are refused.
const BEYOND: &str = "a connection beyond the store's limit";
const FEW_LEFT: &str =
    "a connection beyond the store's share of the agent's descriptors (RLIMIT_NOFILE)";

/// Valkey's text for a user that does not exist, a wrong password, and a store that has gone meanwhile.
pub(super) const WRONG_PASSWORD: &[u8] =
    b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";

impl Worker {
    /// Serves a store from now on.
    pub(super) fn add_store(&mut self, store: Arc<Store>) {
        if store.is_retired() {
            return;
        }
        let number = store.number;
        if self.stores.len() <= number {
            self.stores.resize_with(number + 1, || None);
        }
        let place = &mut self.stores[number];
        if place.is_none() {
            *place = Some(StoreLanes::new(store));
        }
    }

    /// The store is gone: whoever uses it sees its connection close, and nothing that comes late for it
    /// finds anybody.
    pub(super) fn retire_store(&mut self, store: &Store) {
        store.retire();
        for key in self.sessions.keys() {
            let session = self.sessions.get(key);
            if session.is_some_and(|session| session.store.number == store.number) {
                self.close_session(key);
            }
        }
        for key in self.jobs.keys() {
            if self
                .jobs
                .get(key)
                .is_some_and(|job| job.store == store.number)
            {
                self.jobs.remove(key);
            }
        }
        for key in self.upstreams.keys() {
            let upstream = self.upstreams.get(key);
            if upstream.is_some_and(|upstream| upstream.store == Some(store.number)) {
                self.close_upstream(key);
            }
        }
        if let Some(place) = self.stores.get_mut(store.number) {
            *place = None;
        }
    }

    /// What this worker counts for a store with; `None` when the store is not served here.
    fn meter(&mut self, store: &Store) -> Option<Arc<Meter>> {
        let lanes = lanes::of(&mut self.stores, Some(store.number))?;
        Some(lanes.meter().clone())
    }

    pub(super) fn accept(&mut self, accepted: Accepted) {
        let store = accepted.app.store(&accepted.user).cloned();
        let store = match store {
            Some(store) if !store.is_retired() => store,
            _ => return turn_away(accepted.stream, WRONG_PASSWORD),
        };
        let Some(meter) = self.meter(&store) else {
            return turn_away(accepted.stream, WRONG_PASSWORD);
        };
        if accepted.early.len() > INPUT_BYTES_MAX {
            tracing::error!("more was read of a client than a session takes; disconnected");
            return;
        }
        let resumed = accepted.resumed.clone();
        let known = resumed.as_ref().map(|state| state.id);
        let Some(id) = self.enter(&accepted.app, &store, known) else {
            meter.refused.add(1);
            return turn_away(accepted.stream, TOO_MANY_CLIENTS);
        };
        self.environment.directory.descriptors.take();
        meter.bytes_in.add(accepted.early.len() as u64);
        let mut session = session(accepted, store, id, self.number, meter, &self.mailbox);
        session.doing.touched_ms = self.now_ms;
        session.doing.read_bytes = session.input.len() as u64;
        if let Some(state) = resumed {
            session.resume(&state, self.now_ms);
        }
        let key = self.sessions.insert(session);
        self.count.store(self.sessions.len(), Ordering::Relaxed);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        self.environment.directory.enter(session.entry.clone());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(key.index() * 2);
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut session.socket, token, interest) {
            tracing::warn!(%error, "a connection could not be watched");
            self.close_session(key);
            return;
        }
        self.queue_run(key);
    }

    /// One more session of a store, with its CLIENT ID, if there may be one; a session that goes on has one.
    fn enter(&self, app: &App, store: &Store, known: Option<u64>) -> Option<u64> {
        let descriptors = &self.environment.directory.descriptors;
        if !descriptors.may_take(store.sessions()) {
            audit::note(app, store, Reason::Connections, FEW_LEFT);
            return None;
        }
        let id = match known {
            Some(id) => store.enter_again(id).then_some(id),
            None => store.enter(),
        };
        if id.is_none() {
            audit::note(app, store, Reason::Connections, BEYOND);
        }
        id
    }

    /// The session is about another of its app's stores from now on.
    ///
    /// # Errors
    /// Valkey's words when that store is gone or takes no more connections.
    pub(super) fn move_to(
        &mut self,
        key: Key<Session>,
        store: &Arc<Store>,
    ) -> Result<(), &'static [u8]> {
        let meter = match self.meter(store) {
            Some(meter) if !store.is_retired() => meter,
            _ => return Err(WRONG_PASSWORD),
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        if !Arc::ptr_eq(&session.store, store) {
            let Some(id) = store.enter() else {
                meter.refused.add(1);
                audit::note(&session.app, store, Reason::Connections, BEYOND);
                return Err(TOO_MANY_CLIENTS);
            };
            session.meter = meter;
            session.store.leave();
            let held_bytes = std::mem::take(&mut session.noted_bytes);
            session.store.buffered.sub(held_bytes);
            session.store = store.clone();
            session.place = store.places.take(self.number);
            let entry = Arc::new(Entry {
                id,
                store: store.number,
                worker: self.number,
                peer: session.entry.peer,
                asked: session.entry.asked,
                since: session.entry.since,
                waits_for: Mutex::default(),
                named: Mutex::new(session.entry.named().clone()),
                live: Live::default(),
                mailbox: self.mailbox.clone(),
            });
            if session.monitoring {
                session.store.monitors.leave(&self.mailbox);
                store.monitors.enter(&self.mailbox);
            }
            self.environment.directory.leave(&session.entry);
            self.environment.directory.enter(entry.clone());
            session.entry = entry;
        }
        session.select(session.database);
        Ok(())
    }

    /// Ends a session and whatever it had on the server.
    pub(super) fn close_session(&mut self, key: Key<Session>) {
        drop(self.end_session(key));
    }

    /// The same, with the client's connection still open in what is left of it.
    pub(super) fn end_session(&mut self, key: Key<Session>) -> Option<Session> {
        self.end_monitoring(key);
        let mut session = self.sessions.remove(key)?;
        // The socket is closed on drop either way; an error says it is no longer watched.
        let _ = self.poll.registry().deregister(&mut session.socket);
        self.environment.directory.leave(&session.entry);
        self.pin_ended(&session);
        session.forget_patterns();
        session.store.leave();
        session.store.buffered.sub(session.noted_bytes);
        self.environment.directory.descriptors.give_back();
        self.count.store(self.sessions.len(), Ordering::Relaxed);
        match session.lane {
            Lane::Own(upstream) => self.close_upstream(upstream),
            Lane::Shared(upstream) => self.unstall(upstream, key),
            Lane::None => {}
        }
        Some(session)
    }
}

/// Says why and closes. What the client has sent already is taken off the socket, since closing a
/// socket with bytes in it resets the connection, and the client might not see the answer.
fn turn_away(stream: std::net::TcpStream, reply: &[u8]) {
    let mut stream = TcpStream::from_std(stream);
    let mut sent = [0; 4096];
    // A client that cannot be told sees the end all the same.
    let _ = stream.read(&mut sent);
    let _ = stream.write(reply);
    let _ = stream.shutdown(Shutdown::Write);
}

fn session(
    accepted: Accepted,
    store: Arc<Store>,
    id: u64,
    worker: usize,
    meter: Arc<Meter>,
    mailbox: &Arc<Mailbox>,
) -> Session {
    let version = match accepted.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let entry = Arc::new(Entry {
        id,
        store: store.number,
        worker,
        peer: accepted.peer,
        asked: accepted.asked,
        since: accepted.since(),
        waits_for: Mutex::default(),
        named: Mutex::new(match &accepted.resumed {
            Some(state) => Named::from(state.named.clone()),
            None => Named {
                protocol: version,
                user: accepted.user.clone(),
                ..Named::default()
            },
        }),
        live: Live::default(),
        mailbox: mailbox.clone(),
    });
    let chosen = accepted.place.filter(|place| place.is_of(&store.places));
    Session {
        place: chosen.unwrap_or_else(|| store.places.take(worker)),
        socket: TcpStream::from_std(accepted.stream),
        namespace: store.prefix.namespace(0),
        app: accepted.app,
        store,
        cgroup: accepted.cgroup,
        entry,
        meter,
        protocol: accepted.protocol,
        database: 0,
        input: accepted.early,
        input_bytes_max: INPUT_BYTES_MAX,
        nothing_behind: false,
        scanner: RequestScanner::default(),
        out: Outbox::default(),
        in_flight: 0,
        owed: 0,
        answered: VecDeque::new(),
        receiving: false,
        lane: Lane::None,
        gate: Gate::Open,
        stream: None,
        transaction: None,
        selecting: None,
        sought: None,
        watching: false,
        subscribed: Subscribed::default(),
        patterns: HashSet::new(),
        event_channels: HashSet::new(),
        events: Vec::new(),
        heard: false,
        switched: false,
        astray: Turns::default(),
        declares: Declared::default(),
        pattern_changes: VecDeque::new(),
        tracking: Tracking::default(),
        flushed: Flushed::default(),
        tracking_after: None,
        redirect_found: None,
        redirected_to: false,
        redirect_askers: Vec::new(),
        no_touch: false,
        watched: 0,
        monitoring: false,
        lines_bytes: 0,
        errand: None,
        executing: VecDeque::new(),
        doing: Doing::default(),
        user: accepted.user,
        replies: Replies::On,
        heavy: false,
        reply_bytes: 0,
        light_replies: 0,
        overdue: false,
        accelerated: accepted.accelerated,
        readable: true,
        hung_up: false,
        finishing: false,
        flush_queued: false,
        run_queued: false,
        admitted: false,
        noted_bytes: 0,
    }
}
