//! SCRIPT LOAD, EXISTS and FLUSH: the server's cache is one for all stores, so what a store has loaded is
//! noted beside it, for all nodes: `flect:scripts:{id}`, a hash from the app's names to the server's with
//! a letter for what it asks for,
//! which only the agents reach. Whether a script still runs, the server's cache alone says.

use std::sync::Arc;

use super::walk::misunderstood;
use super::{Context, Reply, Step, Target, ask};
use crate::resp::encode;
use crate::scripts::{Known, SHA_BYTES, Scripts, Sha, Walks};
use crate::store::Prefix;

/// The field that changes with every SCRIPT FLUSH; no script is called so.
const FLUSH: &[u8] = b"flush";

/// A script command under way.
#[derive(Debug)]
pub struct Script {
    scripts: Arc<Scripts>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Is this script known to another node, and has one flushed?
    Find(Sha),
    /// The server gets the text,
    Load(Known),
    /// and all nodes the name.
    Note(Known),
    /// Which of these are known to other nodes?
    Names(Vec<Option<Sha>>),
    /// Which does the server still have?
    Exists(usize),
    /// The names are taken away,
    Forget(Vec<u8>),
    /// and all nodes are told.
    Tell(Vec<u8>),
}

/// Where a store's scripts are noted.
fn key(prefix: &Prefix) -> Vec<u8> {
    format!("{NAMES}{prefix}").into_bytes()
}

/// What the keys of all stores' scripts begin with.
pub const NAMES: &str = "flect:scripts:";

impl Script {
    /// Looks for a script that is not known here, or asks for the last flush.
    #[must_use]
    pub fn find(scripts: Arc<Scripts>, sha: Sha) -> Self {
        let stage = Stage::Find(sha);
        Self { scripts, stage }
    }

    /// SCRIPT LOAD.
    #[must_use]
    pub fn load(scripts: Arc<Scripts>, known: Known) -> Self {
        let stage = Stage::Load(known);
        Self { scripts, stage }
    }

    /// SCRIPT EXISTS of these names; `None` for what is none.
    #[must_use]
    pub fn exists(scripts: Arc<Scripts>, names: Vec<Option<Sha>>) -> Self {
        let stage = Stage::Names(names);
        Self { scripts, stage }
    }

    /// SCRIPT FLUSH, called `flush` among all that ever were.
    #[must_use]
    pub fn flush(scripts: Arc<Scripts>, flush: Vec<u8>) -> Self {
        let stage = Stage::Forget(flush);
        Self { scripts, stage }
    }

    pub(super) fn ask(&self, context: &Context) -> Step {
        let key = key(&context.prefix);
        let housekeeper = Target::Housekeeper;
        match &self.stage {
            Stage::Find(sha) => ask(
                housekeeper,
                &[b"HMGET".as_slice(), &key, FLUSH, sha.as_bytes()],
            ),
            Stage::Load(known) => ask(
                Target::Store,
                &[b"SCRIPT".as_slice(), b"LOAD", known.server_text()],
            ),
            Stage::Note(known) => {
                let walks = self.scripts.walks(known.app);
                let noted = [known.server.as_bytes(), walks.letter().as_bytes()].concat();
                ask(
                    housekeeper,
                    &[b"HSET".as_slice(), &key, known.app.as_bytes(), &noted],
                )
            }
            Stage::Names(names) => {
                let mut words: Vec<&[u8]> = vec![b"HMGET", &key, FLUSH];
                words.extend(
                    names
                        .iter()
                        .map(|name| name.as_ref().unwrap_or(&Sha::NONE).as_bytes()),
                );
                ask(housekeeper, &words)
            }
            Stage::Exists(_) => misunderstood(),
            Stage::Forget(_) => ask(housekeeper, &[b"DEL", key.as_slice()]),
            Stage::Tell(flush) => ask(housekeeper, &[b"HSET".as_slice(), &key, FLUSH, flush]),
        }
    }

    /// Whether an error ends the task; a name that cannot be noted is known on this node at least.
    pub(super) fn minds_errors(&self) -> bool {
        matches!(
            self.stage,
            Stage::Load(_) | Stage::Exists(_) | Stage::Forget(_)
        )
    }

    pub(super) fn take(&mut self, reply: &Reply, context: &Context) -> Step {
        let next = match &self.stage {
            Stage::Find(sha) => {
                self.learn(reply, &[Some(*sha)]);
                return Step::Again;
            }
            Stage::Load(known) => Stage::Note(known.clone()),
            Stage::Note(known) => {
                let mut out = Vec::new();
                encode::bulk(known.app.as_bytes(), &mut out);
                return Step::Done(out);
            }
            Stage::Names(names) => {
                self.learn(reply, names);
                let known = names
                    .iter()
                    .map(|name| name.and_then(|name| self.scripts.find(name)))
                    .collect::<Vec<_>>();
                let mut words: Vec<&[u8]> = vec![b"SCRIPT", b"EXISTS"];
                words.extend(
                    known
                        .iter()
                        .map(|name| name.as_ref().unwrap_or(&Sha::NONE).as_bytes()),
                );
                let step = ask(Target::Store, &words);
                self.stage = Stage::Exists(names.len());
                return step;
            }
            Stage::Exists(count) => return exists(reply, *count),
            Stage::Forget(flush) => Stage::Tell(flush.clone()),
            Stage::Tell(flush) => {
                self.scripts.flushed(flush);
                return Step::Done(b"+OK\r\n".to_vec());
            }
        };
        self.stage = next;
        self.ask(context)
    }

    /// The last flush, then what the server calls each of these.
    fn learn(&self, reply: &Reply, names: &[Option<Sha>]) {
        let Reply::Array(values) = reply else {
            return;
        };
        let mut values = values.iter().map(Reply::bytes);
        self.scripts
            .flushed(values.next().flatten().unwrap_or_default());
        for (name, value) in names.iter().zip(values) {
            let noted = value.and_then(|value| value.split_at_checked(SHA_BYTES));
            let Some((server, letter)) = noted else {
                continue;
            };
            if let (Some(app), Some(server)) = (name, Sha::parse(server)) {
                self.scripts.learn(*app, server, Walks::of_letter(letter));
            }
        }
    }
}

fn exists(reply: &Reply, count: usize) -> Step {
    let Reply::Array(found) = reply else {
        return misunderstood();
    };
    if found.len() != count {
        return misunderstood();
    }
    let mut out = Vec::new();
    encode::array(count, &mut out);
    for found in found {
        encode::integer(i64::from(*found == Reply::Integer(1)), &mut out);
    }
    Step::Done(out)
}
