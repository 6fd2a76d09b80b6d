//! KEYS, SCAN, DBSIZE and RANDOMKEY.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::walk::{Walk, misunderstood, own};
use super::{Context, Reply, Step, Target, ask, error};
use crate::resp::encode;
use crate::store::Namespace;

/// Empty pages after which SCAN answers the app with an empty page of its own, so that an app with
/// few keys beside many foreign ones is neither kept waiting nor made to ask a million times.
const EMPTY_PAGES_MAX: u32 = 16;

/// Names looked at where the app does not say. Ten is Valkey's default for an app alone; beside
/// strangers most pages would be empty.
const COUNT_DEFAULT: &[u8] = b"100";

/// SCAN: one page of the app's own walk; the cursor is the server's.
#[derive(Debug)]
pub struct Page {
    /// The cursor as the app sent it, then as the server answers.
    pub cursor: Vec<u8>,
    /// The app's last MATCH.
    pub pattern: Option<Vec<u8>>,
    /// The app's last COUNT.
    pub count: Option<Vec<u8>>,
    /// The app's last TYPE.
    pub kind: Option<Vec<u8>>,
    /// Pages without a name so far.
    pub empty_pages: u32,
}

impl Page {
    pub(super) fn ask(&self, context: &Context) -> Step {
        let pattern = self.pattern.as_deref().unwrap_or(b"*");
        let pattern = [context.namespace.keys(), pattern].concat();
        let count = self.count.as_deref().unwrap_or(COUNT_DEFAULT);
        let mut words: Vec<&[u8]> =
            vec![b"SCAN", &self.cursor, b"MATCH", &pattern, b"COUNT", count];
        if let Some(kind) = &self.kind {
            words.extend([b"TYPE".as_slice(), kind]);
        }
        ask(Target::Housekeeper, &words)
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        let Some((cursor, names)) = reply.scan_page() else {
            return misunderstood();
        };
        let pattern = self.pattern.as_deref().unwrap_or(b"*");
        let names: Vec<&[u8]> = own(names, context.namespace.keys())
            .filter(|name| !name.is_empty() || matches_nothing(pattern))
            .collect();
        self.cursor = cursor.to_vec();
        if names.is_empty() && cursor != b"0" && self.empty_pages < EMPTY_PAGES_MAX {
            self.empty_pages += 1;
            return self.ask(context);
        }
        let mut out = Vec::new();
        encode::array(2, &mut out);
        encode::bulk(&self.cursor, &mut out);
        encode_names(&names, &mut out);
        Step::Done(out)
    }
}

/// Whether a pattern matches the empty name: its stars match something, but for a single one, for which
/// the server does not look (`keysCommand` in db.c). Behind a prefix the server finds otherwise.
fn matches_nothing(pattern: &[u8]) -> bool {
    matches!(pattern, b"" | b"*")
}

fn encode_names(names: &[&[u8]], out: &mut Vec<u8>) {
    encode::array(names.len(), out);
    for name in names {
        encode::bulk(name, out);
    }
}

/// KEYS. Names are remembered until the end, as a private server holds its whole reply.
#[derive(Debug)]
pub struct Keys {
    walk: Walk,
    seen: HashSet<Box<[u8]>>,
    bytes: usize,
    shows_empty_name: bool,
}

/// The most that KEYS may gather for one reply, in bytes of names: beyond it the agent's memory,
/// which all stores of the node share, would be at one store's mercy.
const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Keys {
    /// The names of a database that match.
    #[must_use]
    pub fn new(pattern: &[u8], namespace: &Namespace) -> Self {
        Self {
            walk: Walk::new(namespace.keys(), pattern),
            seen: HashSet::new(),
            bytes: 0,
            shows_empty_name: matches_nothing(pattern),
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        for name in names {
            if name.is_empty() && !self.shows_empty_name {
                continue;
            }
            if self.seen.insert(name.into()) {
                self.bytes += name.len() + NAME_OVERHEAD_BYTES;
            }
        }
        if self.bytes > KEYS_BYTES_MAX {
            return Step::Done(error("ERR too many keys match for KEYS; use SCAN"));
        }
        if more {
            return self.walk.ask();
        }
        let names: Vec<&[u8]> = self.seen.iter().map(AsRef::as_ref).collect();
        let mut out = Vec::new();
        encode_names(&names, &mut out);
        Step::Done(out)
    }
}

/// What a remembered name costs besides its bytes: pointer, length, hash table slot, allocation.
const NAME_OVERHEAD_BYTES: usize = 48;

/// Names that DBSIZE remembers, at 16 bytes each with the table's room. Beyond it a name that SCAN
/// brings twice, which happens only while the server resizes its table, is counted twice.
const REMEMBERED_MAX: usize = 4 * 1024 * 1024;

/// DBSIZE. Names are remembered by a 64-bit hash under a key of this process: two of a million
/// names meet with probability 3e-8, and remembering names whole would cost their bytes.
#[derive(Debug)]
pub struct Count {
    walk: Walk,
    hasher: RandomState,
    seen: HashSet<u64>,
    not_remembered: usize,
}

impl Count {
    /// The names of a database.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        Self {
            walk: Walk::new(namespace.keys(), b"*"),
            hasher: RandomState::new(),
            seen: HashSet::new(),
            not_remembered: 0,
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        for name in names {
            if self.seen.len() < REMEMBERED_MAX {
                self.seen.insert(self.hasher.hash_one(name));
            } else {
                self.not_remembered += 1;
            }
        }
        if more {
            return self.walk.ask();
        }
        let mut out = Vec::new();
        let count = self.seen.len() + self.not_remembered;
        encode::integer(i64::try_from(count).unwrap_or(i64::MAX), &mut out);
        Step::Done(out)
    }
}

/// RANDOMKEY: a walk from a random place to the first page with a name, once around.
#[derive(Debug)]
pub struct RandomKey {
    walk: Walk,
    /// The walk has passed the end and goes on from the beginning.
    wrapped: bool,
    random: u64,
}

impl RandomKey {
    /// Any name of a database.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        let random = RandomState::new().hash_one(0);
        Self {
            walk: Walk::from(random.to_string().into_bytes(), namespace.keys(), b"*"),
            wrapped: false,
            random,
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        let mut out = Vec::new();
        if names.is_empty() {
            if more || !self.wrapped {
                self.wrapped |= !more;
                return self.walk.ask();
            }
            encode::null(context.protocol, &mut out);
        } else {
            let place = self.random % names.len() as u64;
            encode::bulk(names[usize::try_from(place).unwrap_or(0)], &mut out);
        }
        Step::Done(out)
    }
}
