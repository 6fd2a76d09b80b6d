//! FLUSHDB and FLUSHALL: SCAN and UNLINK page by page. What was there when it began is gone when it
//! answers; it is not one instant, as on a private server.

use super::walk::{Walk, misunderstood};
use super::{Reply, Step, Target, ask};
use crate::store::{Namespace, Prefix};

/// A flush under way.
#[derive(Debug)]
pub struct Flush {
    walk: Walk,
    /// What the names begin with, to put it back in front of them.
    prefix: Vec<u8>,
    unlinking: bool,
    more: bool,
}

impl Flush {
    /// One database.
    #[must_use]
    pub fn database(namespace: &Namespace) -> Self {
        Self::new(namespace.keys())
    }

    /// All databases of a store. Its prefix ends in a brace, so no other store's begins with it.
    #[must_use]
    pub fn all_databases(prefix: &Prefix) -> Self {
        Self::new(prefix.as_str().as_bytes())
    }

    fn new(prefix: &[u8]) -> Self {
        Self {
            walk: Walk::new(prefix, b"*"),
            prefix: prefix.to_vec(),
            unlinking: false,
            more: true,
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        if !self.unlinking {
            let Some((names, more)) = self.walk.take(reply) else {
                return misunderstood();
            };
            self.more = more;
            if !names.is_empty() {
                self.unlinking = true;
                return self.unlink(&names);
            }
        }
        self.unlinking = false;
        if self.more {
            self.walk.ask()
        } else {
            Step::Done(b"+OK\r\n".to_vec())
        }
    }

    fn unlink(&self, names: &[&[u8]]) -> Step {
        let mut words = vec![b"UNLINK".to_vec()];
        words.extend(names.iter().map(|name| [&self.prefix, *name].concat()));
        ask(Target::Store, &words)
    }
}
