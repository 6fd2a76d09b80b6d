//! How many connections to Valkey a store's sessions may have for themselves: blocked and subscribed clients
//! keep one each, and all stores share the server's `maxclients`.
//!
//! Invariant: a store has at most as many as it may, but for one that each worker may add at the same
//! moment. A session that would need one more is told what Valkey tells a client beyond `maxclients`, and
//! ends; one that waited instead could wait for a client that waits for it.

use super::Worker;
use super::admission::TOO_MANY_CLIENTS;
use super::arena::Key;
use super::lanes::{self, place};
use super::session::Session;
use crate::audit::Reason;
use crate::resp::Protocol;

/// What the audit log says.
const BEYOND: &str =
    "a request that needs a connection to Valkey of its own, beyond the store's limit";

impl Worker {
    /// Whether there is a connection for one session of a store, or may be one.
    pub(super) fn may_have_own(&mut self, store: usize, protocol: Protocol) -> bool {
        let Some(lanes) = lanes::of(&mut self.stores, Some(store)) else {
            return false;
        };
        let most = lanes.store.limits.upstreams();
        most == 0
            || lanes.store.upstreams.get() < most
            || !lanes.pooled[place(protocol)].is_empty()
            || self.take_pooled(store, protocol)
    }

    /// Makes room by giving up a clean connection of the other protocol version.
    fn take_pooled(&mut self, store: usize, protocol: Protocol) -> bool {
        let other = 1 - place(protocol);
        let lanes = lanes::of(&mut self.stores, Some(store));
        let Some(pooled) = lanes.and_then(|lanes| lanes.pooled[other].pop()) else {
            return false;
        };
        self.close_upstream(pooled);
        true
    }

    #[cold]
    pub(super) fn refuse_own(&mut self, key: Key<Session>) {
        self.note_refused(key);
        self.audit(key, Reason::Upstreams, BEYOND);
        self.finish_with(key, TOO_MANY_CLIENTS);
    }
}
