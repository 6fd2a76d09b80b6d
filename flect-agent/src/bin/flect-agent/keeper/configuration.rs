//! Taking another configuration while everything runs.

use std::sync::Arc;

use anyhow::{Context, ensure};
use flect_agent::admin::{Admin, AdminError};
use flect_agent::config::{self, Config};
use flect_agent::environment::Defaults;
use flect_agent::reach::{Login, Reach};
use flect_agent::worker::Message;

use super::Keeper;

impl Keeper {
    /// Takes a configuration as a whole, or leaves everything as it is. Sessions of apps that may do as much
    /// as before go on.
    ///
    /// # Errors
    /// When its credentials do not let the agent in.
    pub(super) async fn take(&mut self, config: Config) -> anyhow::Result<()> {
        let credentials = Credentials::of(&config.valkey)?;
        let others = credentials != self.credentials;
        if others {
            let admin = Admin::connect(&config.valkey).await?;
            ensure!(
                admin.knows(&self.backup),
                "its credentials lead to another registry of stores: start the agent again to serve that"
            );
            // Connections that the workers make from now on show the certificates that are new, too.
            let places = admin.places().await?;
            self.admin = admin;
            // Its users may be missing there, if it is another server: the next look tells the workers.
            if !self.admin.connection().is_followed() {
                self.environment.whereabouts.set(places);
            }
            self.credentials = credentials;
            tracing::info!(
                user = config.valkey.user,
                "the operator's credentials are others now"
            );
        }
        let limits = limits(&config, &mut self.admin).await;
        self.stores.set_limits(limits);
        let config = Arc::new(config);
        let before = std::mem::replace(&mut self.config, config.clone());
        self.node.config.store(config);
        if others || before.limits.busy_seconds != self.config.limits.busy_seconds {
            self.companions.restart(&self.config, &self.admin);
        }
        // First what takes rights away: that needs nothing of the server. Who comes again is judged by what is
        // published.
        self.stores
            .retire(&self.config, &self.snapshot, &self.workers);
        self.publish(&self.snapshot);
        for app in before.restricted(&self.config) {
            tracing::info!(app, "the app may do less than before; its sessions end");
            for worker in self.workers.iter() {
                worker.send(Message::Dismiss(app.into()));
            }
        }
        self.apply_due = true;
        let applied = async {
            self.make_stores().await?;
            self.reload().await
        };
        if let Err(error) = applied.await {
            // The next poll tries again: Valkey may be away.
            tracing::warn!(
                error = format!("{error:#}"),
                "stores that are new in the configuration are not served yet; trying again"
            );
        }
        Ok(())
    }

    /// Makes the stores that apps are bound to, where the configuration says so.
    pub(super) async fn make_stores(&mut self) -> Result<(), AdminError> {
        if self.config.agent.create_stores {
            for slug in self.config.apps.iter().flat_map(|app| &app.stores) {
                self.admin.registry().ensure(slug).await?;
            }
        }
        Ok(())
    }
}

/// What the operator's connection logs in with. Files may have other contents though their names are the same.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    reach: Reach,
    login: Login,
}

impl Credentials {
    pub(super) fn of(valkey: &config::Valkey) -> anyhow::Result<Self> {
        let login = Login::of_operator(valkey).context("the operator's credentials")?;
        let reach = Reach::of(valkey)?;
        Ok(Self { reach, login })
    }
}

/// The limits of `agent.toml`, and less where the server takes few clients: one store leaves others
/// three quarters of its `maxclients`.
pub(super) async fn limits(config: &Config, admin: &mut Admin) -> Defaults {
    let mut limits = config.limits;
    if let Some(clients_max) = admin.clients_max().await
        && limits.upstreams > clients_max / 4
    {
        limits.upstreams = (clients_max / 4).max(1);
        tracing::info!(
            clients_max,
            upstreams = limits.upstreams,
            "stores may have fewer connections to Valkey than [limits] says, since it takes few clients"
        );
    }
    limits
}
