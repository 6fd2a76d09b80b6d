//! A script that asks for names of the store: KEYS, SCAN, DBSIZE, RANDOMKEY, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! The store's user may not ask the server for names, since it would see everybody's. So the shim ends a
//! script that has done nothing yet with an error that says what it looks for; the agent walks, as for
//! the same command outside of scripts, and runs the script anew with the names that it found.
//!
//! Where the text does not tell that it asks before it changes anything (`scripts/wide.rs`), the agent walks
//! for all names first.
//!
//! Invariant: the script's effects happen once: the shim asks only while no command has changed anything.

use super::gather::{FOUND_BYTES_MAX, Gather, Gathered};
use super::walk::misunderstood;
use super::{Context, Reply, Step, Target, ask};
use crate::rewrite::{ReplyPlan, ScriptNames};
use crate::store::Prefix;

/// What the shim's error begins with; what it looks for follows in hexadecimal, up to a full stop.
const WALK: &[u8] = b"-FLECTWALK ";

/// Patterns that one run may ask for, each of which is a walk over the server.
const WALKS_MAX: usize = 8;

/// What a script ends with then.
pub const TOO_MANY: &[u8] =
    b"-ERR the script asks for too many names of the store: run the command outside of it\r\n";

/// A script's run.
#[derive(Debug)]
pub struct Run {
    /// The request without its last argument.
    words: Vec<Vec<u8>>,
    names: Option<ScriptNames>,
    /// Lists of names, one for each walk.
    found: Vec<u8>,
    walks: usize,
    walk: Option<Gather>,
}

impl Run {
    /// Of a request as the server gets it, but for its last argument.
    /// With `everything`, all of the store's names are walked for beforehand.
    #[must_use]
    pub fn new(
        words: Vec<Vec<u8>>,
        plan: &ReplyPlan,
        everything: bool,
        context_prefix: &Prefix,
    ) -> Self {
        let names = match plan {
            ReplyPlan::Script(names) => Some(names.as_ref().clone()),
            _ => None,
        };
        Self {
            words,
            names,
            found: Vec::new(),
            walks: 0,
            walk: everything.then(|| Gather::new(context_prefix, b"")),
        }
    }

    pub(super) fn ask(&self, context: &Context) -> Step {
        if let Some(walk) = &self.walk {
            return walk.ask();
        }
        let last = [context.namespace.keys(), b"\0", &self.found].concat();
        let mut words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        words.push(&last);
        ask(Target::App, &words)
    }

    /// How the reply to come must be read.
    pub(super) fn plan(&self) -> Option<ReplyPlan> {
        let names = self.names.clone().filter(|_| self.walk.is_none())?;
        Some(ReplyPlan::Script(Box::new(names)))
    }

    /// The script's reply as it came; `None` when it is the server's, to the walk.
    pub(super) fn take_raw(&mut self, reply: &[u8], context: &Context) -> Option<Step> {
        if self.walk.is_some() {
            return None;
        }
        let Some(wanted) = reply.strip_prefix(WALK).and_then(wanted) else {
            return Some(Step::Done(reply.to_vec()));
        };
        self.walks += 1;
        if self.walks > WALKS_MAX {
            return Some(Step::Done(TOO_MANY.to_vec()));
        }
        let walk = self.walk.insert(Gather::new(&context.prefix, &wanted));
        Some(walk.ask())
    }

    /// A page of the walk.
    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        let Some(walk) = &mut self.walk else {
            return misunderstood();
        };
        match walk.take(reply) {
            Gathered::More(step) => return step,
            Gathered::All(names) => self.found.extend_from_slice(&names),
            Gathered::TooMany => return Step::Done(TOO_MANY.to_vec()),
            Gathered::Misunderstood => return misunderstood(),
        }
        self.walk = None;
        if self.found.len() > FOUND_BYTES_MAX {
            return Step::Done(TOO_MANY.to_vec());
        }
        self.ask(context)
    }
}

/// The names that an error asks for.
fn wanted(text: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'.', text)?;
    let digits = std::str::from_utf8(&text[..end]).ok()?;
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}
