//! A count that one thread writes and others read.
//!
//! Invariant: whoever reads sees some count that there has been, and never an older one than before.
//! `fuzz/tests/shared.rs` tries all orders.

// The model checker puts its own in the place of the standard library's.
use super::atomic::{AtomicU64, Ordering};

/// A count that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts some more. Only the owner may.
    #[inline]
    pub fn add(&self, more: u64) {
        // Not `fetch_add`, which locks the cache line: nobody else writes.
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// The count so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises it to a value. Only the owner may.
    pub(super) fn raise(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }
}
