//! CLIENT PAUSE: whether a store's clients wait, which of their commands, and how long.
//!
//! Invariant: as long as a pause lasts it becomes neither shorter nor milder, whichever workers pause at
//! once; what a worker reads was set in one piece. `fuzz/tests/shared.rs` tries all orders.

use std::time::Duration;

// The model checker puts its own in the place of the standard library's.
use super::atomic::{AtomicU64, Ordering};

/// Whether a store's clients wait.
#[derive(Debug, Default)]
pub struct Pause {
    /// When it ends, by the workers' clock in milliseconds, doubled; odd when all commands wait, otherwise
    /// those that write. 0 when there is none.
    until: AtomicU64,
}

/// The end of a pause, and whether all commands wait.
fn parts(until: u64) -> (Duration, bool) {
    (Duration::from_millis(until >> 1), until & 1 == 1)
}

impl Pause {
    /// Whether there may be a pause.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// How long it still lasts, and whether all commands wait.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Option<(Duration, bool)> {
        let (until, all) = parts(self.until.load(Ordering::Acquire));
        let rest = until.checked_sub(now).filter(|rest| !rest.is_zero())?;
        Some((rest, all))
    }

    /// Pauses until then. As long as an earlier pause lasts, it becomes neither shorter nor milder
    /// (`pauseClientsByClient` in networking.c).
    pub fn extend(&self, now: Duration, until: Duration, all: bool) {
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        let wanted = until_ms.min(u64::MAX >> 1) << 1 | u64::from(all);
        let longer = |before: u64| {
            let lasts = parts(before).0 > now;
            // The greater end, and all commands if either says so.
            Some(if lasts {
                before.max(wanted) | (before & 1) | (wanted & 1)
            } else {
                wanted
            })
        };
        // It always gives something, so it always succeeds.
        let _ = self
            .until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
    }

    /// Ends it.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }
}
