//! A Valkey Cluster: which shard has which slots, by what its nodes say.
//!
//! Several nodes are asked, since one that is cut off tells of an earlier time. Of those that are said to have
//! a slot, the one with the newest configuration is right: nodes decide it among themselves in the same way
//! (`clusterUpdateSlotsConfigWith` in cluster_legacy.c).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::primary::ask;
use super::{Login, Reach, UpstreamAddress};
use crate::config::Endpoint;
use crate::store::{SLOTS, Slot};

/// What flect itself keeps is in the slot of this name (`registry.rs`).
pub(super) const HOME: &[u8] = b"{registry}";

/// How long other nodes' answers are waited for when one has come: they tell what that one may not know yet.
const OTHERS_WITHIN: Duration = Duration::from_millis(250);

/// Nodes that are asked at once. One would do but for partitions, and a cluster of a hundred nodes is not to
/// answer a hundred times.
const ASKED_MAX: usize = 7;

/// The nodes of a cluster that are known, and how to log into them.
#[derive(Clone, Debug)]
pub struct Cluster {
    seeds: Vec<Endpoint>,
    pub login: Login,
    /// Those that were there at the last look.
    known: Arc<Mutex<Vec<Endpoint>>>,
}

/// What is known now is no part of how a cluster is reached.
impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        self.seeds == other.seeds && self.login == other.login
    }
}

impl Eq for Cluster {}

/// A primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The primary's node id.
    pub id: String,
    /// Where the primary listens.
    pub primary: UpstreamAddress,
    /// Where its replicas do, but for those that are taken for dead.
    pub replicas: Vec<UpstreamAddress>,
}

/// Which shard has which slots, at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Topology {
    shards: Vec<Shard>,
    /// Primaries that have no slot, or none yet.
    spare: Vec<Shard>,
    /// The shard of each slot; past the end of `shards` where nobody has it.
    owners: Box<[u16]>,
    /// What [`buses`](Self::buses) says.
    buses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topology")
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// No shard has it.
const NOBODY: u16 = u16::MAX;

impl Topology {
    /// The shards that have slots.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shard that has a slot, if any has.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Option<&Shard> {
        let owner = self.owners.get(usize::from(slot.number()))?;
        self.shards.get(usize::from(*owner))
    }

    /// How many slots a shard has, by its place in [`shards`](Self::shards).
    #[must_use]
    pub fn slot_count(&self, shard: usize) -> usize {
        let owners = self.owners.iter();
        owners.filter(|owner| usize::from(**owner) == shard).count()
    }

    /// All that can have slots: [`shards`](Self::shards), then those that have none.
    pub fn all_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().chain(&self.spare)
    }

    /// All nodes: primaries first.
    pub fn nodes(&self) -> impl Iterator<Item = &UpstreamAddress> {
        let primaries = self.all_shards().map(|shard| &shard.primary);
        let replicas = self.all_shards().flat_map(|shard| &shard.replicas);
        primaries.chain(replicas)
    }

    /// Where nodes hear each other, those that are taken for dead too.
    #[must_use]
    pub fn buses(&self) -> &[SocketAddr] {
        &self.buses
    }
}

/// A node as another one, or it itself, describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    id: String,
    /// Without a host where it does not know its own yet.
    place: Option<Endpoint>,
    /// The port of its bus.
    bus: u16,
    hostname: Option<String>,
    is_dead: bool,
    /// The primary's id, of a replica.
    primary: Option<String>,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl Node {
    /// Reads a line of CLUSTER NODES: id, `ip:port@bus[,hostname]`, flags, primary, two times, epoch, state,
    /// slots. `None`: nobody can use the node.
    fn read(line: &str, asked: &Endpoint) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let id = words.next()?.to_owned();
        let place = words.next()?;
        let flags: Vec<&str> = words.next()?.split(',').collect();
        let primary = words.next().filter(|id| *id != "-").map(str::to_owned);
        let epoch = words.nth(2)?.parse().ok()?;
        let slots = words.skip(1).filter_map(range).collect();
        if flags.contains(&"noaddr") || flags.contains(&"handshake") {
            return None;
        }
        let mut parts = place.split(',');
        let (address, bus) = parts.next()?.split_once('@')?;
        let bus = bus.parse().ok()?;
        let (host, port) = address.rsplit_once(':')?;
        let hostname = parts
            .next()
            .filter(|name| !name.is_empty() && !name.contains('='));
        let host = host.trim_matches(['[', ']']);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let place = match host {
            // Nobody has told it its address yet, so this node was asked at a right one.
            "" if flags.contains(&"myself") => Some(asked.clone()),
            "" => None,
            host => Some(Endpoint {
                host: host.to_owned(),
                port,
            }),
        };
        Some(Self {
            id,
            place,
            bus,
            hostname: hostname.map(str::to_owned),
            is_dead: flags.contains(&"fail"),
            primary,
            epoch,
            slots,
        })
    }
}

/// `5-9` or `7`; what is on its way (`[7->-id]`) is still here.
fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// Who has each slot, of all that was said: the newest configuration.
fn owners(views: &[Vec<Node>]) -> HashMap<&str, (&Node, Vec<u16>)> {
    let mut best: Vec<Option<&Node>> = vec![None; usize::from(SLOTS)];
    for node in views.iter().flatten() {
        for (first, last) in &node.slots {
            for slot in &mut best[usize::from(*first)..=usize::from(*last)] {
                if slot.is_none_or(|known| known.epoch < node.epoch) {
                    *slot = Some(node);
                }
            }
        }
    }
    let mut owners: HashMap<&str, (&Node, Vec<u16>)> = HashMap::new();
    for (slot, node) in (0..SLOTS).zip(best) {
        if let Some(node) = node {
            let entry = owners.entry(&node.id).or_insert((node, Vec::new()));
            entry.1.push(slot);
        }
    }
    owners
}

impl Cluster {
    pub fn new(seeds: Vec<Endpoint>, login: Login) -> Self {
        Self {
            seeds,
            login,
            known: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        // Each change is one call, so a panic elsewhere cannot leave it half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those to ask.
    fn places(&self) -> Vec<Endpoint> {
        let mut places = self.seeds.clone();
        for place in self.known().iter() {
            if !places.contains(place) {
                places.push(place.clone());
            }
        }
        let spare = places.len().saturating_sub(ASKED_MAX);
        if spare > 0 {
            // Others each time, so that no seven dead ones hide the living.
            let turn = usize::try_from(getrandom::u32().unwrap_or(0)).unwrap_or(0);
            let count = places.len();
            places.rotate_left(turn % count);
            places.truncate(ASKED_MAX);
        }
        places
    }
}

impl Reach {
    /// Asks a cluster's nodes which shard has which slots.
    pub(super) async fn topology_of(&self, cluster: &Cluster) -> io::Result<Topology> {
        let mut question = redis::cmd("CLUSTER");
        question.arg("NODES");
        let question = &question;
        let ask_one = |place: Endpoint| async move {
            let asked = async {
                let mut failure = io::Error::other("it has no address");
                for address in self.resolve(&place).await? {
                    match ask::<String>(&address, &cluster.login, question).await {
                        Ok(text) => return Ok(text),
                        Err(error) => failure = io::Error::other(error),
                    }
                }
                Err(failure)
            };
            let answer: io::Result<String> = asked.await;
            (place, answer)
        };
        let mut asked: FuturesUnordered<_> = cluster.places().into_iter().map(ask_one).collect();
        let mut views: Vec<Vec<Node>> = Vec::new();
        let mut failures = Vec::new();
        loop {
            let next = asked.next();
            let answer = if views.is_empty() {
                next.await
            } else {
                let others = tokio::time::timeout(OTHERS_WITHIN, next).await;
                others.unwrap_or(None)
            };
            match answer {
                Some((place, Ok(text))) => {
                    let nodes = text.lines().filter_map(|line| Node::read(line, &place));
                    views.push(nodes.collect());
                }
                Some((place, Err(error))) => failures.push(format!("{place}: {error}")),
                None => break,
            }
        }
        if views.is_empty() {
            let text = format!("no node of the cluster answers: {}", failures.join("; "));
            return Err(io::Error::other(text));
        }
        let topology = self.assemble(&views).await?;
        let places = views.iter().flatten();
        let mut known: Vec<Endpoint> = places.filter_map(|node| node.place.clone()).collect();
        known.sort_unstable_by_key(ToString::to_string);
        known.dedup();
        *cluster.known() = known;
        Ok(topology)
    }

    async fn assemble(&self, views: &[Vec<Node>]) -> io::Result<Topology> {
        let mut found: Vec<_> = owners(views).into_values().collect();
        // The same each time, so that two looks can be compared.
        found.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let mut topology = Topology {
            shards: Vec::new(),
            spare: Vec::new(),
            owners: vec![NOBODY; usize::from(SLOTS)].into(),
            buses: Vec::new(),
        };
        for (node, slots) in found {
            let Some(shard) = self.shard_of(node, views).await? else {
                continue;
            };
            let number = u16::try_from(topology.shards.len()).map_err(io::Error::other)?;
            for slot in slots {
                topology.owners[usize::from(slot)] = number;
            }
            topology.shards.push(shard);
        }
        for node in views.iter().flatten() {
            let is_spare = node.primary.is_none() && node.slots.is_empty() && !node.is_dead;
            if is_spare
                && let Some(shard) = self.shard_of(node, views).await?
                && !topology.nodes().any(|known| *known == shard.primary)
            {
                topology.spare.push(shard);
            }
        }
        topology.spare.sort_by(|a, b| a.id.cmp(&b.id));
        for node in views.iter().flatten() {
            if let Some(address) = self
                .address_of(node)
                .await?
                .and_then(|it| it.over_network())
            {
                topology.buses.push((address.ip(), node.bus).into());
            }
        }
        topology.buses.sort_unstable();
        topology.buses.dedup();
        Ok(topology)
    }

    /// A primary, with its replicas by all that was said.
    async fn shard_of(&self, node: &Node, views: &[Vec<Node>]) -> io::Result<Option<Shard>> {
        let Some(primary) = self.address_of(node).await? else {
            return Ok(None);
        };
        let mut replicas = Vec::new();
        for other in views.iter().flatten() {
            let follows = other.primary.as_ref() == Some(&node.id) && !other.is_dead;
            if follows
                && let Some(address) = self.address_of(other).await?
                && !replicas.contains(&address)
            {
                replicas.push(address);
            }
        }
        replicas.sort_by_key(ToString::to_string);
        let id = node.id.clone();
        Ok(Some(Shard {
            id,
            primary,
            replicas,
        }))
    }

    async fn address_of(&self, node: &Node) -> io::Result<Option<UpstreamAddress>> {
        let Some(place) = &node.place else {
            return Ok(None);
        };
        let mut place = place.clone();
        if let (Some(name), Some(_)) = (&node.hostname, &self.trust) {
            // Certificates are for names.
            place.host.clone_from(name);
        }
        Ok(self.resolve(&place).await?.into_iter().next())
    }

    /// Where the shard's primary is that has what flect itself keeps.
    pub(super) async fn home_of(&self, cluster: &Cluster) -> io::Result<UpstreamAddress> {
        let topology = self.topology_of(cluster).await?;
        let slot = Slot::of_name(HOME);
        let shard = topology
            .of(slot)
            .ok_or_else(|| io::Error::other(format!("no node of the cluster has slot {slot}")))?;
        Ok(shard.primary.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Link, Place, Times};
    use super::*;

    const A: &str =
        "a 10.0.0.1:6379@16379,one.example myself,master - 0 0 3 connected 0-5 7 [6->-b]";

    fn seed() -> Endpoint {
        "10.0.0.9:6379".to_owned().try_into().unwrap()
    }

    fn view(lines: &[&str]) -> Vec<Node> {
        let nodes = lines.iter().filter_map(|line| Node::read(line, &seed()));
        nodes.collect()
    }

    #[test]
    fn lines_are_read() {
        let node = Node::read(A, &seed()).unwrap();
        assert_eq!(node.place.as_ref().unwrap().to_string(), "10.0.0.1:6379");
        assert_eq!(node.hostname.as_deref(), Some("one.example"));
        assert_eq!(node.slots, [(0, 5), (7, 7)]);
        assert_eq!(node.epoch, 3);
        assert_eq!(node.bus, 16379);
        let replica = Node::read("r ::1:7000@17000 slave,fail a 0 0 3 connected", &seed()).unwrap();
        assert_eq!(replica.place.unwrap().to_string(), "[::1]:7000");
        assert_eq!(replica.primary.as_deref(), Some("a"));
        assert!(replica.is_dead);
        let alone = "c :7000@17000 myself,master - 0 0 0 connected 0-16383";
        assert_eq!(Node::read(alone, &seed()).unwrap().place, Some(seed()));
        for useless in [
            "",
            "x",
            "x :0@0 master,noaddr - 0 0 1 disconnected 5",
            "x 10.0.0.3:1@2 handshake - 0 0 0 connected",
        ] {
            assert_eq!(Node::read(useless, &seed()), None, "{useless}");
        }
        for wrong in ["16384", "5-3", "0-16384", "[5-<-a]", ""] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_newest_configuration_has_a_slot() {
        let stale = view(&[A, "b 10.0.0.2:6379@1 master - 0 0 2 connected 8-16383"]);
        let newer = view(&[
            "a 10.0.0.1:6379@16379 master,fail - 0 0 3 connected 7",
            "b 10.0.0.2:6379@1 myself,master - 0 0 4 connected 0-5 8-16383",
            "r 10.0.0.3:6379@1 slave b 0 0 4 connected",
            "d 10.0.0.4:6379@1 slave,fail b 0 0 4 connected",
        ]);
        let reach = Reach::single(seed(), None).unwrap();
        for views in [[stale.clone(), newer.clone()], [newer, stale]] {
            let topology = reach.assemble(&views).await.unwrap();
            let id = |slot| {
                topology
                    .of(Slot::new(slot).unwrap())
                    .map(|it| it.id.as_str())
            };
            assert_eq!(
                [id(0), id(5), id(7), id(9)],
                [Some("b"), Some("b"), Some("a"), Some("b")]
            );
            assert_eq!(id(6), None);
            assert_eq!(topology.slot_count(0), 1);
            let nodes: Vec<_> = topology.nodes().map(ToString::to_string).collect();
            assert_eq!(nodes, ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"]);
            let buses: Vec<_> = topology.buses().iter().map(ToString::to_string).collect();
            assert_eq!(
                buses,
                ["10.0.0.1:16379", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]
            );
        }
    }

    /// Whoever held flect's own slot may be dead, and what was seen last stays until the next one is asked.
    #[tokio::test]
    async fn the_way_home_does_not_lead_to_whoever_was_there() {
        let answer = Duration::from_secs(1);
        let times = Times {
            answer,
            connect: answer,
        };
        let reach = Reach {
            place: Place::Cluster(Cluster::new(vec![seed()], Login::default())),
            trust: None,
        };
        let seen = view(&["a 10.0.0.1:6379@16379 myself,master - 0 0 3 connected 0-16383"]);
        let seen = reach.assemble(&[seen]).await.unwrap();
        let link = Link::new(reach, redis::RedisConnectionInfo::default(), times);
        link.know(seen);
        let of_name = |name: &[u8]| link.of_slot(Slot::of_name(name)).node();
        assert_eq!(of_name(HOME), None);
        let there = of_name(b"{abc}:k").map(|node| node.to_string());
        assert_eq!(there.as_deref(), Some("10.0.0.1:6379"));
    }
}
