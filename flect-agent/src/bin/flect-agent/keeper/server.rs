//! The server itself: which run of it answers, and what it must have before anybody is sent there.

use std::sync::Arc;
use std::time::Instant;

use flect_agent::admin::{AdminError, Before, CLIENT_MEMORY};
use flect_agent::environment::Store;
use flect_agent::worker::Message;

use super::Keeper;
use crate::understudies::Cast;

impl Keeper {
    /// Whether the server answers. Another run of it has lost users and settings, and so has another server.
    pub(super) async fn look_at_server(&mut self) -> bool {
        // A look that has to connect first knows where it leads only then.
        if self.admin.connection().address().is_none() && self.admin.run_id().await.is_err() {
            return false;
        }
        let place = self.admin.connection().address();
        let Ok(run_id) = self.admin.run_id().await else {
            return false;
        };
        let Ok(count) = self.admin.command_count().await else {
            return false;
        };
        let is_here = |keeper: &Self| place == keeper.admin.connection().address();
        if run_id != self.equipped
            && place.is_some()
            && is_here(self)
            && self.companions.understudies.is_ready(&run_id, &self.cast())
        {
            tracing::info!("the new primary has the agent's users already");
            self.equipped.clone_from(&run_id);
            // What is still to be done there, apps need not wait for.
            self.lead_workers().await;
            self.ensure_events().await;
            self.command_count = 0;
        }
        // Users first: they are all that apps need to hear from the server itself what is the matter with it,
        // while it still loads its data, say.
        let is_equipped = run_id == self.equipped;
        if !is_equipped {
            tracing::info!("Valkey was restarted or replaced; putting users and settings in place");
        }
        if (!is_equipped || count != self.command_count)
            && self.learn().await
            && self.repair_users(Before::Marks).await
        {
            self.command_count = count;
            self.equipped.clone_from(&run_id);
        }
        if run_id != self.run_id {
            // A registry that was opened anew may have got as far as this one's version meanwhile.
            let restored = self.admin.registry().restore(&self.backup).await;
            if restored.is_err() || self.equipped != run_id {
                // Nobody is sent there before everything is in place.
                return true;
            }
            self.apply_settings().await;
            // Users of removed stores may have come back with the server.
            self.stores.exhume();
            self.run_id = run_id;
        }
        if place.is_some() && is_here(self) {
            if self.admin.connection().is_cluster() {
                self.follow_cluster().await;
            } else {
                self.lead_workers().await;
            }
        }
        true
    }

    /// Lets the workers connect to where the operator's connection leads, which has the agent's users. What they
    /// have elsewhere ends: apps see what they would see of a server that is no primary any more.
    async fn lead_workers(&mut self) {
        let Ok(places) = self.admin.places().await else {
            return;
        };
        let whereabouts = &self.environment.whereabouts;
        if whereabouts.all() == places {
            return;
        }
        let shown: Vec<String> = places.iter().map(ToString::to_string).collect();
        let shown = shown.join(", ");
        // Names may have other addresses by now while the server is the same.
        if self.admin.connection().is_followed() {
            tracing::warn!(
                primary = shown,
                "Valkey has another primary; sessions follow"
            );
        } else {
            tracing::info!(addresses = shown, "Valkey has other addresses");
        }
        for place in &places {
            self.environment.integrity.hide(&place.to_string());
        }
        whereabouts.set(places);
        for worker in self.workers.iter() {
            worker.send(Message::Moved);
        }
    }

    /// Learns the commands of the server that the table has not; whether that worked.
    async fn learn(&mut self) -> bool {
        match self.admin.learn().await {
            Ok(()) => {
                self.tell_learnt();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the server's commands could not be learnt");
                false
            }
        }
    }

    pub(super) fn tell_learnt(&self) {
        let learnt = self.admin.learnt();
        if **self.node.learnt.load() == *learnt {
            return;
        }
        let forwarded = learnt.forwarded.join(", ");
        tracing::info!(
            forwarded,
            "commands learnt from the server, by their key specs"
        );
        for (name, why) in &learnt.refused {
            tracing::warn!(command = name, why, "a command of the server is refused");
        }
        self.node.learnt.store(Arc::new(learnt.clone()));
    }

    /// Makes the users of everything that is served; whether that worked.
    pub(super) async fn repair_users(&mut self, before: Before) -> bool {
        let result = self.make_users(before).await;
        self.repaired_at = Some(Instant::now());
        self.repair_due = result.is_err();
        match &result {
            Ok(()) => {
                tracing::info!("the agent's users are in place");
                self.companions.understudies.want(self.cast());
                for worker in self.workers.iter() {
                    worker.send(Message::UsersMade);
                }
            }
            Err(error) => tracing::warn!(%error, "the agent's users could not be made"),
        }
        result.is_ok()
    }

    /// The users that replicas must have, as they are now.
    pub(super) fn cast(&self) -> Cast {
        let stores = self.stores.served().values().cloned();
        Cast::new(
            self.admin.outfit(),
            stores.collect(),
            self.stores.buried().clone(),
        )
    }

    async fn make_users(&mut self, before: Before) -> Result<(), AdminError> {
        self.admin.ensure_housekeeper().await?;
        self.admin.ensure_librarian().await?;
        let served: Vec<_> = self.stores.served().values().cloned().collect();
        let stores: Vec<&Store> = served.iter().map(Arc::as_ref).collect();
        self.admin.ensure_users(&stores, before).await
    }

    /// Applies the settings of the server that the registry keeps, and bounds what nobody has bounded. A
    /// server that refuses them still serves.
    pub(super) async fn apply_settings(&mut self) {
        let applied = async {
            let settings = self.admin.registry().settings().await?;
            if !settings.is_empty() {
                self.admin.apply_settings(&settings).await?;
            }
            let is_meant = settings.iter().any(|(name, _)| name == CLIENT_MEMORY);
            if !is_meant && let Some(bytes) = self.admin.bound_clients().await? {
                tracing::info!(bytes, "the memory of Valkey's clients was without a limit");
            }
            Ok::<_, AdminError>(settings.len())
        };
        match applied.await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "settings of Valkey applied"),
            Err(error) => tracing::warn!(%error, "the environment's settings could not be applied"),
        }
    }
}
