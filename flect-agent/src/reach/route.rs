//! The operator's commands in a cluster: each goes to the shard that has its names.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::{Arg, Cmd, RedisResult, Value};

use super::cluster::HOME;
use super::{Link, Times, Topology, UpstreamAddress};
use crate::store::Slot;

/// How long a command is tried again that a node has not carried out, since the slot is on its way or nobody's.
const TRIED_FOR: Duration = Duration::from_secs(15);

/// Between two tries.
const TRIED_EVERY: Duration = Duration::from_millis(50);

/// What is known of a cluster's nodes, and the connections to them.
#[derive(Default)]
pub struct Shards {
    topology: ArcSwapOption<Topology>,
    links: Mutex<Vec<(UpstreamAddress, Link)>>,
}

impl Shards {
    pub fn topology(&self) -> Option<Arc<Topology>> {
        self.topology.load_full()
    }

    fn links(&self) -> MutexGuard<'_, Vec<(UpstreamAddress, Link)>> {
        // Each change is one call, so a panic elsewhere cannot leave it half done.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of a command's names: the first word that is a store's name or one of flect's own. A script's text
/// is none, and values stand behind names.
pub fn slot_of(command: &Cmd) -> Slot {
    let name = command.args_iter().skip(1).find_map(|word| match word {
        Arg::Simple(word) if word.starts_with(b"{") || word.starts_with(b"flect:") => Some(word),
        _ => None,
    });
    Slot::of_name(name.unwrap_or(HOME))
}

/// Whether a node has refused a command for a reason that shows it was not carried out.
fn is_elsewhere(error: &redis::RedisError) -> bool {
    matches!(
        error.code(),
        Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")
    )
}

impl Link {
    /// Asks the nodes which shard has which slots.
    ///
    /// # Errors
    /// When none answers.
    pub async fn look_at_cluster(&self) -> io::Result<Option<Arc<Topology>>> {
        let Some(topology) = self.reach().topology().await? else {
            return Ok(None);
        };
        self.know(topology);
        Ok(self.shards().topology())
    }

    /// Takes note of which shard has which slots.
    pub(super) fn know(&self, topology: Topology) {
        let shards = self.shards();
        shards
            .links()
            .retain(|(address, _)| topology.nodes().any(|node| node == address));
        if shards.topology().as_deref() != Some(&topology) {
            shards.topology.store(Some(Arc::new(topology)));
        }
    }

    /// The connection to the shard that has a slot, as it was last seen; this one where nobody has it, and for what
    /// flect keeps itself: it finds the way there anew each time, and what was last seen may be dead.
    #[must_use]
    pub fn of_slot(&self, slot: Slot) -> Self {
        if slot == Slot::of_name(HOME) {
            return self.clone();
        }
        let topology = self.topology();
        match topology.as_ref().and_then(|topology| topology.of(slot)) {
            Some(shard) => self.of_node(&shard.primary),
            None => self.clone(),
        }
    }

    /// The connection to a node of the cluster.
    #[must_use]
    pub fn of_node(&self, address: &UpstreamAddress) -> Self {
        if self.address().as_ref() == Some(address) {
            return self.clone();
        }
        let mut links = self.shards().links();
        if let Some((_, link)) = links.iter().find(|(known, _)| known == address) {
            return link.clone();
        }
        let link = self.to_node(address.clone(), self.times());
        links.push((address.clone(), link.clone()));
        link
    }

    /// One of its own to a node of the cluster, which waits for answers for so long: for what occupies the node.
    #[must_use]
    pub fn patient(&self, node: &UpstreamAddress, answer: Duration) -> Self {
        let times = Times {
            answer,
            ..self.times()
        };
        self.to_node(node.clone(), times)
    }

    /// The connections to all nodes as they were last seen, primaries first; this one alone where it is no
    /// cluster.
    #[must_use]
    pub fn of_nodes(&self) -> Vec<Self> {
        match self.topology() {
            Some(topology) => topology.nodes().map(|node| self.of_node(node)).collect(),
            None => vec![self.clone()],
        }
    }

    /// The connections to all primaries, in the same way.
    #[must_use]
    pub fn of_shards(&self) -> Vec<Self> {
        match self.topology() {
            Some(topology) => {
                let shards = topology.shards().iter();
                shards.map(|shard| self.of_node(&shard.primary)).collect()
            }
            None => vec![self.clone()],
        }
    }

    /// The node that this one was made for; none for the first of a cluster, or outside of one.
    #[must_use]
    pub fn node(&self) -> Option<UpstreamAddress> {
        self.reach().only_address()
    }

    /// What this node, and no other, says of itself as a server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn run_info(&mut self) -> RedisResult<String> {
        let told = self.send(redis::cmd("INFO").arg("server")).await?;
        redis::from_redis_value(told).map_err(Into::into)
    }

    /// Sends a command to the shard that has its names, and again where that has not carried it out.
    pub(super) async fn send_to_shard(&self, command: &Cmd) -> RedisResult<Value> {
        let slot = slot_of(command);
        let began = Instant::now();
        loop {
            let answer = self.of_slot(slot).send(command).await;
            let error = match answer {
                Err(error) if is_elsewhere(&error) && began.elapsed() < TRIED_FOR => error,
                answer => return answer,
            };
            tracing::debug!(%error, "a slot has moved or is on its way");
            // Without an answer the next try tells.
            let _ = self.look_at_cluster().await;
            tokio::time::sleep(TRIED_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_to_the_shard_of_their_names() {
        let check = |words: &[&str], name: &str| {
            let mut command = redis::cmd(words[0]);
            for word in &words[1..] {
                command.arg(*word);
            }
            assert_eq!(
                slot_of(&command),
                Slot::of_name(name.as_bytes()),
                "{words:?}"
            );
        };
        check(&["GET", "{abc}:k"], "{abc}");
        check(
            &["SCAN", "0", "MATCH", "{abc}[:/]*", "COUNT", "10"],
            "{abc}",
        );
        check(
            &["EVALSHA", "sha", "1", "flect:{registry}:meta", "{abc}"],
            "{registry}",
        );
        check(&["HSET", "flect:scripts:{abc}", "{x}", "y"], "{abc}");
        check(&["INFO", "server"], "{registry}");
        check(&["{abc}"], "{registry}");
    }
}
