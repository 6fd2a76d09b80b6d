//! The process's descriptors, divided among stores.
//!
//! Invariant: no store's clients take so many that the next store's get none: a store may have at most
//! twice as many as are free (the rule by which switches share a buffer among their ports: A. K. Choudhury
//! and E. L. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998). One store
//! alone gets two thirds; every further one finds some.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Kept for everything that is no session: listeners, the control socket's 640, explicit mode's 512 and
/// accepting's 512 that are told why they are refused.
const RESERVED: usize = 2048;

/// What connections take and may take.
#[derive(Debug)]
pub struct Descriptors {
    max: usize,
    taken: AtomicUsize,
}

impl Default for Descriptors {
    /// By what the system lets this process have now.
    fn default() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = limit.current.map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        // Where there are few, sessions still get most of them.
        Self::new(most - RESERVED.min(most / 4))
    }
}

impl Descriptors {
    fn new(max: usize) -> Self {
        Self {
            max,
            taken: AtomicUsize::new(0),
        }
    }

    /// Whether a store with so many open sessions may have one more.
    #[must_use]
    pub fn may_take(&self, own: usize) -> bool {
        let free = self.max.saturating_sub(self.taken.load(Ordering::Relaxed));
        free > 0 && own < free.saturating_mul(2)
    }

    /// One more is taken.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// One is free again.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_finds_some() {
        let descriptors = Descriptors::new(9000);
        let mut taken = Vec::new();
        for _ in 0..20 {
            let mut own = 0;
            while descriptors.may_take(own) {
                descriptors.take();
                own += 1;
            }
            taken.push(own);
        }
        assert_eq!(taken[..3], [6000, 2000, 667]);
        // Who has been there before gets nothing more of what is left for others.
        assert!(!descriptors.may_take(6000));
        assert!(taken[5] > 20, "{taken:?}");
        descriptors.give_back();
        assert!(descriptors.may_take(0));
    }
}
