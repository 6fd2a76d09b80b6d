//! Rates and percentiles from two looks at the agent's cumulative counters.
//!
//! Pure, and the same in `flect top` and in the status page, whose script does it over again and is
//! tested to agree. A store is told by its prefix, so that renaming one tears no hole; counters that
//! went back belong to another agent, and then there is nothing to say yet.

use serde::Serialize;

use crate::metrics::{self, KeyCount, LimitsNow, Refusal, Snapshot, StoreMetrics};

/// What happened between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// When the second look was, in milliseconds since 1970.
    pub at_ms: u64,
    /// The time between the two.
    pub seconds: f64,
    /// The agent itself.
    pub node: NodeRates,
    /// Every store of the second look, in its order.
    pub stores: Vec<StoreRates>,
    /// The last connections that were refused, whenever that was.
    pub refusals: Vec<Refusal>,
}

/// What the agent used and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeRates {
    /// Requests of all stores.
    pub requests_per_second: f64,
    /// Processor time: 100 is one core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Connections of apps.
    pub sessions: usize,
    /// Connections to Valkey.
    pub upstreams: usize,
    /// Event loops.
    pub workers: usize,
    /// Milliseconds since the agent's start.
    pub uptime_ms: u64,
}

/// What happened to a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoreRates {
    /// What people call it.
    pub name: String,
    /// What its keys begin with.
    pub prefix: String,
    /// The apps that are bound to it.
    pub apps: Vec<String>,
    /// Requests that had their reply.
    pub requests_per_second: f64,
    /// Of them, those that the server answered with an error.
    pub errors_per_second: f64,
    /// What the agent refused.
    pub refused_per_second: f64,
    /// What had to wait for the store's rate.
    pub delayed_per_second: f64,
    /// Bytes from apps.
    pub bytes_in_per_second: f64,
    /// Bytes to apps.
    pub bytes_out_per_second: f64,
    /// Half of the requests took at most this; nothing without requests.
    pub latency_p50_us: Option<f64>,
    /// 99 of 100 requests took at most this.
    pub latency_p99_us: Option<f64>,
    /// Bytes of keys and values, where they have been measured.
    pub memory_bytes: Option<u64>,
    /// The number of keys, where it has been measured.
    pub key_count: Option<u64>,
    /// Connections of apps.
    pub sessions: usize,
    /// What it may use.
    pub limits: LimitsNow,
    /// The most frequent commands.
    pub commands: Vec<CommandRate>,
    /// The most frequent keys.
    pub keys: Vec<KeyShare>,
}

/// How often a command came.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommandRate {
    /// Its name.
    pub name: String,
    /// How often.
    pub per_second: f64,
}

/// How much of the traffic is about a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KeyShare {
    /// The key as the app names it.
    pub key: String,
    /// Of the sightings of all keys listed, from 0 to 1.
    pub share: f64,
}

/// What happened between two looks at the same agent; nothing when they are none.
#[must_use]
pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Rates> {
    let same_agent = after.uptime_ms > before.uptime_ms;
    // The agent's own clock: the machine's may be set.
    let seconds = after.uptime_ms.checked_sub(before.uptime_ms)? as f64 / 1000.0;
    if !same_agent {
        return None;
    }
    let nothing = StoreMetrics::default();
    let stores: Vec<StoreRates> = after
        .stores
        .iter()
        .map(|store| {
            let earlier = before.stores.iter().find(|s| s.prefix == store.prefix);
            store_rates(earlier.unwrap_or(&nothing), store, seconds)
        })
        .collect();
    Some(Rates {
        at_ms: after.at_ms,
        seconds,
        node: NodeRates {
            requests_per_second: stores.iter().map(|store| store.requests_per_second).sum(),
            cpu_percent: (after.node.cpu_seconds - before.node.cpu_seconds).max(0.0) / seconds
                * 100.0,
            rss_bytes: after.node.rss_bytes,
            sessions: after.node.sessions,
            upstreams: after.node.upstreams,
            workers: after.node.workers,
            uptime_ms: after.uptime_ms,
        },
        stores,
        refusals: after.refusals.clone(),
    })
}

fn store_rates(before: &StoreMetrics, after: &StoreMetrics, seconds: f64) -> StoreRates {
    let rate = |count: fn(&StoreMetrics) -> u64| per_second(count(before), count(after), seconds);
    let latency = after.latency_us.since(&before.latency_us).buckets;
    StoreRates {
        name: after.name.clone(),
        prefix: after.prefix.clone(),
        apps: after.apps.clone(),
        requests_per_second: rate(|store| store.requests),
        errors_per_second: rate(|store| store.errors),
        refused_per_second: rate(|store| store.refused),
        delayed_per_second: rate(|store| store.delayed),
        bytes_in_per_second: rate(|store| store.bytes_in),
        bytes_out_per_second: rate(|store| store.bytes_out),
        latency_p50_us: percentile(&latency, 0.5),
        latency_p99_us: percentile(&latency, 0.99),
        memory_bytes: after.memory_bytes,
        key_count: after.key_count,
        sessions: after.sessions,
        limits: after.limits.clone(),
        commands: command_rates(before, after, seconds),
        keys: key_shares(&after.keys),
    }
}

fn per_second(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}

/// The commands of the interval, the most frequent first.
fn command_rates(before: &StoreMetrics, after: &StoreMetrics, seconds: f64) -> Vec<CommandRate> {
    let mut all: Vec<CommandRate> = after
        .commands
        .iter()
        .map(|command| {
            let earlier = before.commands.iter().find(|c| c.name == command.name);
            // A command that has just come among the listed ones had some count before; the least
            // of those listed is as much as it can have been.
            let earlier = earlier.map_or_else(|| least(before), |command| command.count);
            CommandRate {
                name: command.name.clone(),
                per_second: per_second(earlier, command.count, seconds),
            }
        })
        .filter(|command| command.per_second > 0.0)
        .collect();
    all.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
    all
}

/// With fewer commands than the agent tells, those that are not listed have not come at all.
fn least(store: &StoreMetrics) -> u64 {
    let counts = store.commands.iter().map(|command| command.count);
    match store.commands.len() {
        metrics::TOP.. => counts.min().unwrap_or(0),
        _ => 0,
    }
}

/// Keys are sampled thinly, so an interval says little: their shares are since the agent's start.
fn key_shares(keys: &[KeyCount]) -> Vec<KeyShare> {
    let all: u64 = keys.iter().map(|key| key.count).sum();
    let mut shares: Vec<KeyShare> = keys
        .iter()
        .filter(|key| key.count > 0)
        .map(|key| KeyShare {
            key: key.key.clone(),
            share: key.count as f64 / all as f64,
        })
        .collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

/// The value that this part of all is at most, taking those of a bucket as evenly spread from half
/// its end to its end; nothing when there are none.
#[must_use]
pub fn percentile(buckets: &[(u64, u64)], part: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let mut rest = all as f64 * part;
    let mut last = None;
    for &(bound, count) in buckets {
        let (bound, count) = (bound as f64, count as f64);
        if rest <= count {
            return Some(bound / 2.0 + bound / 2.0 * (rest / count));
        }
        rest -= count;
        last = Some(bound);
    }
    last
}

#[cfg(test)]
mod tests;
