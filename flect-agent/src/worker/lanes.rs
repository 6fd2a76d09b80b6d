//! Which upstream connection a request takes, and the life of those connections.
//!
//! A store's sessions share one connection per protocol version; a session that needs state on the
//! server takes one of its own from a small pool and gives it back clean. A session changes
//! connections only while it is owed nothing, so its requests take effect in their order.

pub(super) mod connecting;
mod ending;
pub(super) mod reading;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use super::arena::Key;
use super::astray::Astray;
use super::events::Listener;
use super::outbox::Flushed;
use super::pace::Reserved;
use super::session::{CLIENT_OUT_BYTES_HIGH, Gate, HEAVY_REPLY_BYTES, Lane, Session};
use super::share::Share;
use super::unblock::Wanted;
use super::upstream::{Role, State, Upstream, Window};
use crate::environment::Store;
use crate::metrics::Meter;
use crate::resp::Protocol;

/// Clean connections that a store keeps per protocol: what a burst of transactions or blocking
/// pops needs, small enough not to use up the server's clients.
const POOLED_MAX: usize = 16;

/// A pooled connection that nobody took for so long is closed.
const POOLED_FOR: Duration = Duration::from_secs(30);

/// A store's upstream connections in this worker.
pub struct StoreLanes {
    pub store: Arc<Store>,
    shared: [Option<Key<Upstream>>; 2],
    /// What was known of replies on the latest shared connection that a slow session has taken.
    window: Window,
    pooled: [Vec<Key<Upstream>>; 2],
    /// To replicas.
    readers: [Option<Key<Upstream>>; 2],
    /// Since when no session of the store is here, as far as it was looked at.
    unused_since: Option<Instant>,
    /// Store-wide commands under way.
    pub jobs: usize,
    /// Sessions whose store-wide command waits for its turn.
    pub turns: VecDeque<Key<Session>>,
    sorter: [Option<Key<Upstream>>; 2],
    /// Sessions that wait for the store's share of commands.
    pub paced: VecDeque<Key<Session>>,
    pub reserved: Option<Reserved>,
    pub share: Share,
    /// This turn's lines for those that monitor.
    pub lines: Vec<u8>,
    meter: Option<Arc<Meter>>,
    pub listener: Listener,
    /// What is to be sent again, since it went to a node that has not carried it out.
    pub astray: VecDeque<Astray>,
}

impl StoreLanes {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            shared: [None, None],
            window: Window::new(),
            pooled: [Vec::new(), Vec::new()],
            readers: [None, None],
            unused_since: None,
            jobs: 0,
            turns: VecDeque::new(),
            sorter: [None, None],
            paced: VecDeque::new(),
            reserved: None,
            share: Share::default(),
            lines: Vec::new(),
            meter: None,
            listener: Listener::default(),
            astray: VecDeque::new(),
        }
    }

    /// What this worker counts of the store with; made for its first session, since most workers see
    /// few of an environment's stores.
    pub fn meter(&mut self) -> &Arc<Meter> {
        self.meter.get_or_insert_with(|| self.store.new_meter())
    }

    /// New sessions get another shared connection from now on, of which as much is expected as of this one.
    pub fn retire(&mut self, protocol: Protocol, is_reader: bool, window: Window) {
        let lanes = if is_reader {
            &mut self.readers
        } else {
            &mut self.shared
        };
        lanes[place(protocol)] = None;
        self.window = window;
    }

    /// Whether new requests may take a connection of this role; always where sessions share none.
    fn has(&self, key: Key<Upstream>, role: Role) -> bool {
        role != Role::Shared || self.shared.contains(&Some(key))
    }

    /// The same of one connection, whatever it is for.
    pub fn leave(&mut self, key: Key<Upstream>) {
        for shared in self.shared.iter_mut().chain(&mut self.sorter) {
            if *shared == Some(key) {
                *shared = None;
            }
        }
        for pool in &mut self.pooled {
            pool.retain(|pooled| *pooled != key);
        }
    }
}

/// The lanes of a connection's store, if both have one and it is not gone.
pub fn of(stores: &mut [Option<StoreLanes>], number: Option<usize>) -> Option<&mut StoreLanes> {
    stores.get_mut(number?)?.as_mut()
}

fn place(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Resp2 => 0,
        Protocol::Resp3 => 1,
    }
}

impl Worker {
    /// The connection for a session's next request, or `None` when it has to wait (its gate is
    /// closed) or has ended.
    pub(super) fn lane(&mut self, key: Key<Session>, own: bool) -> Option<Key<Upstream>> {
        self.sessions.get_mut(key)?.doing.wrote_ms = self.now_ms;
        self.lane_of_any(key, own)
    }

    /// The same for a request that may be one that only reads.
    fn lane_of_any(&mut self, key: Key<Session>, own: bool) -> Option<Key<Upstream>> {
        let hesitates = self.now < self.hesitates_until;
        let session = self.sessions.get_mut(key)?;
        if hesitates && !session.is_idle() && session.transaction.is_none() {
            // A slot is on its way: of two requests the first might have to be sent again.
            session.gate = Gate::Idle;
            return None;
        }
        let upstream = match session.lane {
            Lane::Own(upstream) => upstream,
            Lane::Shared(upstream) if !session.is_idle() => {
                let lane = self.upstreams.get(upstream);
                let is_left = lane.is_none_or(|lane| lane.retired || lane.is_reader);
                if own || is_left {
                    session.gate = Gate::Idle;
                    return None;
                }
                upstream
            }
            Lane::Shared(_) | Lane::None => self.new_lane(key, own)?,
        };
        self.with_room(key, upstream)
    }

    /// The connection, unless so much waits on it that the session has to as well.
    fn with_room(&mut self, key: Key<Session>, upstream: Key<Upstream>) -> Option<Key<Upstream>> {
        let room = self.upstreams.get(upstream).is_some_and(Upstream::has_room);
        if room {
            return Some(upstream);
        }
        let session = self.sessions.get_mut(key)?;
        session.gate = Gate::Upstream;
        self.upstreams.get_mut(upstream)?.waiting.push(key);
        None
    }

    fn new_lane(&mut self, key: Key<Session>, own: bool) -> Option<Key<Upstream>> {
        let session = self.sessions.get(key)?;
        if own && !session.is_idle() {
            self.sessions.get_mut(key)?.gate = Gate::Idle;
            return None;
        }
        let (store, protocol) = (session.store.number, session.protocol);
        if own && !self.reserve_own(store) {
            self.refuse_own(key);
            return None;
        }
        let lane = if own {
            self.own_lane(store, protocol, key)
        } else {
            self.shared_lane(store, protocol)
        };
        let Some(upstream) = lane else {
            self.close_session(key);
            return None;
        };
        self.sessions.get_mut(key)?.lane = if own {
            Lane::Own(upstream)
        } else {
            Lane::Shared(upstream)
        };
        Some(upstream)
    }

    pub(super) fn shared_lane(
        &mut self,
        store: usize,
        protocol: Protocol,
    ) -> Option<Key<Upstream>> {
        let lanes = of(&mut self.stores, Some(store))?;
        if let Some(key) = lanes.shared[place(protocol)]
            && self.upstreams.get(key).is_some()
        {
            return Some(key);
        }
        let (credentials, window) = (lanes.store.credentials.clone(), lanes.window);
        let key = self.connect(&credentials, Role::Shared, protocol, store)?;
        self.upstreams.get_mut(key)?.window = window;
        of(&mut self.stores, Some(store))?.shared[place(protocol)] = Some(key);
        Some(key)
    }

    /// The connection for SORT with BY or GET.
    pub(super) fn sorter_lane(
        &mut self,
        store: usize,
        protocol: Protocol,
    ) -> Option<Key<Upstream>> {
        let lanes = of(&mut self.stores, Some(store))?;
        if let Some(key) = lanes.sorter[place(protocol)]
            && self.upstreams.get(key).is_some()
        {
            return Some(key);
        }
        let credentials = lanes.store.sorter.clone();
        let key = self.connect(&credentials, Role::Sorter, protocol, store)?;
        of(&mut self.stores, Some(store))?.sorter[place(protocol)] = Some(key);
        Some(key)
    }

    pub(super) fn own_lane(
        &mut self,
        store: usize,
        protocol: Protocol,
        session: Key<Session>,
    ) -> Option<Key<Upstream>> {
        let lanes = of(&mut self.stores, Some(store))?;
        while let Some(key) = lanes.pooled[place(protocol)].pop() {
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.role = Role::Own(session);
                upstream.count_for(&lanes.store);
                return Some(key);
            }
        }
        let store_of_lane = lanes.store.clone();
        let credentials = &store_of_lane.credentials;
        let key = self.connect(credentials, Role::Own(session), protocol, store);
        let Some(key) = key else {
            store_of_lane.upstreams.sub(1);
            return None;
        };
        let is_heavy = self
            .sessions
            .get(session)
            .is_some_and(|session| session.heavy);
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.count_for(&store_of_lane);
            if is_heavy {
                upstream.window = Window::expecting(HEAVY_REPLY_BYTES);
            }
        }
        Some(key)
    }

    pub(super) fn flush_upstream(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        // Before the connection is open, only its handshake has something to send.
        let sent = match upstream.state {
            State::Open => upstream.out.flush(&mut upstream.socket).map(drop),
            State::Connecting | State::Greeting | State::Unknown => Ok(()),
        };
        match sent.and_then(|()| upstream.socket.flush()) {
            Ok(()) => self.release(key),
            Err(error) => {
                tracing::debug!(%error, "an upstream connection broke while writing");
                self.fail_upstream(key);
            }
        }
    }

    pub(super) fn flush_session(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let waiting_bytes = session.out.len();
        let result = session.out.flush(&mut session.socket);
        let taken_bytes = waiting_bytes - session.out.len();
        session.meter.bytes_out.add(taken_bytes as u64);
        session.doing.written_bytes += taken_bytes as u64;
        if taken_bytes > 0 {
            session.doing.touched_ms = self.now_ms;
        }
        match result {
            Ok(flushed) => {
                if flushed == Flushed::All && session.finishing && session.is_served() {
                    self.close_session(key);
                    return;
                }
                if session.out.len() < CLIENT_OUT_BYTES_HIGH / 2 {
                    session.overdue = false;
                    let lane = session.lane;
                    self.open_gate(key, Gate::Client);
                    if let Lane::Own(upstream) | Lane::Shared(upstream) = lane {
                        self.unstall(upstream, key);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a client connection broke while writing");
                self.close_session(key);
            }
        }
    }

    /// Lets those go on that waited for room in a connection.
    pub(super) fn release(&mut self, key: Key<Upstream>) {
        let released = self.upstreams.get_mut(key).map(Upstream::released);
        for session in released.unwrap_or_default() {
            self.open_gate(session, Gate::Upstream);
        }
    }

    pub(super) fn open_gate(&mut self, key: Key<Session>, gate: Gate) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.gate == gate
        {
            session.gate = Gate::Open;
            self.queue_run(key);
        }
    }

    /// The session is owed nothing any more: whatever waited for that goes on.
    pub(super) fn session_idle(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(database) = session.selecting.take() {
            // Set when EXEC was sent; a refused EXEC has put the old one back.
            session.database = database;
            session.entry.named().database = database;
        }
        if let Some(tracking) = session.tracking_after.take() {
            session.track(tracking);
        }
        match session.lane {
            Lane::Own(upstream) => {
                if !session.needs_own() && session.stream.is_none() {
                    session.lane = Lane::None;
                    self.give_back(upstream);
                }
            }
            Lane::Shared(_) => session.lane = Lane::None,
            Lane::None => {}
        }
        self.settle_pin(key);
        self.settle_events(key);
        self.open_gate(key, Gate::Idle);
        if let Some(session) = self.sessions.get(key)
            && session.finishing
        {
            self.queue_flush_session(key);
        }
    }

    /// Takes a clean connection back into the pool.
    fn give_back(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        upstream.stalled_by = None;
        let pool = of(&mut self.stores, upstream.store)
            .map(|lanes| &mut lanes.pooled[place(upstream.protocol)]);
        match pool {
            Some(pool)
                if pool.len() < POOLED_MAX
                    && upstream.owed.is_empty()
                    && !upstream.tainted
                    && upstream.unblocking == 0 =>
            {
                upstream.role = Role::Pooled;
                upstream.uncount();
                upstream.early.drain(..).for_each(Wanted::give_up);
                upstream.retired = false;
                upstream.idle_since = Instant::now();
                pool.push(key);
                self.readable.push(key);
            }
            _ => self.close_upstream(key),
        }
    }

    pub(super) fn close_idle_lanes(&mut self, now: Instant) {
        let mut idle = Vec::new();
        for lanes in self.stores.iter_mut().flatten() {
            for pool in &mut lanes.pooled {
                pool.retain(|key| match self.upstreams.get(*key) {
                    Some(upstream) if now.duration_since(upstream.idle_since) < POOLED_FOR => true,
                    Some(_) => {
                        idle.push(*key);
                        false
                    }
                    None => false,
                });
            }
        }
        for key in idle {
            self.close_upstream(key);
        }
        self.close_unused_lanes(now);
    }

    /// Closes what sessions of a store shared that has had none here for long: stores and workers are many, the
    /// server's clients few.
    fn close_unused_lanes(&mut self, now: Instant) {
        for lanes in self.stores.iter_mut().flatten() {
            lanes.unused_since.get_or_insert(now);
        }
        for session in self.sessions.iter() {
            if let Some(lanes) = of(&mut self.stores, Some(session.store.number)) {
                lanes.unused_since = None;
            }
        }
        let mut unused = Vec::new();
        for lanes in self.stores.iter_mut().flatten() {
            let is_due = |since: Instant| now.duration_since(since) >= POOLED_FOR;
            if !lanes.unused_since.is_some_and(is_due) || lanes.jobs > 0 {
                continue;
            }
            let places = lanes.shared.iter_mut();
            let places = places.chain(&mut lanes.readers).chain(&mut lanes.sorter);
            for place in places {
                let rests = |upstream: &Upstream| {
                    upstream.state == State::Open
                        && upstream.owed.is_empty()
                        && upstream.waiting.is_empty()
                        && upstream.unblocking == 0
                };
                unused.extend(place.take_if(|key| self.upstreams.get(*key).is_some_and(rests)));
            }
        }
        for key in unused {
            self.close_upstream(key);
        }
    }
}
