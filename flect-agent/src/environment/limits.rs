//! What a store may use on this node, as the control side sets it and the workers obey it.
//!
//! Invariant: a worker reads a limit without waiting for anybody. What all workers write (the tokens of
//! [`Limits::take`]) is on a cache line of its own and touched only where there is a rate.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::registry;

/// What a store may use. 0 is no limit.
#[derive(Debug, Default)]
pub struct Limits {
    connections: AtomicU32,
    commands_per_second: AtomicU32,
    memory_bytes: AtomicU64,
    memory_exceeded: AtomicBool,
    tokens: Tokens,
}

/// When the next command may come, if they come as fast as they may.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Tokens {
    due_ns: AtomicU64,
}

/// How much of a second's commands may come at once after a pause: short enough that a second never
/// sees much more than its share, long enough for a batch.
const BURST_NS: u64 = 100_000_000;

const SECOND_NS: u64 = 1_000_000_000;

impl Limits {
    /// Takes over what the registry says.
    pub fn set(&self, limits: &registry::Limits) {
        let of = |limit: Option<u32>| limit.unwrap_or(0);
        self.connections
            .store(of(limits.connections), Ordering::Relaxed);
        self.commands_per_second
            .store(of(limits.commands_per_second), Ordering::Relaxed);
        self.memory_bytes
            .store(limits.memory_bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is set, in the registry's words.
    #[must_use]
    pub fn get(&self) -> registry::Limits {
        let some = |limit: u32| (limit > 0).then_some(limit);
        let memory_bytes = self.memory_bytes.load(Ordering::Relaxed);
        registry::Limits {
            memory_bytes: (memory_bytes > 0).then_some(memory_bytes),
            connections: some(self.connections.load(Ordering::Relaxed)),
            commands_per_second: some(self.commands_per_second.load(Ordering::Relaxed)),
            ..registry::Limits::default()
        }
    }

    /// Open sessions at once.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed) as usize
    }

    /// Whether the store holds more than it may; the control side measures.
    #[must_use]
    pub fn memory_exceeded(&self) -> bool {
        self.memory_exceeded.load(Ordering::Relaxed)
    }

    /// The control side has measured.
    pub fn set_memory_exceeded(&self, exceeded: bool) {
        self.memory_exceeded.store(exceeded, Ordering::Relaxed);
    }

    /// Takes the right to one command at a time counted from any fixed moment.
    ///
    /// # Errors
    /// When the store has had its share: how long until there is one more.
    #[inline]
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        match self.commands_per_second.load(Ordering::Relaxed) {
            0 => Ok(()),
            rate => self.tokens.take(u64::from(rate), now),
        }
    }
}

impl Tokens {
    /// A token bucket kept as one number, the moment at which it is full again (the generic cell rate
    /// algorithm), so that workers share it without a lock.
    fn take(&self, rate: u64, now: Duration) -> Result<(), Duration> {
        let interval_ns = SECOND_NS / rate;
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let latest_ns = now_ns + BURST_NS.max(interval_ns);
        // A rate that was raised must not wait for what the lower one allowed.
        let next = |due_ns: u64| due_ns.clamp(now_ns, latest_ns) + interval_ns;
        let take = |due_ns: u64| (next(due_ns) <= latest_ns).then(|| next(due_ns));
        match self
            .due_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(_) => Ok(()),
            Err(due_ns) => Err(Duration::from_nanos(
                next(due_ns).saturating_sub(latest_ns).max(1),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: u32) -> Limits {
        let limits = Limits::default();
        limits.set(&registry::Limits {
            commands_per_second: Some(rate),
            ..registry::Limits::default()
        });
        limits
    }

    /// Commands that pass when as many are tried as may be, in steps of a millisecond.
    fn passed(limits: &Limits, from: Duration, milliseconds: u64) -> usize {
        let times = (0..milliseconds).map(|ms| from + Duration::from_millis(ms));
        times
            .map(|now| {
                std::iter::repeat_with(|| limits.take(now))
                    .take_while(Result::is_ok)
                    .count()
            })
            .sum()
    }

    #[test]
    fn a_second_sees_its_share_and_a_burst() {
        for rate in [1, 10, 997, 50_000] {
            let limits = limits(rate);
            let count = passed(&limits, Duration::from_secs(7), 2000);
            let share = 2 * rate as usize;
            let burst = (rate as usize / 10).max(1);
            assert!(
                (share..=share + burst + 1).contains(&count),
                "{rate}: {count}"
            );
        }
    }

    #[test]
    fn the_wait_is_as_long_as_it_must_be() {
        let limits = limits(10);
        let now = Duration::from_secs(3);
        assert_eq!(limits.take(now), Ok(()));
        let wait = limits.take(now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(
            limits.take(now + wait - Duration::from_nanos(1)),
            Err(Duration::from_nanos(1))
        );
        assert_eq!(limits.take(now + wait), Ok(()));
    }

    #[test]
    fn another_rate_holds_at_once() {
        let limits = limits(1);
        let now = Duration::from_secs(3);
        assert_eq!(limits.take(now), Ok(()));
        limits.set(&registry::Limits {
            commands_per_second: Some(1000),
            ..registry::Limits::default()
        });
        assert!(limits.take(now).unwrap_err() <= Duration::from_millis(1));
        limits.set(&registry::Limits::default());
        assert_eq!(limits.take(now), Ok(()));
    }

    #[test]
    fn what_is_set_can_be_read() {
        let set = registry::Limits {
            memory_bytes: Some(1 << 40),
            connections: Some(3),
            ..registry::Limits::default()
        };
        let limits = Limits::default();
        limits.set(&set);
        assert_eq!(limits.get(), set);
        limits.set(&registry::Limits::default());
        assert!(limits.get().is_none());
    }
}
