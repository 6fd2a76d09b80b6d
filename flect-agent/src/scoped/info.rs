//! INFO: the server's facts that an app may know, and the store's own keyspace and clients.
//!
//! What is not on the list below is left out: most of INFO tells about all stores together, and a
//! field of a newer server must not show what nobody has looked at.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use super::walk::{Walk, misunderstood};
use super::{Context, Reply, Step, Target, ask};
use crate::resp::encode;
use crate::store::Prefix;

/// Fields that are passed on: facts about the server that clients read, none about other stores.
const PASSED: &[&str] = &[
    // server
    "redis_version",
    "server_name",
    "valkey_version",
    "redis_mode",
    "server_mode",
    "os",
    "arch_bits",
    "monotonic_clock",
    "multiplexing_api",
    "atomicvar_api",
    "gcc_version",
    "uptime_in_seconds",
    "uptime_in_days",
    "hz",
    "configured_hz",
    "server_time_usec",
    "valkey_release_stage",
    "availability_zone",
    // clients
    "maxclients",
    "cluster_connections",
    // memory
    "maxmemory",
    "maxmemory_human",
    "maxmemory_policy",
    "mem_allocator",
    "total_system_memory",
    "total_system_memory_human",
    // persistence
    "loading",
    "async_loading",
    "rdb_bgsave_in_progress",
    "rdb_last_bgsave_status",
    "aof_enabled",
    "aof_rewrite_in_progress",
    "aof_rewrite_scheduled",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
    "rdb_last_save_time",
    // replication: the store looks standalone
    "second_repl_offset",
    // cluster
];

/// An INFO under way.
#[derive(Debug)]
pub struct Info {
    sections: Vec<Vec<u8>>,
    /// Sessions of the store on this node.
    clients: usize,
    /// The filtered text up to the keyspace, once the server has answered.
    text: Option<String>,
    walk: Walk,
    hasher: RandomState,
    /// Keys seen, by database.
    keys: BTreeMap<u32, HashSet<u64>>,
}

impl Info {
    /// `INFO [section ...]` for a store with so many sessions.
    #[must_use]
    pub fn new(sections: Vec<Vec<u8>>, clients: usize, prefix: &Prefix) -> Self {
        Self {
            sections,
            clients,
            text: None,
            walk: Walk::new(prefix.as_str().as_bytes(), b"*"),
            hasher: RandomState::new(),
            keys: BTreeMap::new(),
        }
    }

    pub(super) fn ask(&self) -> Step {
        let mut words: Vec<&[u8]> = vec![b"INFO"];
        words.extend(self.sections.iter().map(Vec::as_slice));
        ask(Target::Housekeeper, &words)
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        if self.text.is_none() {
            let Some(text) = reply.bytes() else {
                return misunderstood();
            };
            let (text, keyspace) = self.filter(&String::from_utf8_lossy(text));
            self.text = Some(text);
            return if keyspace {
                self.walk.ask()
            } else {
                self.done(context)
            };
        }
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        for name in names {
            if let Some(database) = database_of(name) {
                let hash = self.hasher.hash_one(name);
                self.keys.entry(database).or_default().insert(hash);
            }
        }
        if more {
            self.walk.ask()
        } else {
            self.done(context)
        }
    }

    fn done(&mut self, context: &Context) -> Step {
        let mut text = self.text.take().unwrap_or_default();
        for (database, keys) in &self.keys {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "db{database}:keys={},expires=0,avg_ttl=0\r\n",
                keys.len()
            );
        }
        let mut out = Vec::new();
        encode::text(context.protocol, &text, &mut out);
        Step::Done(out)
    }

    /// The lines that may be passed on, with the store's own facts in their sections, and whether
    /// the keyspace was asked for. The keyspace is the last section and is filled in later.
    fn filter(&self, text: &str) -> (String, bool) {
        let mut out = String::new();
        let mut keyspace = false;
        for line in text.split("\r\n") {
            if let Some(section) = line.strip_prefix("# ") {
                // Sections about all stores together have nothing left to say.
                if matches!(
                    section,
                    "Commandstats" | "Errorstats" | "Latencystats" | "Debug" | "Modules"
                ) {
                    continue;
                }
                if section == "Keyspace" {
                    keyspace = true;
                    continue;
                }
                if !out.is_empty() {
                    out.push_str("\r\n");
                }
                out.push_str(line);
                out.push_str("\r\n");
                out.push_str(&self.own_facts(section));
            } else if let Some((field, _)) = line.split_once(':')
                && PASSED.contains(&field)
            {
                out.push_str(line);
                out.push_str("\r\n");
            }
        }
        if keyspace {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            out.push_str("# Keyspace\r\n");
        }
        (out, keyspace)
    }

    fn own_facts(&self, section: &str) -> String {
        match section {
            "Clients" => format!("connected_clients:{}\r\n", self.clients),
            "Replication" => "role:master\r\nconnected_slaves:0\r\n".to_owned(),
            "Cluster" => "cluster_enabled:0\r\n".to_owned(),
            _ => String::new(),
        }
    }
}

/// Which of the store's databases a name belongs to; the name comes without the prefix.
fn database_of(name: &[u8]) -> Option<u32> {
    match name.split_first()? {
        (b':', _) => Some(0),
        (b'/', rest) => {
            let end = rest.iter().position(|b| *b == b':')?;
            let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            // `/0:` is the agent's own.
            (number > 0).then_some(number)
        }
        _ => None,
    }
}
