//! What is held for a store's clients: requests that are not whole, replies that are not read, what is
//! queued and not answered.
//!
//! Invariant: a store's sum stays below its limit and one turn's reads. Past it the client that holds most
//! is disconnected, as Valkey does at `maxmemory-clients` (`evictClients` in networking.c). A session that
//! holds nothing costs one comparison a turn.

use super::Worker;
use super::arena::Key;
use super::session::{Lane, Session};
use crate::audit::Reason;
use crate::rewrite::reply::ReplyPlan;

/// Smaller changes are not noted: with ten thousand sessions they make 40 MB.
const GRAIN_BYTES: usize = 4096;

/// A name that is kept in a set, beside its bytes.
const NAME_BYTES: usize = 64;

impl Worker {
    /// Notes what is held for a session now, and ends the largest when the store's are too much together.
    #[inline]
    pub(super) fn account(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let held_bytes = session.held_bytes() + self.lane_bytes(session);
        let noted_bytes = session.noted_bytes;
        let changed = held_bytes.abs_diff(noted_bytes) >= GRAIN_BYTES;
        if changed || held_bytes == 0 && noted_bytes > 0 {
            self.note_held(key, held_bytes);
        }
    }

    /// What a connection of the session's own holds.
    fn lane_bytes(&self, session: &Session) -> usize {
        let Lane::Own(upstream) = session.lane else {
            return 0;
        };
        let upstream = self.upstreams.get(upstream);
        upstream.map_or(0, |upstream| {
            upstream.out.held_bytes() + upstream.leftover.len()
        })
    }

    fn note_held(&mut self, key: Key<Session>, held_bytes: usize) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let store = session.store.clone();
        let noted_bytes = std::mem::replace(&mut session.noted_bytes, held_bytes);
        if held_bytes < noted_bytes {
            store.buffered.sub(noted_bytes - held_bytes);
            return;
        }
        let mut sum = store.buffered.add(held_bytes - noted_bytes);
        let most = store.limits.buffer_bytes();
        while most > 0 && sum > most {
            let Some(largest) = self.largest(store.number) else {
                return;
            };
            self.end_at_limit(
                largest,
                "a client is disconnected: the agent held most for it",
            );
            sum = store.buffered.get();
        }
    }

    /// The session of a store that holds most here.
    fn largest(&self, store: usize) -> Option<Key<Session>> {
        self.sessions
            .keys()
            .into_iter()
            .filter_map(|key| Some((key, self.sessions.get(key)?)))
            .filter(|(_, session)| session.store.number == store && session.noted_bytes > 0)
            .max_by_key(|(_, session)| session.noted_bytes)
            .map(|(key, _)| key)
    }

    /// A session takes more memory than it may: it is ended without a word, as Valkey ends it.
    pub(super) fn end_at_limit(&mut self, key: Key<Session>, detail: &str) {
        self.audit(key, Reason::Buffers, detail);
        if let Some(session) = self.sessions.get(key) {
            session.meter.disconnected.add(1);
        }
        self.close_session(key);
    }
}

impl Session {
    /// Bytes that are kept for it, but for those of its upstream connection.
    fn held_bytes(&self) -> usize {
        let mut bytes = self.out.len() + self.input.len();
        if !self.answered.is_empty() {
            let answered = self.answered.iter();
            bytes += answered.map(|answer| answer.bytes.len()).sum::<usize>();
        }
        if let Some(transaction) = &self.transaction {
            bytes += transaction.plans.len() * size_of::<ReplyPlan>();
        }
        bytes += self.events.len();
        bytes + (self.patterns.len() + self.event_channels.len()) * NAME_BYTES
    }
}
