//! PUBSUB CHANNELS and SHARDCHANNELS: the server's list, reduced to the store's.

use super::walk::{misunderstood, own};
use super::{Context, Reply, Step, Target, ask};
use crate::resp::encode;

/// A list of channels under way.
#[derive(Debug)]
pub struct Names {
    subcommand: &'static [u8],
    pattern: Vec<u8>,
}

impl Names {
    /// `CHANNELS` or `SHARDCHANNELS`, with the app's pattern if it gave one.
    #[must_use]
    pub fn new(subcommand: &'static [u8], pattern: Option<&[u8]>) -> Self {
        Self {
            subcommand,
            pattern: pattern.unwrap_or(b"*").to_vec(),
        }
    }

    pub(super) fn ask(&self, context: &Context) -> Step {
        let pattern = [context.namespace.channels(), &self.pattern].concat();
        let words: [&[u8]; 3] = [b"PUBSUB", self.subcommand, &pattern];
        ask(Target::Housekeeper, &words)
    }

    pub(super) fn take(&self, reply: &Reply, context: &Context) -> Step {
        let Reply::Array(names) = reply else {
            return misunderstood();
        };
        let names: Vec<&[u8]> = own(names, context.namespace.channels()).collect();
        let mut out = Vec::new();
        encode::array(names.len(), &mut out);
        for name in names {
            encode::bulk(name, &mut out);
        }
        Step::Done(out)
    }
}
