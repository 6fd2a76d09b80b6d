//! What the agent tells about its stores: counts since its start, which readers subtract.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`class`] | commands by what they do, for monitoring |
//! | [`meter`] | what one worker counts for one store, without waiting for anybody |
//! | [`histogram`] | latencies in powers of two |
//! | [`lookups`] | hits, misses and changes, as replies tell them |
//! | [`sketch`] | the hottest keys, in bounded memory |
//! | [`stats`] | what INFO and LATENCY tell an app of its own commands |
//!
//! Invariant: the sum over all workers is taken when somebody asks; the data path knows only its own
//! [`Meter`]. Keys are the store's own, without its prefix.

pub mod class;
mod counter;
pub mod histogram;
pub mod lookups;
pub mod meter;
pub mod sketch;
pub mod stats;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, atomic};

use serde::{Deserialize, Serialize};

use crate::commands;
use crate::environment::Store;
pub use counter::Counter;
pub use histogram::Histogram;
pub use meter::Meter;

/// How many commands and keys are told.
pub const TOP: usize = 20;

/// Everything, as `op: metrics` and `/metrics.json` answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken: milliseconds since 1970.
    pub at_ms: u64,
    /// Since the agent's start.
    pub uptime_ms: u64,
    /// The agent itself.
    pub node: NodeMetrics,
    /// Every store of this node's apps.
    pub stores: Vec<StoreMetrics>,
    /// The last connections that were refused, oldest first.
    pub refusals: Vec<Refusal>,
}

/// The agent's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeMetrics {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Processor time since the start, user and system.
    pub cpu_seconds: f64,
    /// Open client connections.
    pub sessions: usize,
    /// Open connections to Valkey.
    pub upstreams: usize,
    /// Event loops.
    pub workers: usize,
}

/// One store on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreMetrics {
    /// Its name.
    pub name: String,
    /// What its keys begin with.
    pub prefix: String,
    /// The apps that may use it; filled in by the daemon.
    pub apps: Vec<String>,
    /// Open client connections.
    pub sessions: usize,
    /// Requests that clients sent.
    pub requests: u64,
    /// Replies that were errors.
    pub errors: u64,
    /// Commands refused by policy or for want of memory, and connections beyond the limit.
    pub refused: u64,
    /// Clients that were disconnected, since they did not read their replies or the store's clients held
    /// too much together.
    #[serde(default)]
    pub disconnected: u64,
    /// Requests that waited for the store's rate.
    pub delayed: u64,
    /// Replies and messages that were withheld, since they held a name of the server's own. Anything but
    /// 0 is a bug of flect's, or an app that has been told its prefix.
    #[serde(default)]
    pub integrity_violations: u64,
    /// Bytes that clients sent.
    pub bytes_in: u64,
    /// Bytes that clients took.
    pub bytes_out: u64,
    /// From taking a request to having its reply. Commands that wait for other clients, such as BLPOP,
    /// and those which the agent answers itself are not in it.
    pub latency_us: Histogram,
    /// The most frequent commands.
    pub commands: Vec<CommandCount>,
    /// The keys that come most often, by a sample; the counts are scaled up to all requests.
    pub keys: Vec<KeyCount>,
    /// What its keys and values take, as last measured; filled in by the daemon.
    pub memory_bytes: Option<u64>,
    /// How many keys it has, as last measured; filled in by the daemon.
    pub key_count: Option<u64>,
    /// What it may use.
    pub limits: LimitsNow,
}

/// How often a command came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCount {
    /// Lower case; a subcommand stands behind its container and a bar.
    pub name: String,
    /// Requests.
    pub count: u64,
}

/// How often a key came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// The key as the app knows it; bytes that are no text are replaced.
    pub key: String,
    /// Requests whose first key it was, estimated.
    pub count: u64,
}

/// The limits in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsNow {
    /// Bytes of keys and values.
    pub memory_bytes: Option<u64>,
    /// Open connections on each node.
    pub connections: Option<u32>,
    /// Commands per second on each node.
    pub commands_per_second: Option<u32>,
}

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked.
    pub cgroup: String,
    /// Why not.
    pub reason: String,
}

/// What all workers have counted for one store.
#[derive(Debug)]
pub(crate) struct Sum {
    errors: u64,
    refused: u64,
    disconnected: u64,
    delayed: u64,
    violations: u64,
    bytes_in: u64,
    bytes_out: u64,
    commands: Vec<u64>,
    unknown: u64,
    latency: [u64; histogram::BUCKETS],
    latency_sum_us: u64,
    latency_max_us: u64,
    keys: HashMap<Vec<u8>, u64>,
}

impl StoreMetrics {
    /// How often integrity mode withheld something of a store.
    #[must_use]
    pub fn violations(store: &Store) -> u64 {
        let meters = store.meters();
        meters.iter().map(|meter| meter.violations.get()).sum()
    }

    /// What is known of a store now; the daemon adds apps, memory and keys.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let limits = store.limits.get();
        Self {
            name: store.slug().to_string(),
            prefix: store.prefix.to_string(),
            sessions: store.sessions(),
            limits: LimitsNow {
                memory_bytes: limits.memory_bytes,
                connections: limits.connections,
                commands_per_second: limits.commands_per_second,
            },
            ..Self::from(Sum::of(store.meters().iter().map(AsRef::as_ref)))
        }
    }
}

impl From<Sum> for StoreMetrics {
    fn from(sum: Sum) -> Self {
        let requests = sum.commands.iter().sum::<u64>() + sum.unknown;
        let named = commands::all().iter().zip(&sum.commands);
        let mut commands: Vec<CommandCount> = named
            .filter(|(_, count)| **count > 0)
            .map(|(command, count)| CommandCount {
                name: command.name.to_owned(),
                count: *count,
            })
            .collect();
        commands.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        commands.truncate(TOP);
        let mut keys: Vec<KeyCount> = sum
            .keys
            .into_iter()
            .map(|(key, count)| KeyCount {
                key: String::from_utf8_lossy(&key).into_owned(),
                count: count * u64::from(meter::SAMPLED),
            })
            .collect();
        keys.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        keys.truncate(TOP);
        Self {
            requests,
            errors: sum.errors,
            refused: sum.refused,
            disconnected: sum.disconnected,
            delayed: sum.delayed,
            integrity_violations: sum.violations,
            bytes_in: sum.bytes_in,
            bytes_out: sum.bytes_out,
            latency_us: Histogram::new(&sum.latency, sum.latency_sum_us, sum.latency_max_us),
            commands,
            keys,
            ..Self::default()
        }
    }
}

impl Sum {
    fn of<'a>(meters: impl Iterator<Item = &'a Meter>) -> Self {
        let mut sum = Self {
            errors: 0,
            refused: 0,
            disconnected: 0,
            delayed: 0,
            violations: 0,
            bytes_in: 0,
            bytes_out: 0,
            commands: vec![0; commands::all().len()],
            unknown: 0,
            latency: [0; histogram::BUCKETS],
            latency_sum_us: 0,
            latency_max_us: 0,
            keys: HashMap::new(),
        };
        for meter in meters {
            meter.add_to(&mut sum);
        }
        sum
    }
}

/// A panic while a sketch is changed spoils a sample at most.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
