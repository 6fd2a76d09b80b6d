//! How upstream connections begin, and what a worker does while Valkey cannot be reached.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use super::super::admission::TOO_MANY_CLIENTS;
use super::super::arena::Key;
use super::super::lanes;
use super::super::upstream::{Role, State, Upstream};
use super::super::{Request, Worker};
use crate::audit::{self, Reason, Subject};
use crate::environment::{Credentials, UpstreamAddress};
use crate::reach::Backoff;
use crate::resp::Protocol;

/// How long a server may take to take a connection. The kernel itself would try for two minutes, while the
/// sessions that wait learn nothing; clients that connect by themselves wait for 5 to 10 seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a worker begins no connection to a server after one could not be made: long enough that an app that
/// tries again all the time costs next to nothing, and shorter than clients' own pauses.
const UNREACHABLE_FIRST: Duration = Duration::from_millis(10);
const UNREACHABLE_MAX: Duration = Duration::from_millis(250);

/// One look for the primary serves all connections that were refused meanwhile.
const DOUBT_EVERY: Duration = Duration::from_millis(100);

/// How long after its beginning a connection may have to wait for its user. The operator's connection comes again
/// within a second of a server's start, and makes users in less; where it cannot, apps are to know in the end.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// How Valkey refuses a user that it does not know (`addAuthErrReply` in acl.c).
const USER_UNKNOWN: &[u8] = b"-WRONGPASS ";

/// How errors begin that only a server sends that is no primary, or has just ceased to be one. Scripts may
/// say the same, which costs a look.
const NO_PRIMARY: [&[u8]; 3] = [b"READONLY ", b"MASTERDOWN ", b"UNBLOCKED "];

/// Whether an error shows that the server is no primary.
pub(in crate::worker) fn tells_of_no_primary(error: &[u8]) -> bool {
    NO_PRIMARY.iter().any(|begin| error.starts_with(begin))
}

/// How a worker gets to one server: the only one, or a shard of a cluster.
pub(in crate::worker) struct Way {
    addresses: Arc<Vec<UpstreamAddress>>,
    /// How many connections did not come about, which says the address to try next.
    failures: usize,
    /// How long no further connection is tried.
    unreachable: Backoff,
}

impl Way {
    fn new(addresses: Arc<Vec<UpstreamAddress>>) -> Self {
        Self {
            addresses,
            failures: 0,
            unreachable: Backoff::new(UNREACHABLE_FIRST, UNREACHABLE_MAX),
        }
    }

    /// The address to try now, if any is.
    fn address(&self, now: Instant) -> Option<UpstreamAddress> {
        if self.unreachable.is_early(now) {
            return None;
        }
        let place = self.failures.checked_rem(self.addresses.len())?;
        self.addresses.get(place).cloned()
    }
}

impl Worker {
    /// The way to the server that has a store.
    fn way_to(&mut self, store: usize) -> Option<&mut Way> {
        let lanes = super::of(&mut self.stores, Some(store))?;
        let addresses = self.environment.whereabouts.of(lanes.store.slot);
        let known = self.ways.iter().position(|way| way.addresses == addresses);
        let place = known.unwrap_or_else(|| {
            self.ways.push(Way::new(addresses));
            self.ways.len() - 1
        });
        self.ways.get_mut(place)
    }

    /// A server takes connections.
    pub(in crate::worker) fn reached(&mut self, address: &UpstreamAddress) {
        let ways = self.ways.iter_mut();
        for way in ways.filter(|way| way.addresses.contains(address)) {
            way.unreachable.note(Instant::now(), true);
        }
    }

    /// Begins a connection to the server that has a store. `None` when no address can even be tried.
    pub(in crate::worker) fn connect(
        &mut self,
        credentials: &Credentials,
        role: Role,
        protocol: Protocol,
        store: usize,
    ) -> Option<Key<Upstream>> {
        let address = self.way_to(store)?.address(Instant::now())?;
        self.connect_at(address, credentials, role, protocol, store)
    }

    /// The same to an address that is known to be one of the environment's.
    pub(in crate::worker) fn connect_at(
        &mut self,
        address: UpstreamAddress,
        credentials: &Credentials,
        role: Role,
        protocol: Protocol,
        store: usize,
    ) -> Option<Key<Upstream>> {
        // These serve all stores of a server.
        let store = (!matches!(role, Role::Housekeeper | Role::Librarian)).then_some(store);
        let made = Upstream::connect(address.clone(), credentials, role, protocol, store);
        let of_cluster = self.environment.whereabouts.topology().is_some();
        let slot = lanes::of(&mut self.stores, store).map(|lanes| lanes.store.slot);
        let upstream = match made {
            Ok(upstream) => Upstream {
                of_cluster,
                slot,
                ..upstream
            },
            Err(error) => {
                self.not_reached(&address, &error);
                return None;
            }
        };
        self.watch_upstream(upstream)
    }

    /// Takes a connection that has begun among those that are looked after.
    pub(super) fn watch_upstream(&mut self, upstream: Upstream) -> Option<Key<Upstream>> {
        let key = self.upstreams.insert(upstream);
        self.count_upstreams();
        self.environment.directory.descriptors.take();
        let upstream = self.upstreams.get_mut(key)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(key.index() * 2 + 1);
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut upstream.socket, token, interest)
        {
            tracing::warn!(%error, "an upstream connection could not be watched");
            self.close_upstream(key);
            return None;
        }
        Some(key)
    }

    /// A connection has not come about. Others are not tried for a while: their sessions learn at once what they
    /// would learn of a server that is away, and a server that comes back is not overrun.
    pub(in crate::worker) fn not_reached(&mut self, address: &UpstreamAddress, error: &io::Error) {
        tracing::warn!(%address, %error, "Valkey cannot be reached");
        let ways = self.ways.iter_mut();
        for way in ways.filter(|way| way.addresses.contains(address)) {
            way.failures += 1;
            way.unreachable.note(Instant::now(), false);
        }
        self.doubt();
    }

    /// A connection has broken before it was open.
    pub(super) fn lost_before_open(&mut self, key: Key<Upstream>, error: &io::Error) {
        match self.upstreams.get(key) {
            Some(upstream) if upstream.is_reader => self.reader_not_reached(error),
            Some(upstream) => {
                let address = upstream.address.clone();
                self.not_reached(&address, error);
            }
            None => {}
        }
        self.fail_upstream(key);
    }

    pub(in crate::worker) fn upstream_event(
        &mut self,
        key: Key<Upstream>,
        event: &mio::event::Event,
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        if upstream.state == State::Connecting {
            if let Ok(Some(error)) | Err(error) = upstream.socket.take_error() {
                self.lost_before_open(key, &error);
                return;
            }
            if !event.is_writable() || !upstream.socket.is_connected() {
                return;
            }
            if !self.send_hello(key) {
                return;
            }
        }
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            upstream.readable = true;
            upstream.hung_up |= event.is_read_closed() || event.is_error();
            self.readable.push(key);
        }
        if event.is_writable() {
            self.queue_flush_upstream(key);
        }
    }

    /// Sends the greeting; `false` when the connection broke.
    fn send_hello(&mut self, key: Key<Upstream>) -> bool {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return false;
        };
        upstream.state = State::Greeting;
        // A connection on which nothing waits takes a few hundred bytes at once.
        let written = upstream.socket.write_all(&upstream.hello);
        if let Err(error) = &written {
            self.lost_before_open(key, error);
        }
        written.is_ok()
    }

    /// The server refused the greeting. Mostly it was restarted and has lost its users: what waits for this
    /// connection waits until they are made again, so that apps hear what the server has to say (`LOADING`).
    pub(in crate::worker) fn greeting_refused(&mut self, key: Key<Upstream>, error: &[u8]) {
        if error.starts_with(TOO_MANY_CLIENTS) {
            // Users are in place; making them again would only add to what the server has to do.
            audit::note(Reason::Upstreams, Subject::default(), || {
                "Valkey takes no more clients (maxclients)".to_owned()
            });
            self.fail_upstream(key);
            return;
        }
        let text = String::from_utf8_lossy(error);
        if self.upstreams.get(key).is_some_and(|it| it.is_reader) {
            self.reader_not_reached(&text.trim_end());
            self.fail_upstream(key);
            return;
        }
        tracing::warn!(error = text.trim_end(), "Valkey refused the agent's user");
        // The control side ends only with the process.
        let _ = self.control.send(Request::UsersMissing);
        match self.upstreams.get_mut(key) {
            Some(upstream)
                if upstream.state == State::Greeting && error.starts_with(USER_UNKNOWN) =>
            {
                upstream.state = State::Unknown;
                upstream.greeting.clear();
            }
            _ => self.fail_upstream(key),
        }
    }

    /// The agent's users are there: logins that were refused are tried again.
    pub(in crate::worker) fn log_in_again(&mut self) {
        for key in self.upstreams.keys() {
            if let Some(upstream) = self.upstreams.get_mut(key)
                && upstream.state == State::Unknown
            {
                upstream.owe_greeting();
                self.send_hello(key);
            }
        }
    }

    /// The server takes no writes or is gone: somebody shall look where the primary is.
    pub(in crate::worker) fn doubt(&mut self) {
        let is_told = |at: Duration| self.now.saturating_sub(at) < DOUBT_EVERY;
        if !self.doubted.is_some_and(is_told) {
            self.doubted = Some(self.now);
            // The control side ends only with the process.
            let _ = self.control.send(Request::Doubt);
        }
    }

    /// Valkey is elsewhere. Who waits for a reply of the server that was left sees its connection end, as if
    /// that server had; the others go on.
    pub(in crate::worker) fn follow_valkey(&mut self) {
        let places = self.environment.whereabouts.all();
        for key in self.upstreams.keys() {
            let Some(upstream) = self.upstreams.get(key) else {
                continue;
            };
            if upstream.is_reader {
                continue;
            }
            if !places.contains(&upstream.address) {
                self.fail_upstream(key);
            } else if let Some(lanes) = super::of(&mut self.stores, upstream.store)
                && (!lanes.has(key, upstream.role)
                    || !(self.environment.whereabouts.of(lanes.store.slot))
                        .contains(&upstream.address))
            {
                self.leave_shard(key);
            }
        }
        self.ways.clear();
    }

    /// Gives up what the server has not taken for too long, or not let in.
    pub(in crate::worker) fn give_up_connecting(&mut self, now: Instant) {
        for key in self.upstreams.keys() {
            let Some(upstream) = self.upstreams.get(key) else {
                continue;
            };
            let waited = now.duration_since(upstream.idle_since);
            match upstream.state {
                State::Connecting if waited >= CONNECT_WITHIN => {
                    self.lost_before_open(key, &io::ErrorKind::TimedOut.into());
                }
                State::Unknown if waited >= KNOWN_WITHIN => self.fail_upstream(key),
                _ => {}
            }
        }
    }
}
