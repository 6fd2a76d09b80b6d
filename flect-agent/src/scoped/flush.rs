//! FLUSHDB and FLUSHALL: SCAN and UNLINK page by page, the next page while the last is removed. What was
//! there when it began is gone when it answers; it is not one instant, as on a private server.

use super::gather::is_hidden;
use super::walk::{Walk, misunderstood};
use super::{Reply, Step, Target, ask};
use crate::resp::encode;
use crate::store::{Namespace, Prefix};

/// A flush under way.
#[derive(Debug)]
pub struct Flush {
    walk: Walk,
    /// What the names begin with, to put it back in front of them.
    prefix: Vec<u8>,
    /// The last page is being removed.
    last: bool,
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
            last: false,
        }
    }

    pub(super) fn ask(&self) -> Step {
        self.walk.ask()
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        if self.last {
            return Step::Done(b"+OK\r\n".to_vec());
        }
        let Some((names, more)) = self.walk.take(reply) else {
            return misunderstood();
        };
        let mut words = vec![b"UNLINK".to_vec()];
        let names = names.iter().filter(|name| !is_hidden(name));
        words.extend(names.map(|name| [&self.prefix, *name].concat()));
        match (words.len() > 1, more) {
            (true, true) => {
                let mut aside = Vec::new();
                encode::request(&words, &mut aside);
                Step::AskBoth {
                    aside,
                    request: self.walk.request(),
                }
            }
            (true, false) => {
                self.last = true;
                ask(Target::Store, &words)
            }
            (false, true) => self.walk.ask(),
            (false, false) => Step::Done(b"+OK\r\n".to_vec()),
        }
    }
}
