//! Names for the commands about all keys that a transaction has queued: walked for when EXEC has come,
//! and left with the server for them to read, under a name that no app can have.
//!
//! Invariant: EXEC is sent only after the names are there; otherwise the transaction is discarded.

use std::collections::HashSet;

use super::gather::{FOUND_BYTES_MAX, Gather, Gathered, list, names_after_swaps};
use super::{Context, Reply, Step, Target, ask};
use crate::store::{HIDDEN, Prefix};

/// How long the names stay when nobody reads them, because the EXEC did not run: longer than a server
/// that is stopped for a moment keeps an EXEC waiting.
const KEPT_FOR_MS: &[u8] = b"30000";

/// Names in bytes that a transaction's own commands may mention: what its connection holds on the server
/// is much more.
pub const MENTIONED_BYTES_MAX: usize = 1024 * 1024;

/// What EXEC says then.
pub const TOO_MANY: &str =
    "too many names of the store for a transaction: run the command outside of it";

/// Queued commands that need names, and the names that the transaction mentions.
#[derive(Debug, Default)]
pub struct Queued {
    /// Where the names will be; made with the first such command.
    place: Option<Vec<u8>>,
    commands: usize,
    /// What the only one asks for; empty for everything.
    wanted: Vec<u8>,
    mentioned: HashSet<Box<[u8]>>,
    mentioned_bytes: usize,
    /// What names of databases begin with that SWAPDB exchanges.
    swapped: Vec<Vec<u8>>,
    filled: bool,
}

impl Queued {
    /// Queues one more command that needs the names which begin and match so, empty for all; answers
    /// where it will find them. `number` is one that no other transaction has.
    pub fn needs(&mut self, prefix: &Prefix, wanted: &[u8], number: u64) -> &[u8] {
        self.wanted = if self.commands == 0 { wanted } else { b"" }.to_vec();
        self.commands += 1;
        self.place(prefix, number)
    }

    /// Where the names will be, for a script that may make some; see [`Self::needs`].
    pub fn place(&mut self, prefix: &Prefix, number: u64) -> &[u8] {
        self.place.get_or_insert_with(|| {
            let own = format!("walk.{number:016x}");
            [prefix.as_str().as_bytes(), HIDDEN, own.as_bytes()].concat()
        })
    }

    /// Notes the names in a request that has been written for the server.
    pub fn mention_all(&mut self, prefix: &Prefix, request: &[u8]) {
        let prefix = prefix.as_str().as_bytes();
        for at in memchr::memmem::find_iter(request, prefix) {
            // The whole argument: its length stands before it.
            let head = request[..at].strip_suffix(b"\r\n").unwrap_or_default();
            let dollar = memchr::memrchr(b'$', head);
            let length = dollar
                .and_then(|dollar| std::str::from_utf8(&head[dollar + 1..]).ok())
                .and_then(|digits| digits.parse::<usize>().ok());
            if let Some(name) = length.and_then(|length| request.get(at..at + length)) {
                self.mention(&name[prefix.len()..]);
            }
        }
    }

    /// Notes a name, without the store's prefix.
    pub fn mention(&mut self, name: &[u8]) {
        if self.mentioned_bytes <= MENTIONED_BYTES_MAX && self.mentioned.insert(name.into()) {
            self.mentioned_bytes += name.len();
        }
    }

    /// The names of this database, which begin so behind the store's prefix, may become another's.
    pub fn swaps(&mut self, database: Vec<u8>) {
        if !self.swapped.contains(&database) {
            self.swapped.push(database);
        }
    }

    /// Whether something must be done before EXEC.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.commands > 0 && !self.filled
    }

    /// The task that must be done before EXEC, once.
    pub fn fill(&mut self, prefix: &Prefix) -> Fill {
        self.filled = true;
        let place = self.place.clone().unwrap_or_default();
        let swapped = if self.commands > 1 {
            std::mem::take(&mut self.swapped)
        } else {
            Vec::new()
        };
        let mut mentions: Vec<Vec<u8>> = Vec::new();
        for name in &self.mentioned {
            mentions.extend(names_after_swaps(name, &swapped));
        }
        // One reader takes them away with it.
        let suffix: &[u8] = if self.commands == 1 { b".1" } else { b"" };
        let mut mentioned = Vec::new();
        list(b"+", mentions.iter().map(Vec::as_slice), &mut mentioned);
        Fill {
            gather: Gather::new(prefix, &self.wanted).with_swaps(swapped),
            place: [&place, suffix].concat(),
            mentioned,
            too_many: self.mentioned_bytes > MENTIONED_BYTES_MAX,
            walked: false,
        }
    }
}

/// Names on their way to the server.
#[derive(Debug)]
pub struct Fill {
    gather: Gather,
    place: Vec<u8>,
    mentioned: Vec<u8>,
    too_many: bool,
    walked: bool,
}

impl Fill {
    pub(super) fn ask(&self) -> Step {
        if self.too_many {
            return too_many();
        }
        self.gather.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply, _: &Context) -> Step {
        if self.walked {
            return Step::Again;
        }
        let mut names = match self.gather.take(reply) {
            Gathered::More(step) => return step,
            Gathered::All(names) => names,
            Gathered::TooMany => return too_many(),
            Gathered::Misunderstood => return super::walk::misunderstood(),
        };
        names.append(&mut self.mentioned);
        if names.len() > FOUND_BYTES_MAX {
            return too_many();
        }
        self.walked = true;
        let words: [&[u8]; 5] = [b"SET", &self.place, &names, b"PX", KEPT_FOR_MS];
        ask(Target::Store, &words)
    }
}

fn too_many() -> Step {
    Step::Done(super::error(&format!("ERR {TOO_MANY}")))
}
