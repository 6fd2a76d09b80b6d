//! Where the shared Valkey is at the moment: looked at for every new connection, never per request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::reach::{Topology, UpstreamAddress};
use crate::store::Slot;

/// Its addresses.
#[derive(Debug)]
pub struct Whereabouts(ArcSwap<Places>);

/// At one moment.
#[derive(Debug, PartialEq, Eq)]
enum Places {
    /// One server, at one of these addresses; never none.
    One(Arc<Vec<UpstreamAddress>>),
    /// A cluster.
    Shards(Arc<Topology>),
}

impl Whereabouts {
    /// At these from the beginning.
    #[must_use]
    pub fn new(addresses: Vec<UpstreamAddress>) -> Self {
        Self(ArcSwap::from_pointee(Places::One(Arc::new(addresses))))
    }

    /// At these from now on; connections that are there stay.
    pub fn set(&self, addresses: Vec<UpstreamAddress>) {
        self.0.store(Arc::new(Places::One(Arc::new(addresses))));
    }

    /// It is a cluster, whose shards have these slots from now on; connections that are there stay.
    pub fn set_topology(&self, topology: Arc<Topology>) {
        self.0.store(Arc::new(Places::Shards(topology)));
    }

    /// Which shard has which slots; none where it is no cluster.
    #[must_use]
    pub fn topology(&self) -> Option<Arc<Topology>> {
        match &**self.0.load() {
            Places::One(_) => None,
            Places::Shards(topology) => Some(topology.clone()),
        }
    }

    /// Where what is in a slot is, to be tried in turn; nowhere while no shard has it.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Arc<Vec<UpstreamAddress>> {
        match &**self.0.load() {
            Places::One(addresses) => addresses.clone(),
            Places::Shards(topology) => {
                let shard = topology.of(slot).into_iter();
                Arc::new(shard.map(|shard| shard.primary.clone()).collect())
            }
        }
    }

    /// All places where sessions may be served.
    #[must_use]
    pub fn all(&self) -> Vec<UpstreamAddress> {
        match &**self.0.load() {
            Places::One(addresses) => addresses.to_vec(),
            Places::Shards(topology) => {
                let shards = topology.shards().iter();
                shards.map(|shard| shard.primary.clone()).collect()
            }
        }
    }

    /// Whether any of them is a unix socket, which never changes.
    #[must_use]
    pub fn has_unix_socket(&self) -> bool {
        let is_unix = |it: &UpstreamAddress| matches!(it, UpstreamAddress::Unix(_));
        self.all().iter().any(is_unix)
    }
}
