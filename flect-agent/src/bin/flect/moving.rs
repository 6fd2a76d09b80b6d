//! Stores that change their shard, for the commands that do it.

use std::sync::Arc;

use anyhow::{Context, bail};
use flect_agent::admin::Admin;
use flect_agent::placement::{Moved, Relocation};
use flect_agent::reach::{Shard, Topology};
use flect_agent::registry::{Record, Snapshot};
use flect_agent::store::{Slot, Slug};

use crate::progress::{Progress, keys};

/// Moves slots of one cluster.
pub struct Mover<'a> {
    admin: &'a Admin,
    snapshot: &'a Snapshot,
    topology: Arc<Topology>,
    whole: bool,
}

impl<'a> Mover<'a> {
    /// Looks at the cluster; an error where the environment is none.
    pub async fn new(
        admin: &'a Admin,
        snapshot: &'a Snapshot,
        whole: bool,
    ) -> anyhow::Result<Self> {
        let looked = admin.connection().look_at_cluster().await;
        let Some(topology) = looked.context("the cluster's nodes cannot be asked")? else {
            bail!(
                "this environment is one server, with no shard to move to; a cluster has `cluster` in its [valkey]: see docs/operations.md"
            );
        };
        Ok(Self {
            admin,
            snapshot,
            topology,
            whole,
        })
    }

    /// The cluster as it was last seen.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The stores whose keys are in a slot.
    pub fn stores_in(&self, slot: Slot) -> impl Iterator<Item = (&'a Slug, &'a Record)> {
        let stores = self.snapshot.stores.iter();
        stores.filter(move |(_, record)| Slot::of_store(&record.prefix) == slot)
    }

    /// Takes a slot with its stores' keys and functions to another shard.
    pub async fn carry(
        &mut self,
        slot: Slot,
        from: &Shard,
        to: &Shard,
        what: &str,
    ) -> anyhow::Result<Moved> {
        let go_on = "the move is not complete; the same command goes on";
        let link = self.admin.connection();
        let (source, target) = (link.of_node(&from.primary), link.of_node(&to.primary));
        for (_, record) in self.stores_in(slot) {
            // Whoever is served there finds them; agents take the others away.
            let copied = self.admin.copy_libraries(&record.prefix, &source, &target);
            copied.await.context(go_on)?;
        }
        let bar = Progress::new("moving");
        let relocation = Relocation::new(&link, slot, from, to);
        let moving = relocation.run(self.whole, |progress| {
            let fraction = progress.moved as f64 / progress.keys.max(1) as f64;
            bar.set(fraction, format!("{what}: {}", keys(progress.keys)));
        });
        let moved = tokio::select! {
            moved = moving => moved.context(go_on)?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; {go_on}"),
        };
        bar.finish();
        if let Some(topology) = link.topology() {
            self.topology = topology;
        }
        Ok(moved)
    }
}

/// The shard that somebody named: by its primary's address, or how its node id begins.
pub fn shard_named<'t>(topology: &'t Topology, text: &str) -> anyhow::Result<&'t Shard> {
    let is_it = |shard: &&Shard| shard.primary.to_string() == text || shard.id.starts_with(text);
    let mut found = topology.all_shards().filter(is_it);
    match (found.next(), found.next()) {
        (Some(shard), None) if !text.is_empty() => Ok(shard),
        (found, _) => {
            let known: Vec<String> = topology
                .all_shards()
                .map(|shard| format!("{} ({})", shard.primary, &shard.id[..shard.id.len().min(8)]))
                .collect();
            let complaint = match found {
                Some(_) => "is how several begin",
                None => "is no primary of this cluster",
            };
            bail!("'{text}' {complaint}; there are {}", known.join(", "))
        }
    }
}
