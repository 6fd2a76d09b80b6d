//! A scrape as text: OpenMetrics, which Prometheus reads.
//!
//! Invariant: the number of lines is bounded by the number of stores: labels are stores, the few classes of
//! commands, hooks, maps and reasons, and never a key, a client, a cgroup or anything else that apps make up.

use std::fmt;

use flect_agent::metrics::class::durations;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::scrape::{NodeScrape, Scrape, StoreScrape};

/// Labels with their values.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Everything as text.
pub fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        process(&self.node, &mut families)?;
        node(&self.node, &mut families)?;
        requests(&self.stores, &mut families)?;
        connections(&self.stores, &mut families)?;
        limits(&self.stores, &mut families)
    }
}

fn process(node: &NodeScrape, to: &mut Families<'_>) -> fmt::Result {
    let process = &node.process;
    to.gauge(
        "process_start_time_seconds",
        "When the agent began, since 1970.",
        node.started_at_s,
    )?;
    to.gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        process.rss_bytes as f64,
    )?;
    let cpu = [(Vec::new(), process.cpu_seconds)];
    to.counters(
        "process_cpu_seconds",
        "Processor time, user and system.",
        cpu,
    )?;
    if let Some(open) = node.open_files {
        to.gauge("process_open_fds", "Open descriptors.", open as f64)?;
    }
    if let Some(most) = node.open_files_max {
        to.gauge(
            "process_max_fds",
            "Descriptors that may be open.",
            most as f64,
        )?;
    }
    Ok(())
}

fn node(node: &NodeScrape, to: &mut Families<'_>) -> fmt::Result {
    let about = vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("environment", node.environment.as_str()),
    ];
    to.gauges(
        "flect_agent",
        "This agent; the value says nothing.",
        [(about, 1.0)],
    )?;
    let ready = "Whether connections get what they ask for, as /readyz says.";
    to.gauge("flect_ready", ready, number(node.ready))?;
    let reachable = "Whether Valkey answered when it was last asked, every two seconds.";
    to.gauge("flect_valkey_reachable", reachable, number(node.reachable))?;
    to.gauge("flect_workers", "Event loops.", node.process.workers as f64)?;
    let answering = "Event loops that answered this scrape within two seconds.";
    to.gauge("flect_workers_answering", answering, node.answering as f64)?;
    let upstreams = "Connections to Valkey, the agent's own included.";
    to.gauge(
        "flect_upstream_connections",
        upstreams,
        node.process.upstreams as f64,
    )?;
    let version = "The version of the registry of stores that is served.";
    to.gauge(
        "flect_registry_version",
        version,
        node.registry_version as f64,
    )?;
    let without = "Apps that are refused, since their default store is not there.";
    to.gauge(
        "flect_apps_without_store",
        without,
        node.apps_without_store as f64,
    )?;
    let taken = "Whether the configuration that was read last is the one that holds.";
    to.gauge("flect_config_taken", taken, number(node.config_taken))?;
    let read_at = "When the configuration that holds was read, since 1970.";
    to.gauge(
        "flect_config_read_time_seconds",
        read_at,
        node.config_read_at_s,
    )?;
    let refusals = node.refusals.iter();
    to.counters(
        "flect_refusals",
        "What was refused and which limits were met, by the audit log's reasons.",
        refusals.map(|(reason, count)| (vec![("reason", *reason)], *count)),
    )?;
    let hooks = node.hooks.iter();
    to.gauges(
        "flect_hook_attached",
        "Whether a kernel hook is in place.",
        hooks.map(|(hook, attached)| (vec![("hook", *hook)], number(*attached))),
    )?;
    let maps = || node.maps.iter();
    to.gauges(
        "flect_map_entries",
        "What a map of the hooks holds.",
        maps().map(|fill| (vec![("map", fill.map)], fill.entries as f64)),
    )?;
    to.gauges(
        "flect_map_entries_max",
        "What it can hold; beyond it connections are refused.",
        maps().map(|fill| (vec![("map", fill.map)], fill.entries_max as f64)),
    )?;
    let directions = ["client_to_agent", "agent_to_client"];
    let accelerated = node.acceleration.iter().flatten().zip(directions);
    to.gauges(
        "flect_acceleration",
        "Whether bytes of a direction go past TCP/IP.",
        accelerated.map(|(on, direction)| (vec![("direction", direction)], number(*on))),
    )
}

fn requests(stores: &[StoreScrape], to: &mut Families<'_>) -> fmt::Result {
    let classes = || {
        stores.iter().flat_map(|store| {
            store.classes.iter().map(|(class, stats)| {
                let labels = vec![("store", store.name()), ("class", class.word())];
                (labels, stats)
            })
        })
    };
    to.counters(
        "flect_store_requests",
        "Requests that clients sent.",
        classes().map(|(labels, stats)| (labels, stats.requests)),
    )?;
    let errors = classes().flat_map(|(labels, stats)| {
        [("rejected", stats.rejected), ("failed", stats.failed)].map(|(kind, count)| {
            let labels = [labels.as_slice(), &[("kind", kind)]].concat();
            (labels, count)
        })
    });
    to.counters(
        "flect_store_errors",
        "Replies that were errors: of commands that were not carried out, and of those that were.",
        errors,
    )?;
    let help = "From taking a request to having its reply. Commands that waited for other clients are left out.";
    let mut family = to.0.encode_descriptor(
        "flect_store_request_duration_seconds",
        help,
        None,
        MetricType::Histogram,
    )?;
    for (labels, stats) in classes().filter(|(_, stats)| stats.timed() > 0) {
        let sum = stats.us as f64 / 1e6;
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(sum, stats.timed(), &durations(&stats.latency), None)?;
    }
    let refusals = stores.iter().flat_map(|store| {
        let counts = store.refusals.iter();
        counts.map(|(reason, count)| (vec![("store", store.name()), ("reason", *reason)], *count))
    });
    to.counters(
        "flect_store_refusals",
        "What the store's apps were refused and which limits they met, by the audit log's reasons.",
        refusals,
    )?;
    let each = |count: fn(&StoreScrape) -> u64| stores.iter().map(move |s| (s.label(), count(s)));
    for (name, help, count) in COUNTERS {
        to.counters(name, help, each(count))?;
    }
    Ok(())
}

/// Name, help, and the count of a store.
type CounterOf = (&'static str, &'static str, fn(&StoreScrape) -> u64);

const COUNTERS: [CounterOf; 7] = [
    (
        "flect_store_received_bytes",
        "Bytes that clients sent.",
        |s| s.metrics.bytes_in,
    ),
    ("flect_store_sent_bytes", "Bytes that clients took.", |s| {
        s.metrics.bytes_out
    }),
    (
        "flect_store_refused",
        "Commands refused by policy or limit, and connections beyond the limit.",
        |s| s.metrics.refused,
    ),
    (
        "flect_store_disconnected",
        "Clients that were disconnected, since they did not read or the store's clients held too much.",
        |s| s.metrics.disconnected,
    ),
    (
        "flect_store_delayed",
        "Requests that waited for the store's rate.",
        |s| s.metrics.delayed,
    ),
    (
        "flect_store_integrity_violations",
        "Replies that were withheld, since they held a name of the server's own.",
        |s| s.metrics.integrity_violations,
    ),
    (
        "flect_store_connections_opened",
        "Connections that there have been.",
        |s| s.connections_opened,
    ),
];

fn connections(stores: &[StoreScrape], to: &mut Families<'_>) -> fmt::Result {
    let each =
        |value: fn(&StoreScrape) -> usize| stores.iter().map(move |s| (s.label(), value(s) as f64));
    to.gauges(
        "flect_store_connections",
        "Open client connections.",
        each(|s| s.metrics.sessions),
    )?;
    let roles = stores.iter().flat_map(|store| {
        let lanes = store.lanes;
        [
            ("shared", lanes.shared),
            ("own", lanes.own),
            ("pooled", lanes.pooled),
            ("special", lanes.special),
        ]
        .map(|(role, count)| (vec![("store", store.name()), ("role", role)], count as f64))
    });
    to.gauges(
        "flect_store_upstream_connections",
        "Connections to Valkey: shared by sessions, a session's own, idle, for the agent's own work.",
        roles,
    )?;
    to.gauges(
        "flect_store_upstream_connections_opening",
        "Those that Valkey has not let in yet.",
        each(|s| s.lanes.opening),
    )?;
    to.gauges(
        "flect_store_requests_in_flight",
        "Requests that wait for their reply on shared connections.",
        each(|s| s.lanes.in_flight),
    )?;
    to.gauges(
        "flect_store_multiplexing_depth",
        "The most requests that wait on one shared connection.",
        each(|s| s.lanes.depth),
    )?;
    to.gauges(
        "flect_store_buffered_bytes",
        "Unfinished requests and unread replies that are held for the store's clients.",
        each(|s| s.buffered),
    )
}

/// Where nothing is measured or set, nothing is told.
fn limits(stores: &[StoreScrape], to: &mut Families<'_>) -> fmt::Result {
    for (name, help, value) in MAYBE {
        let told = stores.iter().filter_map(|s| Some((s.label(), value(s)?)));
        to.gauges(name, help, told)?;
    }
    Ok(())
}

/// Name, help, and the value of a store where it has one.
type GaugeOf = (&'static str, &'static str, fn(&StoreScrape) -> Option<f64>);

const MAYBE: [GaugeOf; 5] = [
    (
        "flect_store_memory_bytes",
        "What keys and values take, as last measured.",
        |s| s.metrics.memory_bytes.map(|it| it as f64),
    ),
    (
        "flect_store_keys",
        "How many keys there are, as last measured.",
        |s| s.metrics.key_count.map(|it| it as f64),
    ),
    (
        "flect_store_memory_limit_bytes",
        "The limit of memory.",
        |s| s.metrics.limits.memory_bytes.map(|it| it as f64),
    ),
    (
        "flect_store_connections_limit",
        "The limit of connections on this node.",
        |s| s.metrics.limits.connections.map(f64::from),
    ),
    (
        "flect_store_rate_limit",
        "The limit of commands a second on this node.",
        |s| s.metrics.limits.commands_per_second.map(f64::from),
    ),
];

impl StoreScrape {
    fn name(&self) -> &str {
        &self.metrics.name
    }

    fn label(&self) -> Labels<'_> {
        vec![("store", self.name())]
    }
}

fn number(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Families of metrics, one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(Vec::new(), value)])
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// The text has `_total` behind the name.
    fn counters<'l, N: prometheus_client::encoding::EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, N)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            match labels.is_empty() {
                true => family.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                false => family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }
}
