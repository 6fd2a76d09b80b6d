//! The values of INFO's fields for a store.
//!
//! Invariant: a field has the store's own value, or one that is a fact about the server and tells nothing
//! of other stores, or nothing: what nobody has looked at keeps its name, as a private server has it,
//! and is 0 or empty.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::admin::hex;
use crate::environment::{States, Store};
use crate::metrics::stats::{CommandStats, Stats};
use crate::store::Prefix;

/// Fields that are passed on: facts about the server that clients read, none about other stores.
const PASSED: &[&str] = &[
    // server
    "redis_version",
    "server_name",
    "valkey_version",
    "valkey_release_stage",
    "redis_git_sha1",
    "redis_git_dirty",
    "redis_build_id",
    "redis_mode",
    "server_mode",
    "os",
    "arch_bits",
    "monotonic_clock",
    "multiplexing_api",
    "atomicvar_api",
    "gcc_version",
    "server_time_usec",
    "uptime_in_seconds",
    "uptime_in_days",
    "hz",
    "configured_hz",
    "lru_clock",
    "availability_zone",
    // clients
    "cluster_connections",
    // memory
    "used_memory_startup",
    "maxmemory_policy",
    "mem_allocator",
    "total_system_memory",
    "total_system_memory_human",
    // persistence
    "loading",
    "async_loading",
    "rdb_bgsave_in_progress",
    "rdb_last_bgsave_status",
    "rdb_last_save_time",
    "aof_enabled",
    "aof_rewrite_in_progress",
    "aof_rewrite_scheduled",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
    // replication
    "repl_backlog_size",
];

/// Fields of which 0 would say something else than that there is nothing.
const NOTHING: &[(&str, &str)] = &[
    ("process_id", "1"),
    ("process_supervised", "no"),
    ("rdb_last_bgsave_time_sec", "-1"),
    ("rdb_current_bgsave_time_sec", "-1"),
    ("aof_last_rewrite_time_sec", "-1"),
    ("aof_current_rewrite_time_sec", "-1"),
    ("role", "master"),
    ("connected_slaves", "0"),
    ("master_failover_state", "no-failover"),
    ("master_replid2", "0000000000000000000000000000000000000000"),
    ("second_repl_offset", "-1"),
    ("allocator_frag_ratio", "1.00"),
    ("allocator_rss_ratio", "1.00"),
    ("rss_overhead_ratio", "1.00"),
    ("mem_fragmentation_ratio", "1.00"),
    ("used_memory_peak_perc", "100.00%"),
    ("cluster_enabled", "0"),
];

/// Fields that a server has once for each of what it has several of: replicas, listeners,
/// databases, commands; and those of a replica, which no store is.
const SEVERAL: &[&str] = &[
    "slave0",
    "slave1",
    "slave2",
    "slave3",
    "slave4",
    "slave5",
    "slave6",
    "slave7",
    "slave8",
    "slave9",
    "listener",
    "cmdstat_",
    "errorstat_",
    "latency_percentiles_",
    "master_host",
    "master_port",
    "master_user",
    "master_link_",
    "master_last_",
    "master_sync_",
    "slave_repl_",
    "slave_read_",
    "slave_priority",
    "replica_announced",
];

/// What is known of a store when INFO asks.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Open sessions.
    pub clients: usize,
    /// What they are doing.
    pub states: States,
    /// Patterns that they subscribe to.
    pub patterns: usize,
    /// Scripts that the app knows.
    pub scripts: usize,
    /// What is counted of its commands.
    pub stats: Stats,
    /// Commands, bytes in and bytes out in a second.
    pub rates: [u64; 3],
    /// Bytes of keys and values, and how many keys, where that was measured.
    pub measured: Option<(u64, u64)>,
    /// How much it may hold, where that is limited.
    pub memory_bytes_max: Option<u64>,
    /// How many sessions it may have, where that is limited.
    pub connections_max: Option<u32>,
    /// Whether INFO tells how long commands take.
    pub latency_tracking: bool,
    /// The port that the app connected to.
    pub port: u16,
    /// Modules that are part of the server.
    pub modules: Vec<String>,
}

impl Own {
    /// Of a store as an app sees it that connected to this port.
    #[must_use]
    pub fn of(store: &Store, states: States, port: u16) -> Self {
        let stats = store.stats();
        let limits = store.limits.get();
        Self {
            clients: store.sessions(),
            states,
            patterns: store.patterns.distinct(),
            scripts: store.scripts.count(),
            rates: store.rates.take(&stats),
            stats,
            measured: store.measured(),
            memory_bytes_max: limits.memory_bytes,
            connections_max: limits.connections,
            latency_tracking: store.settings().latency_tracking(),
            port,
            modules: Vec::new(),
        }
    }

    /// Beside modules that are part of the server.
    #[must_use]
    pub fn with_modules(self, modules: &[(String, i64)]) -> Self {
        let modules = modules.iter().map(|(name, _)| name.clone()).collect();
        Self { modules, ..self }
    }

    /// Whether a line of INFO is about a module that is part of the server.
    fn has_module(&self, line: &str) -> bool {
        let name = line.strip_prefix("name=").and_then(|l| l.split(',').next());
        name.is_some_and(|name| self.modules.iter().any(|known| known == name))
    }

    /// Bytes of keys and values; 0 where nobody has measured.
    #[must_use]
    pub fn dataset_bytes(&self) -> u64 {
        self.measured.map_or(0, |(bytes, _)| bytes)
    }

    fn field(&self, name: &str, on_server: &str, startup_bytes: u64) -> Option<String> {
        let dataset = self.dataset_bytes();
        let used = startup_bytes + dataset;
        let kbps = |bytes: u64| format!("{}.{:02}", bytes / 1024, bytes % 1024 * 100 / 1024);
        let states = &self.states;
        Some(match name {
            "tcp_port" => self.port.to_string(),
            "connected_clients" => self.clients.to_string(),
            "maxclients" => self
                .connections_max
                .map_or(on_server.to_owned(), |most| most.to_string()),
            "blocked_clients" => states.blocked.to_string(),
            "total_blocking_keys" => states.blocking_keys.len().to_string(),
            "total_blocking_keys_on_nokey" => states.blocking_keys_on_nokey.len().to_string(),
            "pubsub_clients" => states.subscribed.to_string(),
            "tracking_clients" => states.tracking.to_string(),
            "watching_clients" => states.watching.to_string(),
            "used_memory"
            | "used_memory_rss"
            | "used_memory_peak"
            | "allocator_allocated"
            | "allocator_active"
            | "allocator_resident" => used.to_string(),
            "used_memory_human" | "used_memory_rss_human" | "used_memory_peak_human" => human(used),
            "used_memory_overhead" => startup_bytes.to_string(),
            "used_memory_dataset" => dataset.to_string(),
            "used_memory_dataset_perc" if dataset > 0 => "100.00%".to_owned(),
            "maxmemory" => self
                .memory_bytes_max
                .map_or(on_server.to_owned(), |most| most.to_string()),
            "maxmemory_human" => self.memory_bytes_max.map_or(on_server.to_owned(), human),
            "total_connections_received" => self.stats.connections.to_string(),
            "total_commands_processed" => self.stats.calls().to_string(),
            "instantaneous_ops_per_sec" => self.rates[0].to_string(),
            "total_net_input_bytes" => self.stats.bytes_in.to_string(),
            "total_net_output_bytes" => self.stats.bytes_out.to_string(),
            "instantaneous_input_kbps" => kbps(self.rates[1]),
            "instantaneous_output_kbps" => kbps(self.rates[2]),
            "total_error_replies" => self.stats.error_replies.to_string(),
            "keyspace_hits" => self.stats.hits.to_string(),
            "keyspace_misses" => self.stats.misses.to_string(),
            "rdb_changes_since_last_save" => self.stats.changes.to_string(),
            "number_of_cached_scripts" => self.scripts.to_string(),
            "pubsub_patterns" => self.patterns.to_string(),
            _ => return None,
        })
    }
}

/// A line of INFO as the store has it; `None` for what it has not.
pub(super) fn line(
    own: &Own,
    prefix: &Prefix,
    name: &str,
    on_server: &str,
    startup_bytes: u64,
) -> Option<String> {
    if name == "module" {
        let told = own.has_module(on_server);
        return told.then(|| format!("{name}:{on_server}\r\n"));
    }
    let find = |known: &(&str, &str)| known.0 == name;
    let value = if let Some(value) = own.field(name, on_server, startup_bytes) {
        value
    } else if PASSED.contains(&name) {
        on_server.to_owned()
    } else if let Some((_, value)) = NOTHING.iter().find(|known| find(known)) {
        (*value).to_owned()
    } else if matches!(name, "run_id" | "master_replid") {
        // Another one when the server is another, and not the server's own.
        let seed = [name, on_server, prefix.as_str()].join(" ");
        hex(&Sha256::digest(seed))[..on_server.len().min(40)].to_owned()
    } else if name == "listener0" {
        format!("name=tcp,bind=*,bind=-::*,port={}", own.port)
    } else if SEVERAL.iter().any(|several| name.starts_with(several)) {
        return None;
    } else {
        nothing(name, on_server)
    };
    Some(format!("{name}:{value}\r\n"))
}

/// Nothing, in the form of the server's value.
fn nothing(name: &str, on_server: &str) -> String {
    if name.ends_with("_human") {
        return "0B".to_owned();
    }
    let number = on_server.trim_end_matches('%');
    let is_number = number.parse::<f64>().is_ok();
    if !is_number {
        return String::new();
    }
    let zero = match number.split_once('.') {
        Some((_, decimals)) => format!("0.{}", "0".repeat(decimals.len())),
        None => "0".to_owned(),
    };
    zero + &on_server[number.len()..]
}

/// Bytes for people (`bytesToHuman` in server.c).
fn human(bytes: u64) -> String {
    let units = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    let unit = 1_u64 << (10 * power);
    // Hundredths, as exact as they are shown.
    let hundredths = (u128::from(bytes) * 100 + u128::from(unit) / 2) / u128::from(unit);
    let unit = units[power as usize - 1];
    format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
}

/// The lines of a section that is about commands or errors; `None` for all other sections.
pub(super) fn counted(own: &Own, section: &str) -> Option<String> {
    let mut lines = String::new();
    let commands = own
        .stats
        .names()
        .filter_map(|name| Some((name, own.stats.command(name)?)));
    match section {
        "Commandstats" => {
            for (name, command) in commands {
                let calls = command.calls();
                let each = command.us * 100 / calls.max(1);
                // Writing to a String cannot fail.
                let _ = write!(
                    lines,
                    "cmdstat_{name}:calls={calls},usec={},usec_per_call={}.{:02},rejected_calls={},failed_calls={}\r\n",
                    command.us,
                    each / 100,
                    each % 100,
                    command.rejected,
                    command.failed
                );
            }
        }
        "Errorstats" => {
            for (word, count) in own.stats.errors() {
                let word: String = word.chars().filter(|c| !":\r\n".contains(*c)).collect();
                let _ = write!(lines, "errorstat_{word}:count={count}\r\n");
            }
        }
        "Latencystats" if own.latency_tracking => {
            for (name, command) in commands.filter(|(_, command)| command.timed() > 0) {
                let _ = write!(
                    lines,
                    "latency_percentiles_usec_{name}:p50={},p99={},p99.9={}\r\n",
                    within(command, 500),
                    within(command, 990),
                    within(command, 999)
                );
            }
        }
        "Latencystats" => {}
        _ => return None,
    }
    Some(lines)
}

/// So many of a thousand replies came within this many microseconds: the bound of their bucket.
fn within(command: &CommandStats, permille: u64) -> String {
    let rank = (command.timed() * permille).div_ceil(1000).max(1);
    let mut sum = 0;
    let bucket = command.latency.iter().position(|count| {
        sum += count;
        sum >= rank
    });
    let nanoseconds = 1024_u64 << bucket.unwrap_or(0);
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, on_server: &str) -> Option<String> {
        let prefix = Prefix::parse("{abcde}").unwrap();
        let own = Own {
            clients: 3,
            measured: Some((1024 * 1024, 10)),
            port: 6379,
            ..Own::default()
        };
        line(&own, &prefix, name, on_server, 2048)
            .map(|line| line.split_once(':').unwrap().1.trim_end().to_owned())
    }

    #[test]
    fn only_facts_and_own_values_are_told() {
        for (name, on_server, expect) in [
            ("valkey_version", "8.0.1", Some("8.0.1")),
            ("connected_clients", "77", Some("3")),
            ("used_memory", "999999999", Some("1050624")),
            ("used_memory_human", "9G", Some("1.00M")),
            ("keyspace_hits", "123", Some("0")),
            ("instantaneous_input_repl_kbps", "3.25", Some("0.00")),
            ("a_field_of_tomorrow", "secret", Some("")),
            ("a_percentage_of_tomorrow", "12.5%", Some("0.0%")),
            ("executable", "/usr/bin/valkey-server", Some("")),
            ("process_id", "4711", Some("1")),
            ("slave0", "ip=10.0.0.1,port=1", None),
            ("master_host", "10.0.0.1", None),
            ("listener1", "name=unix,bind=/run/x", None),
            ("rdb_last_bgsave_time_sec", "7", Some("-1")),
        ] {
            assert_eq!(shown(name, on_server).as_deref(), expect, "{name}");
        }
        let id = "d9c6b168161bed1756a06c25e563b114a0e93d15";
        let own = shown("run_id", id).unwrap();
        assert!(own.len() == 40 && own != id && Some(own) == shown("run_id", id));
    }

    #[test]
    fn bytes_are_written_for_people_as_valkey_does() {
        for (bytes, expect) in [
            (1000, "1000B"),
            (974_120, "951.29K"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human(bytes), expect);
        }
    }
}
