//! Requests that a node of a cluster has not carried out, since their slot is another's or on its way there.
//!
//! Such an answer proves that nothing was done, so the request may be sent again; nothing else ever is. Invariant:
//! a session's requests take effect and are answered in their order. A reply that would come before that of an
//! earlier request, which is to be sent again, ends the session instead; so does what cannot be repeated, since
//! the server held a part of it: a transaction, watched keys, a request of which not all bytes are here any more.

mod elsewhere;

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use super::arena::Key;
use super::jobs::Job;
use super::lanes;
use super::session::{Gate, Lane, Session};
use super::upstream::{Owed, Recipient, Role, Upstream};
use crate::commands;
use crate::environment::UpstreamAddress;
use crate::resp::{Protocol, encode};
use crate::scoped::{SCRIPT_NAMES, Target};
pub(crate) use elsewhere::Elsewhere;

/// Between two tries: a slot on its way moves some thousand keys in it.
pub(super) const TRIED_EVERY: Duration = Duration::from_millis(10);

/// How long a request may wait for its slot: as long as clients commonly wait for a connection.
const TRIED_FOR: Duration = Duration::from_secs(10);

/// How long a node is believed that another has a slot while that is not said elsewhere.
const BELIEVED_FOR: Duration = Duration::from_millis(250);

/// A request that was under way for so long was waiting, not on its way to and fro.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long after such an answer a session has one request under way at a time.
const HESITATES_FOR: Duration = Duration::from_secs(1);

/// Since when a request is being sent again, and when it last was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    first: Option<Duration>,
    last: Duration,
}

impl Tried {
    /// It has come back once more.
    fn again(self, now: Duration) -> Self {
        let settled = now.saturating_sub(self.last) > SETTLED_AFTER;
        Self {
            first: self.first.filter(|_| !settled).or(Some(now)),
            last: now,
        }
    }

    fn is_over(self, now: Duration) -> bool {
        self.first
            .is_some_and(|first| now.saturating_sub(first) > TRIED_FOR)
    }
}

/// A request that is to be sent again.
#[derive(Debug)]
pub struct Astray {
    request: Vec<u8>,
    owed: Owed,
    role: Role,
    protocol: Protocol,
    /// Who has not carried it out.
    from: UpstreamAddress,
    elsewhere: Elsewhere,
    /// When it came back.
    since: Duration,
    not_before: Duration,
}

/// A session's requests that are to be sent again, or were and have no answer yet, in their order.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: VecDeque<u32>,
    last: u32,
}

impl Turns {
    fn begin(&mut self) -> u32 {
        // 0 is none's.
        self.last = self.last.wrapping_add(1).max(1);
        self.waiting.push_back(self.last);
        self.last
    }

    /// Whether the request of this turn, or of none, may be answered now.
    pub(super) fn admits(&self, turn: u32) -> bool {
        self.waiting.front().is_none_or(|first| *first == turn)
    }

    /// The first is answered.
    pub(super) fn end(&mut self) {
        self.waiting.pop_front();
    }
}

impl Upstream {
    /// Notes whether the reply that begins says that its request belongs elsewhere. `false`: too few bytes to
    /// tell.
    pub(super) fn look_elsewhere(&mut self, bytes: &[u8]) -> bool {
        if !self.of_cluster || self.client_id.is_none() {
            return true;
        }
        // Only an error needs to be told from a script's own.
        let front = self.owed.front().filter(|_| bytes.starts_with(b"-"));
        let script = self
            .slot
            .filter(|_| front.is_some_and(|owed| !declares_all(owed)));
        match Elsewhere::read(bytes, script) {
            Ok(elsewhere) => {
                self.elsewhere = elsewhere;
                true
            }
            Err(()) => false,
        }
    }
}

impl Session {
    /// Whether the server holds nothing of what the session has asked for.
    fn can_be_repeated(&self, owed: &Owed) -> bool {
        let holds = self.needs_own() || !self.executing.is_empty() || self.stream.is_some();
        !holds && !owed.exec
    }
}

/// Whether a command's keys are all declared: what a script reads besides may be at the other node still.
fn declares_all(owed: &Owed) -> bool {
    let command = owed
        .command
        .and_then(|number| commands::all().get(usize::from(number)));
    command.is_some_and(|command| {
        !(command.name.starts_with("eval") || command.name.starts_with("fcall"))
    })
}

impl Worker {
    /// Whether each page of names is proven to come from the server that has the slot: another has none, or a
    /// part of them.
    pub(super) fn pages_are_proven(&self) -> bool {
        self.environment.whereabouts.topology().is_some()
    }

    /// Asks for a page of the server's names.
    pub(super) fn send_page(&mut self, upstream: Key<Upstream>, key: Key<Job>, request: Vec<u8>) {
        self.send_own(upstream, &request, Recipient::Page(key));
        if !self.pages_are_proven() {
            return;
        }
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        // The node that has the slot, whole, answers that there is nothing.
        let name = format!("{SCRIPT_NAMES}{}", job.context.prefix);
        job.page = request;
        let mut proof = Vec::new();
        let words: [&[u8]; 3] = [b"HMGET", name.as_bytes(), b"-"];
        encode::request(&words, &mut proof);
        self.send_own(upstream, &proof, Recipient::Slot(key));
    }

    /// A reply would come before that of an earlier request of its session.
    pub(super) fn overtook(&mut self, session: Key<Session>) {
        tracing::debug!("a session ends: a slot has moved between two of its requests");
        self.close_session(session);
    }

    /// A request was not carried out where it was sent.
    pub(super) fn went_astray(
        &mut self,
        key: Key<Upstream>,
        mut owed: Owed,
        from: u64,
        elsewhere: Elsewhere,
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        let request = upstream.out.sent(from, owed.end).to_vec();
        let mut request = (request.len() as u64 == owed.end - from).then_some(request);
        upstream.end_by_name(&owed);
        upstream.out.forget(owed.end);
        owed.frames += 1;
        if let Some(by_name) = owed.by_name.take() {
            // The other server may lack the script.
            let mut text = Vec::new();
            owed.plan = by_name.with_text(&mut text);
            request = Some(text);
        }
        let (role, protocol, address) =
            (upstream.role, upstream.protocol, upstream.address.clone());
        let store = upstream.store;
        if elsewhere == Elsewhere::Moved {
            self.leave_shard(key);
        } else if declares_all(&owed) {
            // A script may have made the words up, and slows nobody else down with them.
            self.hesitates_until = self.now + HESITATES_FOR;
        }
        self.doubt();
        owed.tried = owed.tried.again(self.now);
        let store = match owed.to {
            Recipient::Session(session) => {
                let Some(session_found) = self.sessions.get_mut(session) else {
                    return;
                };
                if request.is_none() || !session_found.can_be_repeated(&owed) {
                    self.close_session(session);
                    return;
                }
                if owed.turn == 0 {
                    owed.turn = session_found.astray.begin();
                }
                store
            }
            Recipient::Job(job) | Recipient::Aside(job) => self.jobs.get(job).map(|job| job.store),
            // The page before it does not count.
            Recipient::Slot(job) => {
                let Some(found) = self.jobs.get_mut(job) else {
                    self.page_done();
                    return;
                };
                found.reply.clear();
                found.tried = found.tried.again(self.now);
                owed.tried = found.tried;
                request = Some(std::mem::take(&mut found.page));
                Some(found.store)
            }
            _ => None,
        };
        let (Some(request), Some(store)) = (request, store) else {
            return;
        };
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return;
        };
        lanes.astray.push_back(Astray {
            request,
            owed,
            role,
            protocol,
            from: address,
            elsewhere,
            since: self.now,
            not_before: self.now,
        });
        if !self.astray.contains(&store) {
            self.astray.push(store);
        }
    }

    /// A connection leads to a shard that has its store no more. What it owes comes, or is answered so.
    pub(super) fn leave_shard(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        let is_done = upstream.owed.is_empty();
        for waiting in std::mem::take(&mut upstream.waiting) {
            self.open_gate(waiting, Gate::Upstream);
        }
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        match upstream.role {
            Role::Shared | Role::Sorter | Role::Pooled => {
                upstream.retired = true;
                if let Some(lanes) = lanes::of(&mut self.stores, upstream.store) {
                    lanes.leave(key);
                }
                if is_done {
                    self.close_upstream(key);
                }
            }
            Role::Listener => self.fail_upstream(key),
            // The session leaves it by itself, or cannot.
            Role::Own(_) => upstream.tainted = true,
            Role::Housekeeper | Role::Librarian | Role::Once => {}
        }
    }

    /// Sends again what can be.
    pub(super) fn send_astray(&mut self) {
        for store in std::mem::take(&mut self.astray) {
            while let Some(lanes) = lanes::of(&mut self.stores, Some(store)) {
                let Some(astray) = lanes.astray.pop_front() else {
                    break;
                };
                if let Some(astray) = self.send_again(store, astray)
                    && let Some(lanes) = lanes::of(&mut self.stores, Some(store))
                {
                    lanes.astray.push_front(astray);
                    self.astray.push(store);
                    self.doubt();
                    break;
                }
            }
        }
    }

    /// Sends one again; gives back what has to wait, and with it all behind it.
    fn send_again(&mut self, store: usize, mut astray: Astray) -> Option<Astray> {
        match astray.owed.to {
            Recipient::Session(session) => {
                self.sessions.get(session)?;
            }
            Recipient::Job(job) | Recipient::Aside(job) => {
                self.jobs.get(job)?;
            }
            Recipient::Slot(job) if self.jobs.get(job).is_none() => {
                self.page_done();
                return None;
            }
            _ => {}
        }
        if astray.owed.tried.is_over(self.now) {
            tracing::warn!(from = %astray.from, "a slot is nowhere; who waits for it is disconnected");
            self.give_up(&astray.owed);
            return None;
        }
        if self.now < astray.not_before {
            return Some(astray);
        }
        let slot = lanes::of(&mut self.stores, Some(store))?.store.slot;
        let places = self.environment.whereabouts.of(slot);
        astray.not_before = self.now + TRIED_EVERY;
        let Some(place) = places.first() else {
            return Some(astray);
        };
        let asks = match &astray.elsewhere {
            // Nobody has told yet where it is; or it has come back already.
            Elsewhere::Moved
                if *place == astray.from
                    && self.now.saturating_sub(astray.since) < BELIEVED_FOR =>
            {
                return Some(astray);
            }
            // What has a connection of its own may wait on it, and must not on one that others share.
            Elsewhere::Ask(node) if declares_all(&astray.owed) && astray.role == Role::Shared => {
                let topology = self.environment.whereabouts.topology()?;
                // To nobody that the environment does not know.
                let known = topology.nodes().find(|known| elsewhere::is_at(known, node));
                let Some(known) = known else {
                    return Some(astray);
                };
                Some(known.clone())
            }
            _ => None,
        };
        let Some(upstream) = self.lane_again(store, &astray, asks.as_ref()) else {
            self.give_up(&astray.owed);
            return None;
        };
        let Some(upstream) = upstream else {
            return Some(astray);
        };
        if let Recipient::Slot(job) = astray.owed.to {
            self.send_page(upstream, job, astray.request);
            return None;
        }
        if asks.is_some() {
            self.send_own(upstream, b"*1\r\n$6\r\nASKING\r\n", Recipient::Greeting);
        }
        if astray.owed.blocking {
            self.ask_server_id(upstream);
        }
        let lane = self.upstreams.get_mut(upstream)?;
        lane.out.tail().extend_from_slice(&astray.request);
        astray.owed.end = lane.out.position();
        astray.owed.tried.last = self.now;
        lane.owed.push_back(astray.owed);
        self.queue_flush_upstream(upstream);
        None
    }

    /// The connection to send on once more. `None`: there is none; inside, not yet.
    fn lane_again(
        &mut self,
        store: usize,
        astray: &Astray,
        asks: Option<&UpstreamAddress>,
    ) -> Option<Option<Key<Upstream>>> {
        let protocol = astray.protocol;
        let session = match astray.owed.to {
            Recipient::Session(session) => session,
            Recipient::Slot(_) => return self.housekeeper_of(store).map(Some),
            _ => {
                let target = match astray.role {
                    Role::Housekeeper => Target::Housekeeper,
                    Role::Librarian => Target::Librarian,
                    Role::Sorter => Target::Sorter,
                    Role::Own(_) => return None,
                    _ if protocol == Protocol::Resp2 => Target::Store,
                    _ => Target::App,
                };
                return self.lane_of_target(target, store, protocol).map(Some);
            }
        };
        let lane = match (astray.role, asks) {
            (_, Some(node)) => self.asking_lane(store, protocol, node)?,
            (Role::Own(_), None) => {
                let before = match self.sessions.get(session)?.lane {
                    Lane::Own(before) => Some(before),
                    _ => None,
                };
                if let Some(before) = before
                    && let Some(upstream) = self.upstreams.get(before)
                {
                    if upstream.address != astray.from {
                        return Some(Some(before));
                    }
                    if !upstream.owed.is_empty() {
                        return Some(None);
                    }
                    self.sessions.get_mut(session)?.lane = Lane::None;
                    self.close_upstream(before);
                }
                if !self.reserve_own(store) {
                    return None;
                }
                let lane = self.own_lane(store, protocol, session)?;
                self.sessions.get_mut(session)?.lane = Lane::Own(lane);
                return Some(Some(lane));
            }
            _ => self.shared_lane(store, protocol)?,
        };
        if let Lane::Shared(_) | Lane::None = self.sessions.get(session)?.lane {
            self.sessions.get_mut(session)?.lane = Lane::Shared(lane);
        }
        Some(Some(lane))
    }

    /// A store's connection to the node that is getting its slot.
    fn asking_lane(
        &mut self,
        store: usize,
        protocol: Protocol,
        node: &UpstreamAddress,
    ) -> Option<Key<Upstream>> {
        let known = self.upstreams.keys().into_iter().find(|key| {
            self.upstreams.get(*key).is_some_and(|upstream| {
                upstream.role == Role::Shared
                    && upstream.store == Some(store)
                    && upstream.protocol == protocol
                    && upstream.address == *node
                    && !upstream.retired
            })
        });
        if known.is_some() {
            return known;
        }
        let credentials = lanes::of(&mut self.stores, Some(store))?
            .store
            .credentials
            .clone();
        self.connect_at(node.clone(), &credentials, Role::Shared, protocol, store)
    }

    fn give_up(&mut self, owed: &Owed) {
        match owed.to {
            Recipient::Session(session) => self.close_session(session),
            Recipient::Job(job) | Recipient::Aside(job) => self.fail_job(job),
            Recipient::Slot(job) => {
                self.fail_job(job);
                self.page_done();
            }
            _ => {}
        }
    }
}
