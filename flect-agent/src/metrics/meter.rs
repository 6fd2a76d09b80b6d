//! What one worker counts for one store.
//!
//! Invariant: only the worker that owns a meter writes it, so a count is a plain load and store that no
//! other core contends for; whoever reads it may be a few requests late.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, TryLockError};

use super::counter::Counter;
use super::histogram::{BUCKETS, bucket};
use super::lookups::Lookups;
use super::sketch::Sketch;
use super::stats::{self, CommandStats, Stats};
use crate::commands::{self, Command};

/// One worker's counts of one store. Aligned so that two meters never share a cache line, nor the pair
/// of lines that a processor fetches at once.
#[derive(Debug)]
#[repr(align(128))]
pub struct Meter {
    /// Replies that were errors.
    pub errors: Counter,
    /// What the agent turned down by policy or limit: commands, and connections beyond the limit.
    pub refused: Counter,
    /// Clients that were disconnected for what was held for them.
    pub disconnected: Counter,
    /// Requests that waited for the store's rate.
    pub delayed: Counter,
    /// Replies and messages that integrity mode withheld.
    pub violations: Counter,
    /// Keys that commands looked for and found, looked for in vain, and changes: see [`super::lookups`].
    pub hits: Counter,
    /// See [`Self::hits`].
    pub misses: Counter,
    /// See [`Self::hits`].
    pub changes: Counter,
    /// Bytes that clients sent.
    pub bytes_in: Counter,
    /// Bytes that clients took.
    pub bytes_out: Counter,
    /// By the number of the command; made when it comes for the first time, since an app uses few.
    commands: Box<[OnceLock<Box<CommandMeter>>]>,
    /// Requests that name no command.
    unknown: Counter,
    latency: [Counter; BUCKETS],
    latency_sum_us: Counter,
    latency_max_us: Counter,
    keys: Mutex<Sketch>,
    /// Errors by their first word.
    error_words: Mutex<BTreeMap<Vec<u8>, u64>>,
}

/// What is counted of one command.
#[derive(Debug)]
struct CommandMeter {
    requests: Counter,
    us: Counter,
    rejected: Counter,
    failed: Counter,
    latency: [Counter; BUCKETS],
}

impl Default for CommandMeter {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            us: Counter::default(),
            rejected: Counter::default(),
            failed: Counter::default(),
            latency: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// Different first words of errors that are counted, as in Valkey: scripts can make up any.
const ERROR_WORDS_MAX: usize = 128;

impl Default for Meter {
    fn default() -> Self {
        Self {
            errors: Counter::default(),
            refused: Counter::default(),
            disconnected: Counter::default(),
            delayed: Counter::default(),
            violations: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            changes: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            commands: commands::all().iter().map(|_| OnceLock::new()).collect(),
            unknown: Counter::default(),
            latency: std::array::from_fn(|_| Counter::default()),
            latency_sum_us: Counter::default(),
            latency_max_us: Counter::default(),
            keys: Mutex::default(),
            error_words: Mutex::default(),
        }
    }
}

impl Meter {
    /// A request has been taken.
    #[inline]
    pub fn request(&self, command: Option<&Command>) {
        match command.and_then(|command| self.command(command.number)) {
            Some(command) => command.requests.add(1),
            None => self.unknown.add(1),
        }
    }

    #[inline]
    fn command(&self, number: u16) -> Option<&CommandMeter> {
        let slot = self.commands.get(usize::from(number))?;
        Some(slot.get_or_init(Box::default))
    }

    /// A command has been carried out within so many microseconds.
    #[inline]
    pub fn carried_out(&self, number: u16, latency_us: u32) {
        if let Some(command) = self.command(number) {
            command.us.add(u64::from(latency_us));
            command.latency[bucket(latency_us)].add(1);
        }
    }

    /// A reply is this error, without its dash.
    pub fn error(&self, number: Option<u16>, error: &[u8]) {
        self.errors.add(1);
        if let Some(command) = number.and_then(|number| self.command(number)) {
            let counter = if stats::is_rejection(error) {
                &command.rejected
            } else {
                &command.failed
            };
            counter.add(1);
        }
        let mut words = super::lock(&self.error_words);
        let word = stats::first_word(error);
        if let Some(count) = words.get_mut(word) {
            *count += 1;
        } else if words.len() < ERROR_WORDS_MAX {
            words.insert(word.to_vec(), 1);
        }
    }

    /// A reply that is no error has told so much.
    #[inline]
    pub fn looked(&self, lookups: Lookups) {
        // Most replies tell one of them.
        if lookups.hits > 0 {
            self.hits.add(lookups.hits);
        }
        if lookups.misses > 0 {
            self.misses.add(lookups.misses);
        }
        if lookups.changes > 0 {
            self.changes.add(lookups.changes);
        }
    }

    /// A reply has come so long after its request.
    #[inline]
    pub fn reply(&self, latency_us: u32) {
        self.latency[bucket(latency_us)].add(1);
        self.latency_sum_us.add(u64::from(latency_us));
        self.latency_max_us.raise(u64::from(latency_us));
    }

    /// A key of a request. Left out while somebody reads: it is a sample anyway.
    pub fn key(&self, key: &[u8]) {
        match self.keys.try_lock() {
            Ok(mut keys) => keys.note(key),
            Err(TryLockError::Poisoned(keys)) => keys.into_inner().note(key),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    pub(super) fn add_to_stats(&self, stats: &mut Stats) {
        for (number, slot) in self.commands.iter().enumerate() {
            let Some(command) = slot.get() else { continue };
            let counted = CommandStats {
                requests: command.requests.get(),
                us: command.us.get(),
                rejected: command.rejected.get(),
                failed: command.failed.get(),
                latency: std::array::from_fn(|at| command.latency[at].get()),
            };
            stats.add(number, counted);
        }
        for (word, count) in super::lock(&self.error_words).iter() {
            let word = String::from_utf8_lossy(word).into_owned();
            *stats.errors.entry(word).or_default() += count;
        }
        stats.bytes_in += self.bytes_in.get();
        stats.bytes_out += self.bytes_out.get();
        stats.unknown += self.unknown.get();
        stats.hits += self.hits.get();
        stats.misses += self.misses.get();
        stats.changes += self.changes.get();
        stats.error_replies += self.errors.get();
    }

    pub(super) fn add_to(&self, sum: &mut super::Sum) {
        sum.errors += self.errors.get();
        sum.refused += self.refused.get();
        sum.disconnected += self.disconnected.get();
        sum.delayed += self.delayed.get();
        sum.violations += self.violations.get();
        sum.bytes_in += self.bytes_in.get();
        sum.bytes_out += self.bytes_out.get();
        for (sum, counter) in sum.commands.iter_mut().zip(&self.commands) {
            *sum += counter.get().map_or(0, |command| command.requests.get());
        }
        sum.unknown += self.unknown.get();
        for (sum, counter) in sum.latency.iter_mut().zip(&self.latency) {
            *sum += counter.get();
        }
        sum.latency_sum_us += self.latency_sum_us.get();
        sum.latency_max_us = sum.latency_max_us.max(self.latency_max_us.get());
        super::lock(&self.keys).add_to(&mut sum.keys);
    }
}

/// Says which requests' keys are noted: one in [`SAMPLED`] on average, at random, so that a pattern in
/// the requests cannot hide from it.
#[derive(Debug)]
pub struct Sampler {
    left: u32,
    state: u32,
}

/// Requests for each whose key is noted: rare enough to cost nothing, often enough that a second of
/// traffic shows what is hot.
pub const SAMPLED: u32 = 32;

impl Default for Sampler {
    fn default() -> Self {
        Self {
            left: SAMPLED,
            state: 0x9e37_79b9,
        }
    }
}

impl Sampler {
    /// Whether this request is one of them.
    #[inline]
    pub fn takes(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        // xorshift32; its period is long enough and its quality good enough for gaps.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.left = 1 + self.state % (2 * SAMPLED - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_many_is_sampled() {
        let mut sampler = Sampler::default();
        let requests = 320_000;
        let taken = (0..requests).filter(|_| sampler.takes()).count();
        let expected = requests / SAMPLED as usize;
        assert!(
            taken.abs_diff(expected) < expected / 20,
            "{taken} of {requests}"
        );
    }
}
