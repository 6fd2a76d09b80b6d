//! Everything that is told at one scrape, gathered before a line of it is written.

use std::collections::HashMap;

use flect_agent::audit;
use flect_agent::interception::Fill;
use flect_agent::metrics::class::{Class, by_class};
use flect_agent::metrics::stats::{CommandStats, Stats};
use flect_agent::metrics::{NodeMetrics, StoreMetrics};
use flect_agent::worker::Lanes;

use crate::metrics;
use crate::node::Node;
use crate::vitals::Signs;

/// One look.
#[derive(Debug)]
pub struct Scrape {
    pub node: NodeScrape,
    pub stores: Vec<StoreScrape>,
}

/// What is told of the node.
#[derive(Debug)]
pub struct NodeScrape {
    pub environment: String,
    pub ready: bool,
    pub reachable: bool,
    pub started_at_s: f64,
    /// When the configuration that holds was read, and whether it is the newest.
    pub config_read_at_s: f64,
    pub config_taken: bool,
    pub process: NodeMetrics,
    pub open_files: Option<usize>,
    pub open_files_max: Option<u64>,
    /// Workers that have answered.
    pub answering: usize,
    /// Where nothing is intercepted, there are none.
    pub hooks: Vec<(&'static str, bool)>,
    pub maps: Vec<Fill>,
    /// Client to agent, agent to client.
    pub acceleration: Option<[bool; 2]>,
    pub refusals: Vec<(&'static str, u64)>,
    pub registry_version: u64,
    /// Apps that get no session, since their default store is not there.
    pub apps_without_store: usize,
}

/// What is told of one store.
#[derive(Debug)]
pub struct StoreScrape {
    pub metrics: StoreMetrics,
    pub classes: Vec<(Class, CommandStats)>,
    pub connections_opened: u64,
    pub lanes: Lanes,
    /// Bytes held for its clients.
    pub buffered: usize,
    /// Refusals and limits met, by the audit log's reasons; only reasons that there were any of.
    pub refusals: Vec<(&'static str, u64)>,
}

pub fn take(node: &Node, signs: &Signs) -> Scrape {
    let serving = node.serving.load();
    let mut lanes: HashMap<usize, Lanes> = HashMap::new();
    for (number, more) in signs
        .workers
        .iter()
        .flatten()
        .flat_map(|census| &census.stores)
    {
        lanes.entry(*number).or_default().add(*more);
    }
    let usage = node.usage.load();
    let stores = serving.stores().iter().map(|store| {
        let mut metrics = StoreMetrics::of(store);
        if let Some(usage) = usage.get(&store.prefix) {
            metrics.memory_bytes = Some(usage.memory_bytes);
            metrics.key_count = Some(usage.keys);
        }
        StoreScrape {
            metrics,
            classes: by_class(&Stats::of(store)),
            connections_opened: store.connections(),
            lanes: lanes.remove(&store.number).unwrap_or_default(),
            buffered: store.buffered.get(),
            refusals: store
                .refusals
                .all()
                .map(|(reason, count)| (reason.word(), count))
                .collect(),
        }
    });
    let stores = stores.collect();
    let monitor = node.hooks.as_ref();
    let maps = monitor.and_then(|monitor| monitor.maps().ok());
    let acceleration = node.acceleration.as_ref();
    let without_store = |workload: &&crate::serving::Workload| {
        matches!(workload.state, crate::serving::State::Absent { .. })
    };
    let reloads = node.reloads.load();
    Scrape {
        stores,
        node: NodeScrape {
            environment: node.config.load().valkey.environment.clone(),
            ready: node.readiness().is_ok(),
            reachable: node.is_reachable(),
            started_at_s: metrics::now_ms() as f64 / 1000.0
                - node.started_at.elapsed().as_secs_f64(),
            config_read_at_s: reloads.read_at_ms as f64 / 1000.0,
            config_taken: reloads.error.is_none(),
            process: metrics::process(node),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            answering: signs.workers.iter().flatten().count(),
            hooks: monitor.map_or_else(Vec::new, |monitor| monitor.hooks().collect()),
            maps: maps.map_or_else(Vec::new, Vec::from),
            acceleration: acceleration.map(|it| [it.client_to_agent, it.agent_to_client]),
            refusals: audit::counts()
                .map(|(reason, count)| (reason.word(), count))
                .collect(),
            registry_version: serving.version,
            apps_without_store: serving.workloads.iter().filter(without_store).count(),
        },
    }
}
