//! CONFIG GET: settings of the server that an app may know.

use super::walk::misunderstood;
use super::{Context, Reply, Step, Target, ask};
use crate::resp::encode;

/// Settings that clients and frameworks ask for and that tell nothing about other stores. Paths,
/// addresses, users and the rest are the operator's.
const SHOWN: &[&str] = &[
    "activedefrag",
    "appendfsync",
    "appendonly",
    "databases",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "hash-max-ziplist-entries",
    "hash-max-ziplist-value",
    "hll-sparse-max-bytes",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lfu-decay-time",
    "lfu-log-factor",
    "list-compress-depth",
    "list-max-listpack-size",
    "list-max-ziplist-size",
    "lua-time-limit",
    "busy-reply-threshold",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "maxmemory-samples",
    "proto-max-bulk-len",
    "save",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "timeout",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "zset-max-ziplist-entries",
    "zset-max-ziplist-value",
];

/// A CONFIG GET under way.
#[derive(Debug)]
pub struct Settings {
    patterns: Vec<Vec<u8>>,
}

impl Settings {
    /// The app's patterns; the server matches them.
    #[must_use]
    pub fn new(patterns: Vec<Vec<u8>>) -> Self {
        Self { patterns }
    }

    pub(super) fn ask(&self) -> Step {
        let mut words: Vec<&[u8]> = vec![b"CONFIG", b"GET"];
        words.extend(self.patterns.iter().map(Vec::as_slice));
        ask(Target::Housekeeper, &words)
    }

    pub(super) fn take(&self, reply: &Reply, context: &Context) -> Step {
        let Reply::Array(items) = reply else {
            return misunderstood();
        };
        let shown: Vec<(&[u8], &[u8])> = items
            .chunks_exact(2)
            .filter_map(|pair| Some((pair[0].bytes()?, pair[1].bytes()?)))
            .filter(|(name, _)| SHOWN.iter().any(|shown| shown.as_bytes() == *name))
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
