//! Following a Valkey Cluster: nodes come and go, slots change their shards.
//!
//! Invariant: workers are sent to a node only after the agent's users were asked for there, and to a store's new
//! shard only after its functions are there.

use std::net::SocketAddr;
use std::sync::Arc;

use flect_agent::config::Config;
use flect_agent::environment::Store;
use flect_agent::reach::{Topology, UpstreamAddress};
use flect_agent::store::Prefix;
use flect_agent::worker::Message;

use super::Keeper;

impl Keeper {
    /// Looks which shard has which slots, and tells the workers where that has changed.
    pub(super) async fn follow_cluster(&mut self) {
        // Without an answer, or where it is none, everything stays as it is.
        let Ok(Some(topology)) = self.admin.connection().look_at_cluster().await else {
            return;
        };
        self.look_for_ways_around(&topology);
        self.prepare_nodes().await;
        let Some(before) = self.environment.whereabouts.topology() else {
            return;
        };
        if before == topology {
            return;
        }
        let moved = self.moved(&before, &topology);
        for (prefix, from) in &moved {
            if let Err(error) = self.admin.carry_libraries(prefix, from).await {
                tracing::warn!(%prefix, %error, "functions could not be taken to a store's new shard");
            }
        }
        for node in topology.nodes() {
            self.environment.integrity.hide(&node.to_string());
        }
        let shards: Vec<String> = topology
            .shards()
            .iter()
            .map(|shard| shard.primary.to_string())
            .collect();
        tracing::info!(
            shards = shards.join(", "),
            stores = moved.len(),
            "the cluster has changed; sessions follow"
        );
        self.environment.whereabouts.set_topology(topology);
        for worker in self.workers.iter() {
            worker.send(Message::Moved);
        }
        for (prefix, from) in &moved {
            // What was loaded there meanwhile; and should the store come back, that is not to be in its way.
            let node = self.admin.connection().of_node(from);
            let carried = self.admin.carry_libraries(prefix, from).await;
            if carried.is_ok() {
                // A node that does not do it now keeps what nobody uses.
                let _ = self.admin.drop_libraries(prefix, &node).await;
            }
        }
    }

    /// Makes the agent's users on nodes that are new, were started anew, or did not do what they were asked.
    async fn prepare_nodes(&mut self) {
        let served: Vec<_> = self.stores.served().values().cloned().collect();
        let stores: Vec<&Store> = served.iter().map(Arc::as_ref).collect();
        let mut prepared = Vec::new();
        for node in self.admin.unprepared().await {
            match self.admin.equip(&node, &stores).await {
                Ok(()) => prepared.push(node),
                Err(error) => {
                    tracing::warn!(%error, ?node, "the agent's users could not be made");
                }
            }
        }
        if prepared.is_empty() {
            return;
        }
        tracing::info!(nodes = prepared.len(), "the agent's users are in place");
        for worker in self.workers.iter() {
            worker.send(Message::UsersMade);
        }
        self.apply_settings().await;
        self.admin.prepare(prepared);
        self.ensure_events().await;
    }

    /// Tells, once for each change, which places of the cluster apps could reach by themselves.
    fn look_for_ways_around(&mut self, topology: &Arc<Topology>) {
        if !self.config.intercept.enabled || self.guarded.as_ref() == Some(topology) {
            return;
        }
        match ways_around(&self.config, topology) {
            Ok(open) if open.is_empty() => {}
            Ok(open) => tracing::warn!(
                open = open.join(", "),
                "apps can reach places of the cluster around the agent: name the addresses in \
                 intercept.addresses, ports in intercept.ports, and ports of the bus in intercept.closed_ports"
            ),
            Err(error) => {
                tracing::warn!(%error, "whether apps can reach nodes around the agent is not known");
                return;
            }
        }
        self.guarded = Some(topology.clone());
    }

    /// The stores whose shard is another one now, with the primary that had them and still is one.
    fn moved(&self, before: &Arc<Topology>, now: &Arc<Topology>) -> Vec<(Prefix, UpstreamAddress)> {
        let is_primary = |address: &UpstreamAddress| {
            let mut shards = now.shards().iter();
            shards.any(|shard| shard.primary == *address)
        };
        let served = self.stores.served().iter();
        served
            .filter_map(|(prefix, store)| {
                let from = &before.of(store.slot)?.primary;
                let to = &now.of(store.slot)?.primary;
                (from != to && is_primary(from)).then(|| (prefix.clone(), from.clone()))
            })
            .collect()
    }
}

/// Nodes, and ports of their bus, that `[intercept]` leaves out.
fn ways_around(config: &Config, topology: &Topology) -> std::io::Result<Vec<String>> {
    let networks = config.intercept_networks()?;
    let (served, closed) = (config.intercept_ports(), config.closed_ports());
    let is_left_out = |place: &SocketAddr, ports: &[u16]| {
        let mut networks = networks.iter();
        !ports.contains(&place.port()) || !networks.any(|network| network.contains(&place.ip()))
    };
    let nodes = topology.nodes().filter_map(UpstreamAddress::over_network);
    let nodes = nodes.filter(|place| is_left_out(place, &served));
    let buses = topology.buses().iter().copied();
    let buses = buses.filter(|place| is_left_out(place, &closed));
    Ok(nodes.chain(buses).map(|place| place.to_string()).collect())
}
