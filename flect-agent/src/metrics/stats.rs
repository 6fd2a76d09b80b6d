//! What a store's INFO and LATENCY HISTOGRAM tell of its commands and errors on this node, since its
//! apps have last reset it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::histogram::{BUCKETS, Histogram};
use crate::commands;
use crate::environment::Store;

/// What is counted of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandStats {
    /// Requests, the refused ones included.
    pub requests: u64,
    /// Microseconds of all replies together.
    pub us: u64,
    /// Refused before they were carried out.
    pub rejected: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Replies by how long they took: see [`super::histogram`].
    pub latency: [u64; BUCKETS],
}

impl Default for CommandStats {
    fn default() -> Self {
        Self {
            requests: 0,
            us: 0,
            rejected: 0,
            failed: 0,
            latency: [0; BUCKETS],
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub(super) commands: BTreeMap<&'static str, CommandStats>,
    pub(super) errors: BTreeMap<String, u64>,
    /// Bytes that clients sent.
    pub bytes_in: u64,
    /// Bytes that clients took.
    pub bytes_out: u64,
    /// Requests of which none of the commands is known.
    pub unknown: u64,
    /// Replies that were errors.
    pub error_replies: u64,
    /// Keys that were found by reads.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Changes since the agent's start: nothing that an app does begins this anew.
    pub changes: u64,
    /// Connections that there have been.
    pub connections: u64,
}

/// How fast a store's counts grow: what `instantaneous_*` in INFO tells.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Option<RateSamples>>);

#[derive(Clone, Copy, Debug)]
struct RateSamples {
    before: Sample,
    last: Sample,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counts: [u64; 3],
}

/// A rate is taken over at least this, so that two looks in a row do not see chance.
const RATE_OVER: Duration = Duration::from_secs(1);

impl Rates {
    /// Commands, bytes in and bytes out in a second, by these counts now and earlier ones. Counts are
    /// looked at when somebody asks, so the first answer is 0.
    pub fn take(&self, stats: &Stats) -> [u64; 3] {
        let now = Sample {
            at: Instant::now(),
            counts: [stats.calls(), stats.bytes_in, stats.bytes_out],
        };
        let mut kept = super::lock(&self.0);
        let Some(samples) = kept.as_mut() else {
            *kept = Some(RateSamples {
                before: now,
                last: now,
            });
            return [0; 3];
        };
        if now.at - samples.last.at >= RATE_OVER {
            samples.before = samples.last;
            samples.last = now;
        }
        let elapsed_ms = (now.at - samples.before.at).as_millis().max(1);
        std::array::from_fn(|at| {
            let more = now.counts[at].saturating_sub(samples.before.counts[at]);
            u64::try_from(u128::from(more) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
        })
    }
}

impl CommandStats {
    /// What is counted of one more.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.us += other.us;
        self.rejected += other.rejected;
        self.failed += other.failed;
        for (sum, count) in self.latency.iter_mut().zip(other.latency) {
            *sum += count;
        }
    }

    /// How many were carried out.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.requests.saturating_sub(self.rejected)
    }

    /// Of how many it is known how long they took.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.latency.iter().sum()
    }

    /// How the times are spread.
    #[must_use]
    pub fn spread(&self) -> Histogram {
        let last = self.latency.iter().rposition(|count| *count > 0);
        Histogram::new(
            &self.latency,
            self.us,
            last.map_or(0, |last| (1 << last) - 1),
        )
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            us: self.us.saturating_sub(before.us),
            rejected: self.rejected.saturating_sub(before.rejected),
            failed: self.failed.saturating_sub(before.failed),
            latency: std::array::from_fn(|at| self.latency[at].saturating_sub(before.latency[at])),
        }
    }
}

impl Stats {
    /// What all workers have counted of a store since its agent's start.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let mut stats = Self {
            connections: store.connections(),
            ..Self::default()
        };
        for meter in store.meters() {
            meter.add_to_stats(&mut stats);
        }
        stats
    }

    /// The same without what had been counted before.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (name, command) in &mut self.commands {
            if let Some(before) = before.commands.get(name) {
                *command = command.since(before);
            }
        }
        self.commands.retain(|_, command| command.requests > 0);
        for (word, count) in &mut self.errors {
            *count = count.saturating_sub(before.errors.get(word).copied().unwrap_or(0));
        }
        self.errors.retain(|_, count| *count > 0);
        self.bytes_in = self.bytes_in.saturating_sub(before.bytes_in);
        self.bytes_out = self.bytes_out.saturating_sub(before.bytes_out);
        self.unknown = self.unknown.saturating_sub(before.unknown);
        self.error_replies = self.error_replies.saturating_sub(before.error_replies);
        self.hits = self.hits.saturating_sub(before.hits);
        self.misses = self.misses.saturating_sub(before.misses);
        self.connections = self.connections.saturating_sub(before.connections);
        self
    }

    /// The commands that there have been, by name.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.keys().copied()
    }

    /// Commands that were carried out.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.commands.values().map(CommandStats::calls).sum()
    }

    /// What is counted of one command.
    #[must_use]
    pub fn command(&self, name: &str) -> Option<&CommandStats> {
        self.commands.get(name)
    }

    /// Errors by their first word.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    pub(super) fn add(&mut self, number: usize, command: CommandStats) {
        let Some(known) = commands::all().get(number) else {
            return;
        };
        self.commands.entry(known.name).or_default().add(&command);
    }
}

/// What LATENCY HISTOGRAM shows: an upper bound in microseconds and how many values are not above it, for
/// every bucket that holds some. Valkey's bounds are powers of two in units of 1,024 nanoseconds
/// (`fillCommandCDF` in latency.c), so the numbers are written as there.
pub fn cumulative(latency: &[u64; BUCKETS]) -> impl Iterator<Item = (u64, u64)> {
    let mut sum = 0;
    latency.iter().enumerate().filter_map(move |(at, count)| {
        sum += count;
        (*count > 0).then(|| (((1 << at) * 1024) / 1000, sum))
    })
}

/// Whether an error says that a command was not carried out at all.
#[must_use]
pub fn is_rejection(error: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"OOM",
        b"NOPERM",
        b"NOAUTH",
        b"LOADING",
        b"BUSY",
        b"READONLY",
        b"MISCONF",
        b"NOREPLICAS",
        b"MASTERDOWN",
        b"EXECABORT",
    ];
    let word = first_word(error);
    WORDS.contains(&word)
        || error.starts_with(b"ERR wrong number of arguments")
        || error.starts_with(b"ERR unknown ")
}

/// What an error begins with; Valkey counts errors by it.
#[must_use]
pub fn first_word(error: &[u8]) -> &[u8] {
    let end = error.iter().position(|byte| b" \r\n".contains(byte));
    &error[..end.unwrap_or(error.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_valkeys() {
        let mut latency = [0; BUCKETS];
        for at in [0, 1, 4, 5, 10] {
            latency[at] = 2;
        }
        let shown: Vec<_> = cumulative(&latency).collect();
        assert_eq!(shown, [(1, 2), (2, 4), (16, 6), (32, 8), (1048, 10)]);
    }

    #[test]
    fn errors_are_told_by_their_first_word() {
        assert_eq!(first_word(b"WRONGTYPE Operation"), b"WRONGTYPE");
        assert_eq!(first_word(b"EXECABORT\r\n"), b"EXECABORT");
        assert!(is_rejection(b"OOM command not allowed"));
        assert!(is_rejection(
            b"ERR wrong number of arguments for 'get' command"
        ));
        assert!(!is_rejection(
            b"ERR value is not an integer or out of range"
        ));
        assert!(!is_rejection(b"WRONGTYPE Operation"));
    }
}
