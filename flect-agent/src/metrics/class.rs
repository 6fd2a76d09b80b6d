//! Commands by what they do to a server: few enough to be labels of what is monitored.
//!
//! Invariant: every request is of exactly one class.

use super::histogram::BUCKETS;
use super::stats::{CommandStats, Stats};
use crate::commands::{self, Command, Flags};

/// A kind of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Looks at keys.
    Read,
    /// Changes keys.
    Write,
    /// May wait for another client, so its duration tells nothing of the server.
    Blocking,
    /// Scripts and functions: what they do is up to the app.
    Script,
    /// MULTI, EXEC and their like.
    Transaction,
    /// Channels.
    PubSub,
    /// Everything else: the connection, the store as a whole, questions about it.
    Other,
    /// No command that is known.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Blocking,
        Self::Script,
        Self::Transaction,
        Self::PubSub,
        Self::Other,
        Self::Unknown,
    ];

    /// What it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Blocking => "blocking",
            Self::Script => "script",
            Self::Transaction => "transaction",
            Self::PubSub => "pubsub",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// The class of a command.
    #[must_use]
    pub fn of(command: &Command) -> Self {
        let container = command.name.split('|').next().unwrap_or_default();
        match container {
            "multi" | "exec" | "discard" | "watch" | "unwatch" => return Self::Transaction,
            "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" | "script"
            | "function" => return Self::Script,
            _ => {}
        }
        let has = |flag| command.flags.has(flag);
        if has(Flags::BLOCKING) {
            Self::Blocking
        } else if has(Flags::PUBSUB) {
            Self::PubSub
        } else if has(Flags::WRITE) {
            Self::Write
        } else if has(Flags::READONLY) {
            Self::Read
        } else {
            Self::Other
        }
    }
}

/// What is counted of each class of which there were requests.
#[must_use]
pub fn by_class(stats: &Stats) -> Vec<(Class, CommandStats)> {
    let mut sums = Class::ALL.map(|class| (class, CommandStats::default()));
    for command in commands::all() {
        if let Some(counted) = stats.command(command.name) {
            // `ALL` stands in the order of the values.
            sums[Class::of(command) as usize].1.add(counted);
        }
    }
    sums[Class::Unknown as usize].1.requests += stats.unknown;
    let mut sums = Vec::from(sums);
    sums.retain(|(_, sum)| sum.requests > 0);
    sums
}

/// Buckets that are told, as powers of two of microseconds: 64 us, about a round trip on the machine, to
/// 8.4 s, longer than any client waits. The rest is in the first and the last.
const TOLD: std::ops::RangeInclusive<usize> = 6..=23;

/// Durations as upper bounds in seconds and the values of each bucket, the last without bound.
pub fn durations(latency: &[u64; BUCKETS]) -> Vec<(f64, u64)> {
    let (first, last) = (*TOLD.start(), *TOLD.end());
    let bound = |at: usize| (1_u64 << at) as f64 / 1e6;
    let mut told = vec![(bound(first), latency[..=first].iter().sum())];
    told.extend((first + 1..=last).map(|at| (bound(at), latency[at])));
    told.push((f64::MAX, latency[last + 1..].iter().sum()));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        let command = commands::all().iter().find(|c| c.name == name).unwrap();
        Class::of(command)
    }

    #[test]
    fn classes_are_what_operators_expect() {
        for (name, expect) in [
            ("get", Class::Read),
            ("set", Class::Write),
            ("xgroup|create", Class::Write),
            ("blpop", Class::Blocking),
            ("eval", Class::Script),
            ("script|load", Class::Script),
            ("exec", Class::Transaction),
            ("publish", Class::PubSub),
            ("ping", Class::Other),
            ("client|list", Class::Other),
        ] {
            assert_eq!(class(name), expect, "{name}");
        }
    }

    #[test]
    fn classes_are_places() {
        for (at, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, at);
        }
    }

    #[test]
    fn no_duration_is_lost() {
        let latency = std::array::from_fn(|at| 1 << at);
        let told = durations(&latency);
        let sum: u64 = told.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, latency.iter().sum::<u64>());
        assert!(told.is_sorted_by(|a, b| a.0 < b.0));
        // 100 us has 7 bits: it is at most 128 us, and more than 64.
        let mut latency = [0; BUCKETS];
        latency[super::super::histogram::bucket(100)] = 1;
        let told = durations(&latency);
        assert_eq!(told[1], (0.000_128, 1));
    }
}
