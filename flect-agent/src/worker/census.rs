//! What a worker has at one moment, told when somebody asks.
//!
//! Invariant: it is counted in the worker's own loop, between two turns, so the numbers of one answer
//! belong together, and an answer proves that the loop turns.

use tokio::sync::oneshot;

use super::Worker;
use super::upstream::{Role, State};

/// One worker's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// What stores have, by their number; those that have no connection are left out.
    pub stores: Vec<(usize, Lanes)>,
}

/// One store's connections to Valkey in one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Those that carry many sessions' requests.
    pub shared: usize,
    /// Those that a session has for itself.
    pub own: usize,
    /// Clean ones that nobody uses.
    pub pooled: usize,
    /// The agent's own: SORT, notifications, functions.
    pub special: usize,
    /// Of all these, those that Valkey has not let in yet.
    pub opening: usize,
    /// Requests that wait for their reply on shared ones.
    pub in_flight: usize,
    /// The most of them on one connection.
    pub depth: usize,
}

impl Lanes {
    /// What two workers have of one store.
    pub fn add(&mut self, other: Self) {
        self.shared += other.shared;
        self.own += other.own;
        self.pooled += other.pooled;
        self.special += other.special;
        self.opening += other.opening;
        self.in_flight += other.in_flight;
        self.depth = self.depth.max(other.depth);
    }
}

impl Worker {
    pub(super) fn tell_census(&self, asker: oneshot::Sender<Census>) {
        let mut lanes: Vec<Option<Lanes>> = vec![None; self.stores.len()];
        for upstream in self.upstreams.iter() {
            let number = upstream.store;
            let Some(slot) = number.and_then(|number| lanes.get_mut(number)) else {
                continue;
            };
            let lanes = slot.get_or_insert_default();
            if upstream.state != State::Open {
                lanes.opening += 1;
            }
            match upstream.role {
                Role::Shared => {
                    lanes.shared += 1;
                    lanes.in_flight += upstream.owed.len();
                    lanes.depth = lanes.depth.max(upstream.owed.len());
                }
                Role::Own(_) => lanes.own += 1,
                Role::Pooled => lanes.pooled += 1,
                Role::Housekeeper
                | Role::Librarian
                | Role::Once
                | Role::Sorter
                | Role::Listener => lanes.special += 1,
            }
        }
        let stores = lanes.into_iter().enumerate();
        let stores = stores.filter_map(|(number, lanes)| Some((number, lanes?)));
        // Who asked may have given up.
        let _ = asker.send(Census {
            stores: stores.collect(),
        });
    }
}
