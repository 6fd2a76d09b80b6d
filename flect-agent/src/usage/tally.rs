//! What was found of one store so far, and what follows from it; knows no sockets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::{self, Estimate, Sizes};

/// Biggest keys that are remembered.
const BIGGEST: usize = 10;

/// The classes of remaining lives: their ends in milliseconds, and what they are called. Keys past
/// the last one, and those that never expire, have classes of their own.
pub const TTL_BOUNDS: [(i64, &str); 6] = [
    (60_000, "under a minute"),
    (3_600_000, "under an hour"),
    (86_400_000, "under a day"),
    (7 * 86_400_000, "under a week"),
    (30 * 86_400_000, "under 30 days"),
    (i64::MAX, "30 days and more"),
];

/// What the class without an end is called.
const NEVER: &str = "never";

/// One key as the server describes it.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) database: u32,
    pub(super) key: Vec<u8>,
    pub(super) bytes: u64,
    pub(super) kind: String,
    /// Milliseconds; negative when it does not expire.
    pub(super) ttl: i64,
}

/// What was found of one store so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    found: u64,
    sizes: Sizes,
    kinds: BTreeMap<String, (u64, u64)>,
    databases: BTreeMap<u32, u64>,
    ttls: [u64; TTL_BOUNDS.len() + 1],
    biggest: Vec<Big>,
}

/// A big key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Big {
    /// The app's name for it; bytes that are no text are replaced.
    pub key: String,
    /// Its database.
    pub database: u32,
    /// `string`, `hash` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// As `MEMORY USAGE` counts.
    pub memory_bytes: u64,
}

/// Keys of one type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeUsage {
    /// `string`, `hash` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// About so many keys.
    pub keys: f64,
    /// About so many bytes.
    pub memory_bytes: f64,
}

/// What a store holds.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// How many keys.
    pub keys: Estimate,
    /// Bytes of keys and values, as `MEMORY USAGE` counts them.
    pub memory_bytes: Estimate,
    /// Every name of the server was looked at, so keys are counted.
    pub walked_all: bool,
    /// Every key was measured, so bytes are summed up.
    pub measured_all: bool,
    /// Keys found.
    pub found: u64,
    /// Keys measured.
    pub measured: u64,
    /// By type, the biggest first.
    pub types: Vec<TypeUsage>,
    /// Keys by database.
    pub databases: BTreeMap<u32, f64>,
    /// Keys by how long they live.
    pub expires: Vec<(&'static str, f64)>,
    /// The biggest keys that were met.
    pub biggest: Vec<Big>,
}

impl Tally {
    /// A key was found.
    pub(super) fn find(&mut self) {
        self.found += 1;
    }

    /// A key that was found is gone.
    pub(super) fn lose(&mut self) {
        self.found = self.found.saturating_sub(1);
    }

    /// A key that was found is measured.
    pub(super) fn measure(&mut self, key: Measured) {
        self.sizes.add(key.bytes);
        let kind = self.kinds.entry(key.kind.clone()).or_default();
        kind.0 += 1;
        kind.1 += key.bytes;
        *self.databases.entry(key.database).or_default() += 1;
        let class = if key.ttl < 0 {
            TTL_BOUNDS.len()
        } else {
            TTL_BOUNDS
                .iter()
                .position(|(end, _)| key.ttl < *end)
                .unwrap_or(TTL_BOUNDS.len() - 1)
        };
        self.ttls[class] += 1;
        let at = self
            .biggest
            .partition_point(|big| big.memory_bytes >= key.bytes);
        if at < BIGGEST {
            let big = Big {
                key: String::from_utf8_lossy(&key.key).into_owned(),
                database: key.database,
                kind: key.kind,
                memory_bytes: key.bytes,
            };
            self.biggest.insert(at, big);
            self.biggest.truncate(BIGGEST);
        }
    }

    pub(super) fn found(&self) -> u64 {
        self.found
    }

    pub(super) fn measured(&self) -> u64 {
        self.sizes.count
    }

    /// How well the sizes alone are known: the error there would be with every key found.
    pub(super) fn error_of_sizes(&self) -> f64 {
        estimate::total(self.found, 1.0, &self.sizes).error()
    }

    /// The error of keys or bytes, whichever is larger.
    pub(super) fn error(&self, fraction: f64) -> f64 {
        let keys = estimate::keys(self.found, fraction);
        let bytes = estimate::total(self.found, fraction, &self.sizes);
        if self.found == 0 && fraction >= 1.0 {
            return 0.0;
        }
        keys.error().max(bytes.error())
    }

    /// What follows when the part `fraction` of all names was looked at.
    pub(super) fn usage(&self, fraction: f64) -> Usage {
        let keys = estimate::keys(self.found, fraction);
        let memory_bytes = estimate::total(self.found, fraction, &self.sizes);
        let measured = self.sizes.count as f64;
        let part = |count: u64| {
            if measured > 0.0 {
                count as f64 / measured * keys.value
            } else {
                0.0
            }
        };
        let mut types: Vec<TypeUsage> = self
            .kinds
            .iter()
            .map(|(kind, (count, bytes))| TypeUsage {
                kind: kind.clone(),
                keys: part(*count),
                memory_bytes: *bytes as f64 / self.sizes.sum.max(1.0) * memory_bytes.value,
            })
            .collect();
        types.sort_by(|a, b| b.memory_bytes.total_cmp(&a.memory_bytes));
        let names = TTL_BOUNDS.iter().map(|(_, name)| *name).chain([NEVER]);
        Usage {
            keys,
            memory_bytes,
            walked_all: fraction >= 1.0,
            measured_all: fraction >= 1.0 && self.sizes.count == self.found,
            found: self.found,
            measured: self.sizes.count,
            types,
            databases: self
                .databases
                .iter()
                .map(|(database, count)| (*database, part(*count)))
                .collect(),
            expires: names
                .zip(self.ttls.iter().map(|count| part(*count)))
                .collect(),
            biggest: self.biggest.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64, kind: &str, ttl: i64) -> Measured {
        Measured {
            database: 0,
            key: format!("k{number}").into_bytes(),
            bytes: number,
            kind: kind.to_owned(),
            ttl,
        }
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let mut tally = Tally::default();
        for number in 1..=100 {
            tally.find();
            let kind = if number % 4 == 0 { "hash" } else { "string" };
            let ttl = if number % 2 == 0 { -1 } else { 30_000 };
            tally.measure(key(number, kind, ttl));
        }
        let usage = tally.usage(0.5);
        assert_eq!(usage.keys.value, 200.0);
        assert!((usage.memory_bytes.value - 10_100.0).abs() < 1e-6);
        let types: f64 = usage.types.iter().map(|kind| kind.memory_bytes).sum();
        assert!((types - 10_100.0).abs() < 1e-6);
        let expires: f64 = usage.expires.iter().map(|(_, keys)| keys).sum();
        assert!((expires - 200.0).abs() < 1e-6);
        let biggest: Vec<u64> = usage.biggest.iter().map(|big| big.memory_bytes).collect();
        assert_eq!(biggest, (91..=100).rev().collect::<Vec<u64>>());
        assert!(!usage.measured_all && tally.usage(1.0).measured_all);
    }
}
