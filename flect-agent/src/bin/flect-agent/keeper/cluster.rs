//! Following a Valkey Cluster: nodes come and go, slots change their shards.
//!
//! Invariant: workers are sent to a node only after the agent's users were asked for there, and to a store's new
//! shard only after its functions are there.

use std::sync::Arc;

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
        let unprepared = self.admin.unprepared().await;
        if !unprepared.is_empty() && self.repair_users().await {
            self.apply_settings().await;
            self.admin.prepare(unprepared);
            self.ensure_events().await;
        }
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
