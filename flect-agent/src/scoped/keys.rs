//! KEYS, SCAN, DBSIZE and RANDOMKEY.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::walk::{LOOKED_AT, Walk, misunderstood, own};
use super::{Context, Reply, Step, Target, ask, error};
use crate::resp::encode;
use crate::store::Namespace;

/// Names of the server that are looked at for one SCAN that finds none of the store's, 30 ms of the
/// server's time in all: an app with few keys beside many foreign ones is neither kept waiting nor made
/// to ask a million times.
const LOOKED_AT_MAX: u64 = 64_000;

/// Names looked at where the app does not say. Ten is Valkey's default for an app alone; beside
/// strangers most pages would be empty.
const COUNT_DEFAULT: u64 = 100;

/// SCAN: one page of the app's own walk; the cursor is the server's.
#[derive(Debug)]
pub struct Page {
    /// The cursor as the app sent it, then as the server answers.
    cursor: Vec<u8>,
    /// The app's last MATCH.
    pub pattern: Option<Vec<u8>>,
    /// The app's last COUNT: at least one.
    pub count: u64,
    /// The app's last TYPE.
    pub kind: Option<Vec<u8>>,
    /// How many names have been looked at, and how many the question now under way looks at.
    looked_at: u64,
    looking_at: u64,
    /// The reply's names as they are encoded, and how many.
    names: Vec<u8>,
    found: usize,
}

impl Page {
    /// At a cursor, which must be a number.
    #[must_use]
    pub fn at(cursor: &[u8]) -> Self {
        Self {
            cursor: cursor.to_vec(),
            pattern: None,
            count: COUNT_DEFAULT,
            kind: None,
            looked_at: 0,
            looking_at: 0,
            names: Vec::new(),
            found: 0,
        }
    }

    pub(super) fn ask(&mut self, context: &Context) -> Step {
        let left = self.count.saturating_sub(self.looked_at);
        // The server is never asked to look at more in one go, whatever the app says.
        self.looking_at = match left {
            0 => LOOKED_AT,
            left => left.min(LOOKED_AT),
        };
        let count = self.looking_at.to_string().into_bytes();
        let pattern = self.pattern.as_deref().unwrap_or(b"*");
        let pattern = [context.namespace.keys(), pattern].concat();
        let mut words: Vec<&[u8]> =
            vec![b"SCAN", &self.cursor, b"MATCH", &pattern, b"COUNT", &count];
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
        for name in own(names, context.namespace.keys()) {
            if !name.is_empty() || matches_nothing(pattern) {
                encode::bulk(name, &mut self.names);
                self.found += 1;
            }
        }
        self.cursor = cursor.to_vec();
        self.looked_at = self.looked_at.saturating_add(self.looking_at);
        let enough = match self.found {
            0 => self.looked_at >= LOOKED_AT_MAX.max(self.count),
            _ => self.looked_at >= self.count || self.names.len() > KEYS_BYTES_MAX,
        };
        if cursor != b"0" && !enough {
            return self.ask(context);
        }
        let mut out = Vec::with_capacity(self.names.len() + 64);
        encode::array(2, &mut out);
        encode::bulk(&self.cursor, &mut out);
        encode::array(self.found, &mut out);
        out.extend_from_slice(&self.names);
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

/// What KEYS says beyond [`KEYS_BYTES_MAX`].
pub const TOO_MANY: &str = "ERR too many keys match for KEYS; use SCAN";

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
            return Step::Done(error(TOO_MANY));
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

/// RANDOMKEY: a walk from a random place until there is a choice, once around if need be.
#[derive(Debug)]
pub struct RandomKey {
    walk: Walk,
    /// The walk has passed the end and goes on from the beginning.
    wrapped: bool,
    names: HashSet<Box<[u8]>>,
}

/// Names among which one is chosen. The server's pages give names behind wide gaps more weight; among so
/// many that evens out, and a store that has fewer is seen whole.
const CHOICE: usize = 32;

impl RandomKey {
    /// Any name of a database.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        let place = random().to_string().into_bytes();
        Self {
            walk: Walk::from(place, namespace.keys(), b"*"),
            wrapped: false,
            names: HashSet::new(),
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        self.names.extend(names.into_iter().map(Box::from));
        // A small table is one page, of which the part before the random place is still to come.
        let whole = self.wrapped && !more;
        let paged = more && self.names.len() >= CHOICE;
        if !whole && !paged {
            self.wrapped |= !more;
            return self.walk.ask();
        }
        let mut out = Vec::new();
        let place = random() % self.names.len().max(1) as u64;
        match self.names.iter().nth(usize::try_from(place).unwrap_or(0)) {
            Some(name) => encode::bulk(name, &mut out),
            None => encode::null(context.protocol, &mut out),
        }
        Step::Done(out)
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}
