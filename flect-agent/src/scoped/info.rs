//! INFO: the server's facts that an app may know, and the store's own keyspace, clients and counts.
//!
//! The server's own INFO says which sections and fields its version has; what they say of a store is in
//! [`fields`].

mod fields;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use super::walk::{Walk, misunderstood};
use super::{Context, Reply, Step, Target, ask};
use crate::resp::encode;
use crate::store::Prefix;
pub use fields::Own;

/// Keys of a database whose time to live is looked at: a sample as fair as SCAN's order, which follows
/// the names' hashes. A database with no more keys is told exactly.
const SAMPLED: usize = 256;

/// Asks how many of its keys expire, and how long they have on average: one request for a sample.
const SAMPLE: &[u8] = b"local n, sum = 0, 0 \
for _, key in ipairs(KEYS) do \
local ttl = redis.call('PTTL', key) \
if ttl >= 0 then n = n + 1 sum = sum + ttl end end \
return {n, n > 0 and math.floor(sum / n) or 0}";

/// An INFO under way.
#[derive(Debug)]
pub struct Info {
    sections: Vec<Vec<u8>>,
    own: Box<Own>,
    prefix: Prefix,
    /// The filtered text up to the keyspace, once the server has answered.
    text: Option<String>,
    walk: Walk,
    hasher: RandomState,
    databases: BTreeMap<u32, Database>,
    /// The databases whose sample has not been asked for.
    unasked: Vec<u32>,
    asked: Option<u32>,
}

/// What is known of a database.
#[derive(Debug, Default)]
struct Database {
    seen: HashSet<u64>,
    sample: Vec<Vec<u8>>,
    expires: u64,
    average_ttl_ms: u64,
}

impl Info {
    /// `INFO [section ...]` for a store of which so much is known.
    #[must_use]
    pub fn new(sections: Vec<Vec<u8>>, own: Own, prefix: &Prefix) -> Self {
        Self {
            sections,
            own: Box::new(own),
            prefix: prefix.clone(),
            text: None,
            walk: Walk::new(prefix.as_str().as_bytes(), b"*"),
            hasher: RandomState::new(),
            databases: BTreeMap::new(),
            unasked: Vec::new(),
            asked: None,
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
        if let Some(database) = self.asked.take() {
            let Reply::Array(numbers) = reply else {
                return misunderstood();
            };
            let [Reply::Integer(count), Reply::Integer(average)] = numbers.as_slice() else {
                return misunderstood();
            };
            self.take_sample(database, *count, *average);
            return self.sample_or_done(context);
        }
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        for name in names {
            if let Some(number) = database_of(name) {
                let hash = self.hasher.hash_one(name);
                let database = self.databases.entry(number).or_default();
                if database.seen.insert(hash) && database.sample.len() < SAMPLED {
                    let whole = [self.prefix.as_str().as_bytes(), name].concat();
                    database.sample.push(whole);
                }
            }
        }
        if more {
            return self.walk.ask();
        }
        self.unasked = self.databases.keys().copied().collect();
        self.sample_or_done(context)
    }

    fn sample_or_done(&mut self, context: &Context) -> Step {
        let Some(number) = self.unasked.pop() else {
            return self.done(context);
        };
        self.asked = Some(number);
        let keys = self.databases.get(&number).map(|d| d.sample.as_slice());
        let keys = keys.unwrap_or_default();
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVAL_RO", SAMPLE, count.as_bytes()];
        words.extend(keys.iter().map(Vec::as_slice));
        ask(Target::Store, &words)
    }

    fn take_sample(&mut self, number: u32, count: i64, average: i64) {
        if let Some(database) = self.databases.get_mut(&number) {
            let (keys, sampled) = (database.seen.len() as u64, database.sample.len() as u64);
            let count = u64::try_from(count).unwrap_or(0);
            database.expires = count * keys / sampled.max(1);
            database.average_ttl_ms = u64::try_from(average).unwrap_or(0);
        }
    }

    fn done(&mut self, context: &Context) -> Step {
        let mut text = self.text.take().unwrap_or_default();
        for (number, database) in &self.databases {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "db{number}:keys={},expires={},avg_ttl={}\r\n",
                database.seen.len(),
                database.expires,
                database.average_ttl_ms
            );
        }
        let mut out = Vec::new();
        encode::text(context.protocol, &text, &mut out);
        Step::Done(out)
    }

    /// The text as the store has it, and whether the keyspace was asked for. The keyspace is the last
    /// section and is filled in later.
    fn filter(&self, text: &str) -> (String, bool) {
        let startup = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory_startup:"));
        let startup_bytes = startup.and_then(|n| n.trim_end().parse().ok()).unwrap_or(0);
        let mut out = String::new();
        let mut keyspace = false;
        let mut told = false;
        for line in text.split("\r\n") {
            if let Some(section) = line.strip_prefix("# ") {
                told = section == "Keyspace";
                keyspace |= told;
                if told {
                    continue;
                }
                if !out.is_empty() {
                    out.push_str("\r\n");
                }
                out.push_str(line);
                out.push_str("\r\n");
                if let Some(lines) = fields::counted(&self.own, section) {
                    out.push_str(&lines);
                    told = true;
                }
            } else if let Some((name, value)) = line.split_once(':')
                && !told
                && let Some(line) =
                    fields::line(&self.own, &self.prefix, name, value, startup_bytes)
            {
                out.push_str(&line);
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
}

/// Which of the store's databases a name belongs to; the name comes without the prefix.
pub(super) fn database_of(name: &[u8]) -> Option<u32> {
    match name.split_first()? {
        (b':', _) => Some(0),
        (b'/', rest) => {
            let end = rest.iter().position(|b| *b == b':')?;
            std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
        }
        _ => None,
    }
}
