//! CONFIG GET: settings of the server that an app may know, and the store's own.

use super::walk::misunderstood;
use super::{Context, Reply, Step, Target, ask};
use crate::environment::{Setting, Store};
use crate::resp::encode;

/// Settings that clients and frameworks ask for and that tell nothing about other stores: limits,
/// encodings and ways of keeping data, which hold for a store as for all.
const SHOWN: &[&str] = &[
    "active-expire-effort",
    "activedefrag",
    "activerehashing",
    "aof-load-truncated",
    "aof-use-rdb-preamble",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "availability-zone",
    "busy-reply-threshold",
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "databases",
    "dynamic-hz",
    "extended-redis-compatibility",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "hash-max-ziplist-entries",
    "hash-max-ziplist-value",
    "hash-seed",
    "hll-sparse-max-bytes",
    "hz",
    "io-threads",
    "io-threads-do-reads",
    "latency-tracking-info-percentiles",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
    "lfu-decay-time",
    "lfu-log-factor",
    "list-compress-depth",
    "list-max-listpack-size",
    "list-max-ziplist-size",
    "lua-time-limit",
    "maxclients",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-eviction-tenacity",
    "maxmemory-policy",
    "maxmemory-samples",
    "min-replicas-max-lag",
    "min-replicas-to-write",
    "min-slaves-max-lag",
    "min-slaves-to-write",
    "no-appendfsync-on-rewrite",
    "proto-max-bulk-len",
    "rdbchecksum",
    "rdbcompression",
    "sanitize-dump-payload",
    "save",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "stop-writes-on-bgsave-error",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "tcp-keepalive",
    "timeout",
    "tracking-table-max-keys",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "zset-max-ziplist-entries",
    "zset-max-ziplist-value",
];

/// Settings whose value is the operator's business: passwords, paths, addresses and partners. A store
/// has them as a private Valkey without configuration file.
const AS_FRESH: &[(&str, &str)] = &[
    ("acl-pubsub-default", "resetchannels"),
    ("aclfile", ""),
    ("acllog-max-len", "128"),
    ("bind", "* -::*"),
    ("bind-source-addr", ""),
    ("cluster-enabled", "no"),
    ("daemonize", "no"),
    ("dbfilename", "dump.rdb"),
    ("enable-debug-command", "no"),
    ("enable-module-command", "no"),
    ("enable-protected-configs", "no"),
    ("logfile", ""),
    ("loglevel", "notice"),
    ("masterauth", ""),
    ("masteruser", ""),
    ("pidfile", ""),
    ("primaryauth", ""),
    ("primaryuser", ""),
    ("protected-mode", "yes"),
    ("replica-announced", "yes"),
    ("replica-priority", "100"),
    ("replica-read-only", "yes"),
    ("replica-serve-stale-data", "yes"),
    ("replicaof", ""),
    ("requirepass", ""),
    ("slave-priority", "100"),
    ("slave-read-only", "yes"),
    ("slave-serve-stale-data", "yes"),
    ("slaveof", ""),
    ("tls-port", "0"),
    ("unixsocket", ""),
];

/// What a store has otherwise than its server.
#[derive(Clone, Debug, Default)]
pub struct View {
    own: Vec<(Setting, i64)>,
    memory_bytes: Option<u64>,
    connections: Option<u32>,
    /// The port that the app connected to.
    port: u16,
}

impl View {
    /// A store as an app sees it that connected to this port.
    #[must_use]
    pub fn of(store: &Store, port: u16) -> Self {
        let limits = store.limits.get();
        Self {
            own: store.settings().all().collect(),
            memory_bytes: limits.memory_bytes,
            connections: limits.connections,
            port,
        }
    }

    /// The store's value of one of its own settings.
    pub(super) fn own(&self, setting: Setting) -> Option<i64> {
        let mut own = self.own.iter();
        own.find(|(known, _)| *known == setting)
            .map(|(_, value)| *value)
    }

    /// The value that an app may know of a setting, whose name the server has and whose value there is
    /// this; `None` for what is the operator's alone.
    pub(super) fn value(&self, name: &[u8], on_server: &[u8]) -> Option<Vec<u8>> {
        if let Some(setting) = Setting::find(name) {
            return Some(setting.text(self.own(setting)?).into_bytes());
        }
        let name = name.to_ascii_lowercase();
        let fresh = AS_FRESH.iter().find(|(fresh, _)| fresh.as_bytes() == name);
        if let Some((_, value)) = fresh {
            return Some(value.as_bytes().to_vec());
        }
        let number = match name.as_slice() {
            b"maxmemory" => self.memory_bytes.map(|bytes| bytes.to_string()),
            b"maxclients" => self.connections.map(|count| count.to_string()),
            b"port" => Some(self.port.to_string()),
            _ => None,
        };
        if let Some(number) = number {
            return Some(number.into_bytes());
        }
        let shown = SHOWN.iter().any(|shown| shown.as_bytes() == name);
        shown.then(|| on_server.to_vec())
    }
}

/// A CONFIG GET under way.
#[derive(Debug)]
pub struct Settings {
    patterns: Vec<Vec<u8>>,
    view: View,
}

impl Settings {
    /// The app's patterns; the server matches them.
    #[must_use]
    pub fn new(patterns: Vec<Vec<u8>>, view: View) -> Self {
        Self { patterns, view }
    }

    pub(super) fn ask(&self) -> Step {
        get(self.patterns.iter().map(Vec::as_slice))
    }

    pub(super) fn take(&self, reply: &Reply, context: &Context) -> Step {
        let Some(found) = pairs(reply) else {
            return misunderstood();
        };
        let shown: Vec<(&[u8], Vec<u8>)> = found
            .into_iter()
            .filter_map(|(name, value)| Some((name, self.view.value(name, value)?)))
            .collect();
        let mut out = Vec::new();
        encode::map(context.protocol, shown.len(), &mut out);
        for (name, value) in shown {
            encode::bulk(name, &mut out);
            encode::bulk(value, &mut out);
        }
        Step::Done(out)
    }
}

/// The question what settings the server has.
pub(super) fn get<'n>(names: impl Iterator<Item = &'n [u8]>) -> Step {
    let mut words: Vec<&[u8]> = vec![b"CONFIG", b"GET"];
    words.extend(names);
    ask(Target::Housekeeper, &words)
}

/// Names and values in the reply to that.
pub(super) fn pairs(reply: &Reply) -> Option<Vec<(&[u8], &[u8])>> {
    let Reply::Array(items) = reply else {
        return None;
    };
    let pairs = items.chunks_exact(2);
    pairs
        .map(|pair| Some((pair[0].bytes()?, pair[1].bytes()?)))
        .collect()
}
