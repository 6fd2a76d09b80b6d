//! MEMORY STATS: the server's fields, with what the store's own data takes.
//!
//! What only the whole server has, such as its allocator's figures, is told as if the store were alone:
//! allocated is what it holds, and nothing is lost to fragmentation.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::info::database_of;
use super::walk::{Walk, misunderstood};
use super::{Context, Reply, Step, Target, ask};
use crate::resp::{Protocol, encode};
use crate::store::Prefix;

/// A MEMORY STATS under way.
#[derive(Debug)]
pub struct MemoryStats {
    dataset_bytes: u64,
    /// The server's fields, once it has answered: name, and whether it is a fraction.
    fields: Option<Vec<(String, bool)>>,
    startup_bytes: u64,
    walk: Walk,
    hasher: RandomState,
    keys: HashSet<u64>,
}

impl MemoryStats {
    /// For a store that holds so much.
    #[must_use]
    pub fn new(dataset_bytes: u64, prefix: &Prefix) -> Self {
        Self {
            dataset_bytes,
            fields: None,
            startup_bytes: 0,
            walk: Walk::new(prefix.as_str().as_bytes(), b"*"),
            hasher: RandomState::new(),
            keys: HashSet::new(),
        }
    }

    pub(super) fn ask(&self) -> Step {
        ask(Target::Housekeeper, &["MEMORY", "STATS"])
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        if self.fields.is_none() {
            let Reply::Array(items) = reply else {
                return misunderstood();
            };
            let mut fields = Vec::new();
            for pair in items.chunks_exact(2) {
                let Some(name) = pair[0].bytes() else {
                    return misunderstood();
                };
                let name = String::from_utf8_lossy(name).into_owned();
                match &pair[1] {
                    Reply::Integer(bytes) => {
                        if name == "startup.allocated" {
                            self.startup_bytes = u64::try_from(*bytes).unwrap_or(0);
                        }
                        fields.push((name, false));
                    }
                    Reply::Bytes(_) => fields.push((name, true)),
                    // A database of the whole server.
                    _ => {}
                }
            }
            self.fields = Some(fields);
            return self.walk.ask();
        }
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        for name in names.into_iter().filter(|name| database_of(name).is_some()) {
            self.keys.insert(self.hasher.hash_one(name));
        }
        if more {
            self.walk.ask()
        } else {
            self.done(context)
        }
    }

    fn done(&mut self, context: &Context) -> Step {
        let fields = self.fields.take().unwrap_or_default();
        let mut out = Vec::new();
        encode::map(context.protocol, fields.len(), &mut out);
        for (name, is_fraction) in fields {
            encode::bulk(&name, &mut out);
            let value = self.value(&name);
            match (is_fraction, context.protocol) {
                (false, _) => encode::integer(i64::try_from(value).unwrap_or(i64::MAX), &mut out),
                (true, Protocol::Resp2) => encode::bulk(value.to_string(), &mut out),
                (true, Protocol::Resp3) => {
                    out.extend_from_slice(format!(",{value}\r\n").as_bytes());
                }
            }
        }
        Step::Done(out)
    }

    fn value(&self, name: &str) -> u64 {
        let used = self.startup_bytes + self.dataset_bytes;
        let keys = self.keys.len() as u64;
        match name {
            "peak.allocated"
            | "total.allocated"
            | "allocator.allocated"
            | "allocator.active"
            | "allocator.resident" => used,
            "startup.allocated" | "overhead.total" => self.startup_bytes,
            "keys.count" => keys,
            "keys.bytes-per-key" => self.dataset_bytes / keys.max(1),
            "dataset.bytes" => self.dataset_bytes,
            "dataset.percentage" if self.dataset_bytes > 0 => 100,
            "peak.percentage" => 100,
            "fragmentation" => 1,
            name if name.ends_with(".ratio") => 1,
            _ => 0,
        }
    }
}
