//! One slot's way to another shard, while it is used.
//!
//! Keys go one after the other (`MIGRATE`), and what needs several of them waits where they are apart. Valkey 9 can
//! move a slot as a whole too (`CLUSTER MIGRATESLOTS`): the old shard serves all of it until the new one has it. But
//! where the new one has not taken it over within `cluster-manual-failover-timeout`, the old one takes writes again,
//! and those are lost when it does later ("may have succeeded with lost writes", Valkey 9.1.2): so only where
//! somebody wants that.
//!
//! Invariant: the servers know how far a slot is. Nothing is kept here, so whoever is interrupted goes on by
//! beginning anew.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult, Value};

use crate::reach::{Link, Shard};
use crate::store::Slot;

/// How long a node may take to answer MIGRATE, which one very large value makes long.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// How long the other node may be silent meanwhile (milliseconds).
const SILENT_FOR: u32 = 60_000;

/// How long the source may be occupied by one MIGRATE, about: others wait for it.
const OCCUPIED: Duration = Duration::from_millis(5);

const BATCH_FIRST: usize = 16;
const BATCH_MAX: usize = 512;

/// How often MIGRATE is tried again that could not reach the other node.
const TRIES_MAX: u32 = 5;

/// How long a node may refuse a slot's new owner: its replicas must know it first (`NOREPLICAS`).
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How a slot moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// As a whole, by the servers themselves.
    Whole,
    /// Key by key.
    KeyByKey,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Keys that are at the new shard.
    pub moved: u64,
    /// Keys that the old one had at the beginning.
    pub keys: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// How.
    pub manner: Manner,
    /// Keys that the old shard had at the beginning.
    pub keys: u64,
    /// An earlier try had begun it.
    pub resumed: bool,
}

/// Why a slot is not where it should be. It is served all the same, and the next try goes on.
#[derive(Debug, thiserror::Error)]
pub enum RelocationError {
    /// A node cannot be reached or refuses.
    #[error("the node at {node}: {cause}")]
    Server {
        /// Its address.
        node: String,
        /// What it said.
        cause: RedisError,
    },
    /// It is on its way to another shard.
    #[error("slot {slot} is on its way to node {to}: move it there first, then on from there")]
    OnItsWay {
        /// Which one.
        slot: Slot,
        /// The other shard's primary.
        to: String,
    },
    /// The servers gave up.
    #[error("Valkey did not move slot {slot}: {message}")]
    Failed {
        /// Which one.
        slot: Slot,
        /// What they said.
        message: String,
    },
    /// Nodes do not agree yet that it has a new shard.
    #[error("slot {0} has moved, but not every node knows yet")]
    Unsettled(Slot),
    /// Nobody tells who has which slot.
    #[error("the cluster cannot be asked: {0}")]
    Cluster(#[from] io::Error),
}

/// One slot and its way.
pub struct Relocation {
    link: Link,
    slot: Slot,
    from: Shard,
    to: Shard,
    source: Link,
    target: Link,
}

impl Relocation {
    /// From the shard that has the slot.
    #[must_use]
    pub fn new(link: &Link, slot: Slot, from: &Shard, to: &Shard) -> Self {
        Self {
            link: link.clone(),
            slot,
            from: from.clone(),
            to: to.clone(),
            source: link.patient(&from.primary, ANSWER_WITHIN),
            target: link.patient(&to.primary, ANSWER_WITHIN),
        }
    }

    /// Moves it key by key, or as a whole.
    ///
    /// # Errors
    /// When a node refuses, or the slot is on its way elsewhere.
    pub async fn run(
        &self,
        whole: bool,
        mut told: impl FnMut(Progress),
    ) -> Result<Moved, RelocationError> {
        let begun = self.begun().await?;
        let count = self.order(&["CLUSTER", "COUNTKEYSINSLOT"], &[]);
        let keys = at(&self.from, self.source.send(&count).await)?;
        let keys = redis::from_redis_value(keys).unwrap_or(0);
        told(Progress { moved: 0, keys });
        // What was begun key by key can only be ended so.
        let (manner, resumed) = if whole && !begun {
            (Manner::Whole, self.as_a_whole().await?)
        } else {
            self.key_by_key(keys, &mut told).await?;
            (Manner::KeyByKey, begun)
        };
        self.seen().await?;
        Ok(Moved {
            manner,
            keys,
            resumed,
        })
    }

    /// Whether keys are on their way already.
    async fn begun(&self) -> Result<bool, RelocationError> {
        let nodes = redis::cmd("CLUSTER").arg("NODES").to_owned();
        for (shard, node, other) in [
            (&self.from, &self.source, &self.to),
            (&self.to, &self.target, &self.from),
        ] {
            let told = at(shard, node.send(&nodes).await)?;
            let told: String = redis::from_redis_value(told).unwrap_or_default();
            let here = open_slots(&told);
            if let Some((_, id)) = here.into_iter().find(|(slot, _)| *slot == self.slot) {
                if id != other.id {
                    let slot = self.slot;
                    return Err(RelocationError::OnItsWay { slot, to: id });
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the servers do it: whether they were at it already.
    async fn as_a_whole(&self) -> Result<bool, RelocationError> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("MIGRATESLOTS").arg("SLOTSRANGE");
        command.arg(self.slot.number()).arg(self.slot.number());
        command.arg("NODE").arg(&self.to.id);
        let resumed = match self.source.send(&command).await {
            Ok(_) => false,
            Err(error) if says(&error, "already migrating") => true,
            Err(error) if says(&error, "unknown subcommand") => {
                let message = "only Valkey 9 and newer can move it as a whole".to_owned();
                let slot = self.slot;
                return Err(RelocationError::Failed { slot, message });
            }
            Err(error) => return at(&self.from, Err(error)),
        };
        let range = format!("{0}-{0}", self.slot);
        let question = redis::cmd("CLUSTER").arg("GETSLOTMIGRATIONS").to_owned();
        loop {
            let told = at(&self.from, self.source.send(&question).await)?;
            let jobs: Vec<HashMap<String, Value>> =
                redis::from_redis_value(told).unwrap_or_default();
            // The newest comes first.
            let job = jobs.iter().find_map(|job| {
                let text = |field: &str| -> Option<String> {
                    redis::from_redis_value(job.get(field)?.clone()).ok()
                };
                let ours = text("slot_ranges")? == range && text("target_node")? == self.to.id;
                ours.then(|| (text("state").unwrap_or_default(), text("message")))
            });
            match job {
                Some((state, _)) if state == "success" => return Ok(resumed),
                Some((state, message)) if state == "failed" || state == "cancelled" => {
                    let message = message.filter(|text| !text.is_empty()).unwrap_or(state);
                    let message = match message {
                        text if text.contains("NOAUTH") || text.contains("WRONGPASS") => format!(
                            "{text} (its nodes log into each other with `primaryuser` and `primaryauth`: set both on the source)"
                        ),
                        text => text,
                    };
                    let slot = self.slot;
                    return Err(RelocationError::Failed { slot, message });
                }
                Some(_) => {}
                None => {
                    let message = "it is not among its migrations any more".to_owned();
                    let slot = self.slot;
                    return Err(RelocationError::Failed { slot, message });
                }
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    async fn key_by_key(
        &self,
        keys: u64,
        told: &mut impl FnMut(Progress),
    ) -> Result<(), RelocationError> {
        let importing = self.order(&["CLUSTER", "SETSLOT"], &["IMPORTING", &self.from.id]);
        match self.target.send(&importing).await {
            // An earlier try came as far as the last step.
            Err(error) if says(&error, "already the owner") => return self.settle().await,
            answer => at(&self.to, answer)?,
        };
        let migrating = self.order(&["CLUSTER", "SETSLOT"], &["MIGRATING", &self.to.id]);
        at(&self.from, self.source.send(&migrating).await)?;
        let mut batch = BATCH_FIRST;
        let mut moved = 0;
        loop {
            let ask = self.order(&["CLUSTER", "GETKEYSINSLOT"], &[&batch.to_string()]);
            let names = at(&self.from, self.source.send(&ask).await)?;
            let names: Vec<Vec<u8>> = redis::from_redis_value(names).unwrap_or_default();
            if names.is_empty() {
                break;
            }
            let began = Instant::now();
            self.migrate(&names).await?;
            let took = began.elapsed();
            batch = match took {
                took if took > OCCUPIED => (batch / 2).max(1),
                _ => (batch * 2).min(BATCH_MAX),
            };
            moved += names.len() as u64;
            told(Progress { moved, keys });
            // As long again, the source is everybody's.
            tokio::time::sleep(took).await;
        }
        self.settle().await
    }

    /// Some keys, which are locked at both nodes for so long.
    async fn migrate(&self, names: &[Vec<u8>]) -> Result<(), RelocationError> {
        let Some(place) = self.to.primary.over_network() else {
            let message = "its nodes listen on unix sockets".to_owned();
            let slot = self.slot;
            return Err(RelocationError::Failed { slot, message });
        };
        let mut command = redis::cmd("MIGRATE");
        command.arg(place.ip().to_string()).arg(place.port());
        command.arg("").arg(0).arg(SILENT_FOR);
        // A try that broke may have left one there; the source's is the one that is used.
        command.arg("REPLACE");
        let login = self.link.login();
        match (login.username(), login.password()) {
            (Some(user), Some(password)) => {
                command.arg("AUTH2").arg(user).arg(password);
            }
            (None, Some(password)) => {
                command.arg("AUTH").arg(password);
            }
            _ => {}
        }
        command.arg("KEYS").arg(names);
        let mut tries = 1;
        loop {
            match self.source.send(&command).await {
                // A key may go meanwhile: NOKEY.
                Ok(_) => return Ok(()),
                Err(error) if error.code() == Some("IOERR") && tries < TRIES_MAX => {
                    tracing::debug!(%error, slot = %self.slot, "MIGRATE is tried again");
                    tries += 1;
                    tokio::time::sleep(ASKED_EVERY).await;
                }
                Err(error) => return at(&self.from, Err(error)),
            }
        }
    }

    /// Gives the slot to its new shard, which says so to all others; the old one is told, so that it knows at once.
    async fn settle(&self) -> Result<(), RelocationError> {
        let owner = self.order(&["CLUSTER", "SETSLOT"], &["NODE", &self.to.id]);
        let began = Instant::now();
        for (shard, node) in [(&self.to, &self.target), (&self.from, &self.source)] {
            loop {
                let answer = node.send(&owner).await;
                if answer.is_err() && began.elapsed() < SETTLED_WITHIN {
                    tokio::time::sleep(ASKED_EVERY).await;
                    continue;
                }
                at(shard, answer)?;
                break;
            }
        }
        let Some(topology) = self.link.topology() else {
            return Ok(());
        };
        let others = topology
            .all_shards()
            .filter(|shard| shard.id != self.to.id && shard.id != self.from.id);
        for shard in others {
            // It hears of it anyway.
            let _ = self.link.of_node(&shard.primary).send(&owner).await;
        }
        Ok(())
    }

    /// Waits until the cluster says so.
    async fn seen(&self) -> Result<(), RelocationError> {
        let began = Instant::now();
        while began.elapsed() < SETTLED_WITHIN {
            let topology = self.link.look_at_cluster().await?;
            let owner = topology.as_ref().and_then(|it| it.of(self.slot));
            if owner.is_some_and(|owner| owner.id == self.to.id) {
                return Ok(());
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
        Err(RelocationError::Unsettled(self.slot))
    }

    /// A command about this slot.
    fn order(&self, words: &[&str], more: &[&str]) -> Cmd {
        let mut command = Cmd::new();
        command.arg(words).arg(self.slot.number()).arg(more);
        command
    }
}

fn at<T>(shard: &Shard, answer: RedisResult<T>) -> Result<T, RelocationError> {
    answer.map_err(|cause| RelocationError::Server {
        node: shard.primary.to_string(),
        cause,
    })
}

fn says(error: &RedisError, words: &str) -> bool {
    error.to_string().contains(words)
}

/// The slots that a node has on their way, with the id of the other node, from its CLUSTER NODES: `[7->-id]` goes
/// away, `[7-<-id]` comes.
#[must_use]
pub fn open_slots(nodes: &str) -> Vec<(Slot, String)> {
    let own = nodes.lines().find(|line| {
        let flags = line.split_ascii_whitespace().nth(2);
        flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
    });
    let words = own.unwrap_or_default().split_ascii_whitespace().skip(8);
    let read = |word: &str| {
        let word = word.strip_prefix('[')?.strip_suffix(']')?;
        let (slot, id) = word.split_once("->-").or_else(|| word.split_once("-<-"))?;
        Some((Slot::new(slot.parse().ok()?)?, id.to_owned()))
    };
    words.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_on_their_way_are_read() {
        let nodes = "a 127.0.0.1:1@2 master - 0 0 1 connected 0-5 [6->-b]\n\
                     b 127.0.0.1:3@4 myself,master - 0 0 2 connected 7 9-11 [6-<-a] [7->-c] [x->-y]\n";
        let open = open_slots(nodes);
        let open: Vec<_> = open
            .iter()
            .map(|(slot, id)| (slot.number(), id.as_str()))
            .collect();
        assert_eq!(open, [(6, "a"), (7, "c")]);
        assert!(open_slots("").is_empty());
    }
}
