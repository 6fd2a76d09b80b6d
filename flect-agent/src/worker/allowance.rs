//! How many connections to Valkey a store's sessions may have for themselves: blocked and subscribed clients
//! keep one each, and all stores share the server's `maxclients`.
//!
//! Invariant: a store's sessions have at most as many as they may, however many workers serve them; clean ones in a worker's pool come on top, since another worker cannot use them. A session that would need one more is told what Valkey tells a client beyond `maxclients`, and
//! ends; one that waited instead could wait for a client that waits for it.

use std::sync::Arc;

use super::Worker;
use super::admission::TOO_MANY_CLIENTS;
use super::arena::Key;
use super::lanes;
use super::session::Session;
use super::upstream::Upstream;
use crate::audit::Reason;
use crate::environment::Store;

/// What the audit log says.
const BEYOND: &str =
    "a request that needs a connection to Valkey of its own, beyond the store's limit";

/// Connections of a store for scripts on servers that need it: more clients at once share, and a script of
/// theirs whose error holds a line break can disturb the store's other clients that share.
const SPARED_MAX: usize = 64;

impl Worker {
    /// Takes the right to one more connection for a session itself; whether there was one left.
    pub(super) fn reserve_own(&mut self, store: usize) -> bool {
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return false;
        };
        let most = lanes.store.limits.upstreams();
        lanes.store.upstreams.add_below(most)
    }

    /// Whether a session may have a connection itself for a script's sake, which it can do without.
    pub(super) fn spares_own(&self, store: &Store) -> bool {
        let most = match store.limits.upstreams() {
            0 => SPARED_MAX,
            most => most.min(SPARED_MAX),
        };
        store.upstreams.get() < most
    }

    #[cold]
    pub(super) fn refuse_own(&mut self, key: Key<Session>) {
        self.note_refused(key);
        self.audit(key, Reason::Upstreams, BEYOND);
        self.finish_with(key, TOO_MANY_CLIENTS);
    }
}

impl Upstream {
    /// A session has the connection for itself from now on; the right to that is taken.
    pub fn count_for(&mut self, store: &Arc<Store>) {
        self.counted = Some(store.clone());
    }

    /// No session has it any more.
    pub fn uncount(&mut self) {
        if let Some(store) = self.counted.take() {
            store.upstreams.sub(1);
        }
    }
}
