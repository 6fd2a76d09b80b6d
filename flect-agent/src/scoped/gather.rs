//! Names for a script: gathered by a walk and handed over in its last argument, behind the prefix.
//!
//! Form: what was walked for, the number of names, the names; each item as `length:bytes`. A name begins
//! behind the store's prefix (`:key`, `/3:key`). What was walked for is a beginning of names with a
//! pattern, empty for all of the store, or `+` for names that nobody walked for.

use std::collections::HashSet;

use super::Reply;
use super::Step;
use super::walk::Walk;
use crate::store::{HIDDEN, Prefix};

/// Names in bytes that are handed to a script, which looks at each of them while the whole server waits
/// for it: 5 us a name for FLUSHDB, 10 for DBSIZE, 15 for SWAPDB, measured on a busy machine. So this is a
/// hundred thousand short names and about a second.
pub(super) const FOUND_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A walk for names of any of a store's databases.
#[derive(Debug)]
pub(super) struct Gather {
    wanted: Vec<u8>,
    walk: Walk,
    seen: HashSet<Box<[u8]>>,
    bytes: usize,
    /// Databases whose names may be exchanged before the names are looked at.
    swapped: Vec<Vec<u8>>,
}

/// What came of a page.
pub(super) enum Gathered {
    /// The next question.
    More(Step),
    /// All names, in the form above.
    All(Vec<u8>),
    TooMany,
    Misunderstood,
}

impl Gather {
    pub(super) fn new(prefix: &Prefix, wanted: &[u8]) -> Self {
        let pattern = if wanted.is_empty() { b"*" } else { wanted };
        Self {
            wanted: wanted.to_vec(),
            walk: Walk::new(prefix.as_str().as_bytes(), pattern),
            seen: HashSet::new(),
            bytes: 0,
            swapped: Vec::new(),
        }
    }

    pub(super) fn with_swaps(self, swapped: Vec<Vec<u8>>) -> Self {
        Self { swapped, ..self }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Gathered {
        let Some((names, more)) = self.walk.take(reply) else {
            return Gathered::Misunderstood;
        };
        for name in names {
            if is_hidden(name) {
                continue;
            }
            for name in names_after_swaps(name, &self.swapped) {
                let bytes = name.len() + ITEM_OVERHEAD_BYTES;
                self.bytes += if self.seen.insert(name.into()) {
                    bytes
                } else {
                    0
                };
            }
        }
        if self.bytes > FOUND_BYTES_MAX {
            return Gathered::TooMany;
        }
        if more {
            return Gathered::More(self.walk.ask());
        }
        let mut out = Vec::with_capacity(self.bytes + self.wanted.len() + ITEM_OVERHEAD_BYTES);
        list(&self.wanted, self.seen.iter().map(AsRef::as_ref), &mut out);
        Gathered::All(out)
    }
}

/// A name, and what it may be called when these databases have been exchanged.
pub(super) fn names_after_swaps(name: &[u8], swapped: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let own = swapped.iter().find_map(|own| name.strip_prefix(&own[..]));
    match own {
        Some(key) => swapped.iter().map(|other| [other, key].concat()).collect(),
        None => vec![name.to_vec()],
    }
}

/// The length and the colon of most names.
const ITEM_OVERHEAD_BYTES: usize = 4;

/// Appends a list of names in the form above.
pub(super) fn list<'n>(
    wanted: &[u8],
    names: impl ExactSizeIterator<Item = &'n [u8]>,
    out: &mut Vec<u8>,
) {
    item(wanted, out);
    item(names.len().to_string().as_bytes(), out);
    for name in names {
        item(name, out);
    }
}

fn item(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Whether a name, without the store's prefix, is the agent's own.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(HIDDEN)
}
