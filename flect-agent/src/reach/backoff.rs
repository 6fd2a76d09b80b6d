//! How long to leave a server alone that could not be reached.
//!
//! Whoever waits, waits a different time: when a server comes back, those that lost it must not all come in
//! the same instant.

use std::time::{Duration, Instant};

/// Longer and longer pauses after failures, none after a success.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
    not_before: Option<Instant>,
    /// How often it was tried at all.
    pub(super) tries: u64,
}

impl Backoff {
    /// Pauses of about `first` after one failure, doubled with each further one up to about `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            failures: 0,
            not_before: None,
            tries: 0,
        }
    }

    /// Whether the pause after the last failure still lasts.
    #[must_use]
    pub fn is_early(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|then| now < then)
    }

    /// A try has ended; answers the pause that follows.
    pub fn note(&mut self, now: Instant, succeeded: bool) -> Duration {
        self.tries += 1;
        if succeeded {
            self.failures = 0;
            self.not_before = None;
            return Duration::ZERO;
        }
        let doubled = self
            .first
            .saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let pause = jittered(doubled.min(self.max));
        self.not_before = Some(now + pause);
        pause
    }
}

/// More make no difference: the shortest first pause is milliseconds, the longest one is minutes.
const MAX_DOUBLINGS: u32 = 20;

/// Between half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    // Without random numbers everybody waits the longest time, which is no harm either.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_a_success() {
        let (first, max) = (Duration::from_millis(10), Duration::from_millis(65));
        let mut backoff = Backoff::new(first, max);
        let now = Instant::now();
        assert!(!backoff.is_early(now));
        for longest_ms in [10, 20, 40, 65, 65] {
            let longest = Duration::from_millis(longest_ms);
            let pause = backoff.note(now, false);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
            assert!(backoff.is_early(now) && backoff.is_early(now + pause / 2));
            assert!(!backoff.is_early(now + pause));
        }
        assert_eq!(backoff.note(now, true), Duration::ZERO);
        assert!(!backoff.is_early(now));
        assert!(backoff.note(now, false) <= first);
        for _ in 0..100 {
            assert!(backoff.note(now, false) <= max);
        }
    }

    #[test]
    fn no_two_wait_the_same_time() {
        let pause = || Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let pauses = (0..20).map(|_| pause().note(Instant::now(), false));
        let mut pauses: Vec<_> = pauses.collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
