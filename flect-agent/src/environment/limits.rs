//! What a store may use on this node, as the control side sets it and the workers obey it.
//!
//! Invariant: a worker reads a limit without waiting for anybody. What all workers write (the tokens of
//! [`Limits::take`]) is on a cache line of its own and touched only where there is a rate.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::registry;

/// What each store may use on this node where its record says nothing else: `[limits]` of `agent.toml`.
/// 0 is no limit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Open connections at once.
    pub connections: u32,
    /// Connections to Valkey that the store's clients have for themselves: while they block, subscribe,
    /// watch, are in a transaction, or move large values.
    pub upstreams: u32,
    /// Requests and replies on their way that the agent holds for the store's clients, in bytes.
    pub buffer_bytes: u64,
    /// How long a script of any store may keep the server from all of them, in seconds from its first
    /// BUSY on.
    pub busy_seconds: u32,
    /// Network namespaces of one app in which the agent listens; not of a store, but of an app, and of all
    /// processes together that no app claims.
    pub namespaces: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            // Valkey's own `maxclients`.
            connections: 10_000,
            // A tenth of Valkey's `maxclients`, so that it takes more than one store to use them up.
            upstreams: 1000,
            // Half of the largest value: a client holds so much only if it does not read.
            buffer_bytes: 256 * 1024 * 1024,
            // As long again as the server's own `busy-reply-threshold`.
            busy_seconds: 5,
            // More than the pods of a node, all of one app (110 by Kubernetes' default, 250 where it is raised);
            // 32 apps at it fill what the hooks have room for.
            namespaces: 256,
        }
    }
}

/// What a store may use. 0 is no limit.
#[derive(Debug)]
pub struct Limits {
    connections: AtomicU32,
    upstreams: AtomicU32,
    buffer_bytes: AtomicU64,
    defaults: [AtomicU64; 3],
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

/// The places of [`Limits::defaults`].
const CONNECTIONS: usize = 0;
const UPSTREAMS: usize = 1;
const BUFFER_BYTES: usize = 2;

impl Default for Limits {
    fn default() -> Self {
        let limits = Self {
            connections: AtomicU32::default(),
            upstreams: AtomicU32::default(),
            buffer_bytes: AtomicU64::default(),
            defaults: Default::default(),
            commands_per_second: AtomicU32::default(),
            memory_bytes: AtomicU64::default(),
            memory_exceeded: AtomicBool::default(),
            tokens: Tokens::default(),
        };
        limits.set_defaults(&Defaults::default());
        limits
    }
}

impl Limits {
    /// What holds where the registry says nothing.
    pub fn set_defaults(&self, defaults: &Defaults) {
        let bytes = [
            u64::from(defaults.connections),
            u64::from(defaults.upstreams),
            defaults.buffer_bytes,
        ];
        for (slot, value) in self.defaults.iter().zip(bytes) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    fn or_default(&self, set: u64, place: usize) -> usize {
        let limit = match set {
            0 => self.defaults[place].load(Ordering::Relaxed),
            set => set,
        };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Takes over what the registry says.
    pub fn set(&self, limits: &registry::Limits) {
        let of = |limit: Option<u32>| limit.unwrap_or(0);
        self.connections
            .store(of(limits.connections), Ordering::Relaxed);
        self.upstreams
            .store(of(limits.upstreams), Ordering::Relaxed);
        self.buffer_bytes
            .store(limits.buffer_bytes.unwrap_or(0), Ordering::Relaxed);
        let rate = of(limits.commands_per_second);
        if self.commands_per_second.swap(rate, Ordering::Relaxed) != rate {
            // What was reserved at the old rate must not delay what the new one allows.
            self.tokens.due_ns.store(0, Ordering::Relaxed);
        }
        self.memory_bytes
            .store(limits.memory_bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is set, in the registry's words.
    #[must_use]
    pub fn get(&self) -> registry::Limits {
        let some = |limit: u32| (limit > 0).then_some(limit);
        let memory_bytes = self.memory_bytes.load(Ordering::Relaxed);
        let buffer_bytes = self.buffer_bytes.load(Ordering::Relaxed);
        registry::Limits {
            memory_bytes: (memory_bytes > 0).then_some(memory_bytes),
            connections: some(self.connections.load(Ordering::Relaxed)),
            upstreams: some(self.upstreams.load(Ordering::Relaxed)),
            buffer_bytes: (buffer_bytes > 0).then_some(buffer_bytes),
            commands_per_second: some(self.commands_per_second.load(Ordering::Relaxed)),
            ..registry::Limits::default()
        }
    }

    /// Open sessions at once; 0 is no limit.
    #[must_use]
    pub fn connections(&self) -> usize {
        let set = self.connections.load(Ordering::Relaxed);
        self.or_default(set.into(), CONNECTIONS)
    }

    /// Upstream connections that sessions have for themselves at once; 0 is no limit.
    #[must_use]
    pub fn upstreams(&self) -> usize {
        let set = self.upstreams.load(Ordering::Relaxed);
        self.or_default(set.into(), UPSTREAMS)
    }

    /// Bytes that are held for sessions; 0 is no limit.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let set = self.buffer_bytes.load(Ordering::Relaxed);
        self.or_default(set, BUFFER_BYTES)
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

    /// Whether commands are counted at all.
    #[inline]
    #[must_use]
    pub fn has_rate(&self) -> bool {
        self.rate() > 0
    }

    /// Commands in a second; 0 is no limit.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.commands_per_second.load(Ordering::Relaxed)
    }

    /// Takes the right to one command now, at a time counted from any fixed moment; `false` when the
    /// store has had its share.
    #[must_use]
    pub fn take(&self, now: Duration) -> bool {
        match self.rate() {
            0 => true,
            rate => self.tokens.take(u64::from(rate), now),
        }
    }

    /// Takes the right to one command in advance, and says at what time. Whoever reserves is served in
    /// turn, so that no worker is always later than another.
    #[must_use]
    pub fn reserve(&self, now: Duration) -> Duration {
        match self.rate() {
            0 => now,
            rate => now + self.tokens.reserve(u64::from(rate), now),
        }
    }
}

/// A token bucket kept as one number, the moment at which it is full again (the generic cell rate
/// algorithm), so that workers share it without a lock.
impl Tokens {
    fn take(&self, rate: u64, now: Duration) -> bool {
        let (interval_ns, burst_ns, now_ns) = terms(rate, now);
        let take = |due_ns: u64| {
            let next_ns = due_ns.max(now_ns) + interval_ns;
            (next_ns <= now_ns + burst_ns).then_some(next_ns)
        };
        let relaxed = Ordering::Relaxed;
        self.due_ns.fetch_update(relaxed, relaxed, take).is_ok()
    }

    fn reserve(&self, rate: u64, now: Duration) -> Duration {
        let (interval_ns, burst_ns, now_ns) = terms(rate, now);
        let next = |due_ns: u64| due_ns.max(now_ns) + interval_ns;
        let relaxed = Ordering::Relaxed;
        let (Ok(before_ns) | Err(before_ns)) =
            self.due_ns
                .fetch_update(relaxed, relaxed, |due_ns| Some(next(due_ns)));
        Duration::from_nanos(next(before_ns).saturating_sub(now_ns + burst_ns))
    }
}

/// The time between two commands, what may come at once after a pause, and now: in nanoseconds.
fn terms(rate: u64, now: Duration) -> (u64, u64, u64) {
    let interval_ns = SECOND_NS / rate;
    // 500 years fit.
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
    (interval_ns, BURST_NS.max(interval_ns), now_ns)
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
        let mut passed = 0;
        for now in (0..milliseconds).map(|ms| from + Duration::from_millis(ms)) {
            while limits.take(now) {
                passed += 1;
            }
        }
        passed
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
    fn reservations_come_one_after_the_other() {
        let limits = limits(10);
        let now = Duration::from_secs(3);
        assert!(limits.take(now));
        assert!(!limits.take(now));
        for number in 1..4 {
            assert_eq!(
                limits.reserve(now),
                now + Duration::from_millis(100 * number)
            );
        }
        assert!(
            !limits.take(now + Duration::from_millis(399)),
            "ahead of those"
        );
        assert!(limits.take(now + Duration::from_millis(400)));
        let later = now + Duration::from_secs(9);
        assert_eq!(limits.reserve(later), later, "there is enough");
    }

    #[test]
    fn another_rate_holds_at_once() {
        let limits = limits(1);
        let now = Duration::from_secs(3);
        assert!(limits.take(now));
        let _ = limits.reserve(now);
        assert!(!limits.take(now));
        limits.set(&registry::Limits {
            commands_per_second: Some(1000),
            ..registry::Limits::default()
        });
        assert!(limits.take(now));
        limits.set(&registry::Limits::default());
        assert!((0..1000).all(|_| limits.take(now)));
    }

    #[test]
    fn what_the_registry_does_not_say_the_node_says() {
        let limits = Limits::default();
        let defaults = Defaults::default();
        assert_eq!(limits.connections(), defaults.connections as usize);
        limits.set(&registry::Limits {
            connections: Some(20_000),
            ..registry::Limits::default()
        });
        assert_eq!(limits.connections(), 20_000);
        assert_eq!(limits.upstreams(), defaults.upstreams as usize);
        limits.set_defaults(&Defaults {
            connections: 5,
            upstreams: 0,
            buffer_bytes: 7,
            busy_seconds: 0,
            namespaces: 0,
        });
        assert_eq!(limits.connections(), 20_000);
        assert_eq!((limits.upstreams(), limits.buffer_bytes()), (0, 7));
        limits.set(&registry::Limits::default());
        assert_eq!(limits.connections(), 5);
    }

    #[test]
    fn what_is_set_can_be_read() {
        let set = registry::Limits {
            memory_bytes: Some(1 << 40),
            connections: Some(3),
            upstreams: Some(4),
            buffer_bytes: Some(5),
            ..registry::Limits::default()
        };
        let limits = Limits::default();
        limits.set(&set);
        assert_eq!(limits.get(), set);
        limits.set(&registry::Limits::default());
        assert!(limits.get().is_none());
    }
}
