//! Integrity mode: what leaves for an app is searched for names that are not the app's to see.
//!
//! Invariant: this is a second look, independent of the rewriters: it knows no commands and no plans,
//! only bytes, so a mistake in a rule, in a rewriter or in a task is found by it. For any cut of a reply
//! into pieces the same is found, and no byte of what is found has been let out before.
//!
//! What belongs to the store alone, `{id}:`, `{id}/` and `flect.id`, is searched everywhere, values
//! included: an id is random, so no app has these bytes unless something has told it. Names of other
//! stores, of the agent's other users and the server's address are searched where the server itself
//! speaks, in errors, and in what tasks of the agent's own gathered with other rights than the store's: an
//! app knows the address that it connects to, so values may hold it.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use memchr::memmem::{self, Finder};

use crate::store::{PREFIX_ID_BYTES_MAX, Prefix};
use crate::weakened::{self, Weakness};

/// What the names of the agent's users begin with.
const USERS: &[u8] = b"flect.";

/// The agent's user that belongs to no store.
const HOUSEKEEPER: &[u8] = b"housekeeper";

/// The names of one store on the server.
#[derive(Debug)]
pub struct OwnNames {
    id: Finder<'static>,
}

impl OwnNames {
    /// The names of the store with this prefix.
    #[must_use]
    pub fn new(prefix: &Prefix) -> Self {
        let id = prefix.as_str().trim_matches(['{', '}']);
        Self {
            id: Finder::new(id.as_bytes()).into_owned(),
        }
    }

    /// Whether one of them stands in `bytes`.
    #[inline]
    #[must_use]
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        let id = self.id.needle();
        // The shortest is the id in braces with one byte behind it; most small replies end here.
        if bytes.len() < id.len() + 3 {
            return false;
        }
        self.id.find_iter(bytes).any(|at| {
            let (before, behind) = (&bytes[..at], &bytes[at + id.len()..]);
            before.ends_with(b"{") && matches!(behind, [b'}', b':' | b'/', ..])
                || before.ends_with(USERS)
        })
    }

    /// How many bytes at the end of `bytes` may be the beginning of one of them.
    #[must_use]
    pub fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let id = self.id.needle();
        let begins = |end: &[u8]| -> bool {
            let key = [b"{", id, b"}"];
            let user = [USERS, id, b""];
            [key, user].iter().any(|name| {
                let mut rest = end;
                for part in name {
                    let common = rest.len().min(part.len());
                    if rest[..common] != part[..common] {
                        return false;
                    }
                    rest = &rest[common..];
                }
                rest.is_empty()
            })
        };
        let longest = bytes.len().min(USERS.len() + id.len());
        (1..=longest)
            .rev()
            .find(|count| begins(&bytes[bytes.len() - count..]))
            .unwrap_or(0)
    }
}

/// What no store of an environment may see, and whether it is looked for at all.
#[derive(Debug)]
pub struct Integrity {
    enabled: bool,
    /// The ids of all stores of the environment.
    ids: ArcSwap<HashSet<Box<[u8]>>>,
    addresses: ArcSwap<Vec<Finder<'static>>>,
}

/// The longest name of another store or user, which may be cut by the end of what is there: the user of
/// another store's SORTs. Addresses are longer than this only as host names, see [`Integrity::wide_bytes`].
const FOREIGN_BYTES_MAX: usize = USERS.len() + PREFIX_ID_BYTES_MAX + ".sort".len();

impl Integrity {
    /// With the addresses of the shared server, `host:port` each.
    #[must_use]
    pub fn new(enabled: bool, addresses: impl IntoIterator<Item = String>) -> Self {
        let finder = |address: String| Finder::new(address.as_bytes()).into_owned();
        Self {
            enabled,
            ids: ArcSwap::default(),
            addresses: ArcSwap::from_pointee(addresses.into_iter().map(finder).collect()),
        }
    }

    /// Whether anything is looked for.
    #[inline]
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled && !weakened::has(Weakness::Integrity)
    }

    /// These are all stores of the environment from now on.
    pub fn know<'a>(&self, prefixes: impl IntoIterator<Item = &'a Prefix>) {
        let id = |prefix: &Prefix| prefix.as_str().trim_matches(['{', '}']).as_bytes().into();
        let ids = prefixes.into_iter().map(id).collect();
        self.ids.store(std::sync::Arc::new(ids));
    }

    /// The shared server has this address, `host:port`, from now on as well.
    pub fn hide(&self, address: &str) {
        self.addresses.rcu(|known| {
            let mut all: Vec<Finder<'static>> = Vec::clone(known);
            if !all.iter().any(|it| it.needle() == address.as_bytes()) {
                all.push(Finder::new(address.as_bytes()).into_owned());
            }
            all
        });
    }

    /// Whether an error's text names the server's address, or what [`Self::foreign_in`] finds.
    #[must_use]
    pub fn in_error(&self, bytes: &[u8]) -> bool {
        self.foreign_in(bytes)
            || self
                .addresses
                .load()
                .iter()
                .any(|it| it.find(bytes).is_some())
    }

    /// Whether names of any store, or of one of the agent's users, stand in `bytes`.
    #[must_use]
    pub fn foreign_in(&self, bytes: &[u8]) -> bool {
        let ids = self.ids.load();
        let key = |at: usize| {
            let (id, rest) = word(&bytes[at + 1..]);
            matches!(rest, [b'}', b':' | b'/', ..]) && ids.contains(id)
        };
        let user = |at: usize| {
            let (id, _) = word(&bytes[at + USERS.len()..]);
            id == HOUSEKEEPER || ids.contains(id)
        };
        memchr::memchr_iter(b'{', bytes).any(key) || memmem::find_iter(bytes, USERS).any(user)
    }

    /// So many bytes at the end of an error that goes on may belong to such a name.
    #[must_use]
    pub fn wide_bytes(&self) -> usize {
        let addresses = self.addresses.load();
        let lengths = addresses.iter().map(|it| it.needle().len());
        lengths.chain([FOREIGN_BYTES_MAX]).max().unwrap_or_default()
    }
}

/// What may be an id at the beginning of `bytes`, and the rest.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = bytes
        .iter()
        .take(PREFIX_ID_BYTES_MAX + 1)
        .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        .count();
    bytes.split_at(length)
}

/// What stands between the reply rewriter and a client, for one reply after the other of one connection.
#[derive(Debug, Default)]
pub struct Guard {
    /// The end of what there is of a reply, where it may be the beginning of a name.
    held: Vec<u8>,
    /// Something of the reply has been let out.
    passed: bool,
    /// The rest of the reply is not for the client.
    dropping: bool,
}

/// What became of a piece of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has been let out, but for what may be the beginning of a name.
    Clean,
    /// It holds a name; nothing of the reply has been let out, and nothing of it is in the output.
    Whole,
    /// It holds a name, and the client has the reply's beginning.
    Partly,
}

impl Guard {
    /// Puts back what was held, before the reply's next piece is appended to `out`.
    pub fn open(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Whether the rest of the reply shall not reach the client.
    #[must_use]
    pub fn is_dropping(&self) -> bool {
        self.dropping
    }

    /// Looks at what was appended to `out` from `from` on; `error` when an error's text is in it, `done`
    /// when the reply ends with it. What is not let out is taken off `out` again.
    #[inline]
    pub fn look(
        &mut self,
        own: &OwnNames,
        all: &Integrity,
        out: &mut Vec<u8>,
        from: usize,
        error: bool,
        done: bool,
    ) -> Verdict {
        let bytes = &out[from..];
        if own.are_in(bytes) || error && all.in_error(bytes) {
            return self.found(out, from, done);
        }
        if done {
            self.passed = false;
            return Verdict::Clean;
        }
        let wide = if error { all.wide_bytes() } else { 0 };
        let hold = own.begun_at_end(bytes).max(wide).min(bytes.len());
        let keep = out.len() - hold;
        self.held.extend_from_slice(&out[keep..]);
        out.truncate(keep);
        self.passed |= keep > from;
        Verdict::Clean
    }

    #[cold]
    fn found(&mut self, out: &mut Vec<u8>, from: usize, done: bool) -> Verdict {
        out.truncate(from);
        let passed = std::mem::take(&mut self.passed);
        self.dropping = !done;
        if passed {
            Verdict::Partly
        } else {
            Verdict::Whole
        }
    }

    /// The reply has ended.
    #[inline]
    pub fn end(&mut self) {
        self.passed = false;
        self.dropping = false;
        self.held.clear();
    }
}

#[cfg(test)]
mod tests;
