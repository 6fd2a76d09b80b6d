//! `op: metrics`: what the workers have counted, with what only the daemon knows.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use flect_agent::config::EXPLICIT_APP;
use flect_agent::metrics::{NodeMetrics, Snapshot, StoreMetrics};
use flect_agent::worker::Handle;

use crate::node::Node;

/// Everything, cumulative since the agent's start.
pub fn snapshot(node: &Node) -> Snapshot {
    let serving = node.serving.load();
    let mut apps: HashMap<usize, Vec<String>> = HashMap::new();
    for workload in &serving.workloads {
        for store in workload
            .bindings
            .iter()
            .filter_map(|b| b.store.as_ref().ok())
        {
            let names = apps.entry(store.number).or_default();
            if !names.contains(&workload.name) {
                names.push(workload.name.clone());
            }
        }
    }
    let is_explicit = !node.config.load().explicit.listen.is_empty();
    let usage = node.usage.load();
    let stores = serving.stores().iter().map(|store| {
        let mut metrics = StoreMetrics::of(store);
        metrics.apps = apps.remove(&store.number).unwrap_or_default();
        if store.has_token() && is_explicit {
            metrics.apps.push(EXPLICIT_APP.to_owned());
        }
        if let Some(usage) = usage.get(&store.prefix) {
            metrics.memory_bytes = Some(usage.memory_bytes);
            metrics.key_count = Some(usage.keys);
        }
        metrics
    });
    Snapshot {
        at_ms: now_ms(),
        uptime_ms: u64::try_from(node.started_at.elapsed().as_millis()).unwrap_or(u64::MAX),
        node: process(node),
        stores: stores.collect(),
        refusals: node.refusals.list(),
    }
}

/// The process itself.
pub fn process(node: &Node) -> NodeMetrics {
    let workers = node.running().map(|running| running.workers.as_slice());
    let workers = workers.unwrap_or_default();
    NodeMetrics {
        rss_bytes: rss_bytes(),
        cpu_seconds: cpu_seconds(),
        sessions: workers.iter().map(Handle::sessions).sum(),
        upstreams: workers.iter().map(Handle::upstreams).sum(),
        workers: workers.len(),
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Resident memory of this process, from /proc/self/statm (pages); 0 when it cannot be read.
pub fn rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Processor time of this process: fields 14 and 15 of /proc/self/stat, counted behind the name in
/// parentheses; 0 when it cannot be read.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = behind_name.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
