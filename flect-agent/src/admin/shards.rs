//! What the operator does on every node of a cluster: users and settings are each node's own.
//!
//! Invariant: a node counts as prepared only while everything that was asked of it was done; whatever fails
//! there makes it one that all users are to be made on anew.

use std::time::Duration;

use redis::{Cmd, RedisResult, Value};

use super::outfit::Before;
use super::{Admin, AdminError, info_field};
use crate::environment::{Store, Whereabouts};
use crate::reach::{Link, UpstreamAddress};
use crate::scripts::FunctionNames;
use crate::store::{Prefix, Slot};

/// How long a node may take to say which run of it answers: what hangs is no reason to look after nobody else.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// A node, and which run of it has the agent's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    node: UpstreamAddress,
    run_id: String,
}

/// One of a store's libraries on the server.
struct OnServer {
    name: String,
    code: Option<String>,
}

impl Admin {
    /// Where workers are to connect to.
    ///
    /// # Errors
    /// When a name cannot be looked up.
    pub async fn whereabouts(&self) -> Result<Whereabouts, AdminError> {
        let whereabouts = Whereabouts::new(self.places().await?);
        if let Some(topology) = self.connection.topology() {
            whereabouts.set_topology(topology);
        }
        Ok(whereabouts)
    }

    /// Every address of the server, or of a cluster's nodes, that is known.
    ///
    /// # Errors
    /// When a name cannot be looked up.
    pub async fn all_places(&self) -> Result<Vec<UpstreamAddress>, AdminError> {
        match self.connection.topology() {
            Some(topology) => Ok(topology.nodes().cloned().collect()),
            None => self.places().await,
        }
    }

    /// Asks on every node. The one that has the registry must do it; another that does not is prepared anew
    /// when it answers again, so that a dead shard holds up no other's stores.
    pub(super) async fn everywhere(&mut self, command: &Cmd) -> Result<(), AdminError> {
        self.on_every_node(async |node| node.send(command).await.map(drop))
            .await
    }

    /// Makes the users of stores everywhere, as [`everywhere`](Self::everywhere) asks.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_users(
        &mut self,
        stores: &[&Store],
        before: Before,
    ) -> Result<(), AdminError> {
        let outfit = self.outfit.clone();
        self.on_every_node(async |node| outfit.equip(&mut node.clone(), stores, before).await)
            .await
    }

    async fn on_every_node<W>(&mut self, work: W) -> Result<(), AdminError>
    where
        W: AsyncFn(&Link) -> RedisResult<()>,
    {
        if !self.connection.is_cluster() {
            let done = work(&self.connection).await;
            return done.map_err(|cause| self.server(cause));
        }
        let home = self.connection.address();
        let links = self.connection.of_nodes();
        let answers = futures_util::future::join_all(links.iter().map(|node| work(node))).await;
        let mut failure = None;
        for (link, answer) in links.iter().zip(answers) {
            let Err(cause) = answer else {
                continue;
            };
            let node = link.node().or_else(|| home.clone());
            tracing::debug!(?node, %cause, "a node of the cluster does not do what it is asked");
            self.prepared
                .retain(|prepared| Some(&prepared.node) != node.as_ref());
            if link.node().is_none() {
                failure = Some(cause);
            }
        }
        failure.map_or(Ok(()), |cause| Err(self.server(cause)))
    }

    /// The nodes of a cluster that may lack the agent's users: they are new, were started anew, or did not do
    /// what was asked. Those that do not answer are left out.
    pub async fn unprepared(&self) -> Vec<Prepared> {
        let Some(topology) = self.connection.topology() else {
            return Vec::new();
        };
        let asked = topology.nodes().map(|node| async move {
            let mut link = self.connection.of_node(node);
            let told = tokio::time::timeout(TOLD_WITHIN, link.run_info()).await;
            let run_id = info_field(&told.ok()?.ok()?, "run_id")?.to_owned();
            let node = node.clone();
            Some(Prepared { node, run_id })
        });
        let answers = futures_util::future::join_all(asked).await;
        let there = answers.into_iter().flatten();
        there.filter(|node| !self.prepared.contains(node)).collect()
    }

    /// Makes the users of these stores, and the agent's own, on one node alone: a server that was started anew is
    /// no reason to make them everywhere.
    ///
    /// # Errors
    /// When it refuses or cannot be reached; some of them are made by then.
    pub async fn equip(&self, node: &Prepared, stores: &[&Store]) -> Result<(), AdminError> {
        let mut link = self.connection.of_node(&node.node);
        let equipped = async {
            for user in self.outfit.own() {
                link.send(&user.command()).await?;
            }
            self.outfit.equip(&mut link, stores, Before::Marks).await
        };
        equipped.await.map_err(|cause| self.server(cause))
    }

    /// All users have been made since these were told to be unprepared.
    pub fn prepare(&mut self, nodes: Vec<Prepared>) {
        // They may have other settings than the rest.
        self.events_due = true;
        for node in nodes {
            self.prepared.retain(|known| known.node != node.node);
            self.prepared.push(node);
        }
    }

    /// The connection to where a store's data is.
    #[must_use]
    pub fn connection_of(&self, prefix: &Prefix) -> Link {
        self.connection.of_slot(Slot::of_store(prefix))
    }

    /// Loads a store's libraries of functions, where its shard has been another, on the one that has it now.
    /// What is there already stays.
    ///
    /// # Errors
    /// When one of both refuses.
    pub async fn carry_libraries(
        &self,
        prefix: &Prefix,
        from: &UpstreamAddress,
    ) -> Result<(), AdminError> {
        let to = self.connection_of(prefix);
        self.copy_libraries(prefix, &self.connection.of_node(from), &to)
            .await
    }

    /// Loads a store's libraries of functions, as one node has them, on another. What is there already stays.
    ///
    /// # Errors
    /// When one of both refuses.
    pub async fn copy_libraries(
        &self,
        prefix: &Prefix,
        from: &Link,
        to: &Link,
    ) -> Result<(), AdminError> {
        for library in self.libraries(prefix, from).await? {
            let Some(code) = library.code else {
                continue;
            };
            let mut load = redis::cmd("FUNCTION");
            load.arg("LOAD").arg(code);
            let loaded = to.send(&load).await;
            match loaded {
                Err(cause) if !cause.to_string().contains("already exists") => {
                    return Err(self.server(cause));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a store's functions away from a node.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn drop_libraries(&self, prefix: &Prefix, node: &Link) -> Result<(), AdminError> {
        for library in self.libraries(prefix, node).await? {
            let mut drop = redis::cmd("FUNCTION");
            drop.arg("DELETE").arg(library.name);
            let dropped = node.send(&drop).await;
            dropped.map_err(|cause| self.server(cause))?;
        }
        Ok(())
    }

    async fn libraries(&self, prefix: &Prefix, node: &Link) -> Result<Vec<OnServer>, AdminError> {
        let names = FunctionNames::of(prefix);
        let mut question = redis::cmd("FUNCTION");
        question
            .arg("LIST")
            .arg("LIBRARYNAME")
            .arg(names.of_server(b"*"))
            .arg("WITHCODE");
        let told = node.send(&question).await;
        let told = told.map_err(|cause| self.server(cause))?;
        let listed: Vec<std::collections::HashMap<String, Value>> =
            redis::from_redis_value(told).map_err(|cause| self.server(cause.into()))?;
        let read = |mut library: std::collections::HashMap<String, Value>| {
            let mut text = |field: &str| -> Option<String> {
                redis::from_redis_value(library.remove(field)?).ok()
            };
            let name = text("library_name")?;
            // A pattern's letters have no case; another store's name is none of this one's.
            names.of_app(name.as_bytes())?;
            let code = text("library_code");
            Some(OnServer { name, code })
        };
        Ok(listed.into_iter().filter_map(read).collect())
    }
}
