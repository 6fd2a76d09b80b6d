//! Reading the configuration again, on SIGHUP.
//!
//! Invariant: a configuration is taken as a whole or not at all. One that is not valid, or whose credentials
//! do not let the agent in, changes nothing and is told of; so is what cannot change while the agent runs.

use std::path::PathBuf;
use std::sync::Arc;

use flect_agent::config::Config;
use serde::Serialize;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::control::Desk;
use crate::explicit::Certificate;
use crate::log;
use crate::metrics::now_ms;
use crate::node::Node;
use crate::supervisor::{self, Supervisor};

/// How reading went, for `flect status`.
#[derive(Clone, Debug, Serialize)]
pub struct Reloads {
    /// When the configuration that holds was read: milliseconds since 1970.
    pub read_at_ms: u64,
    /// Why a newer one was not taken; none where the newest was.
    pub error: Option<String>,
    /// Keys that are otherwise in the file and hold from the agent's next start on.
    pub ignored: Vec<&'static str>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self {
            read_at_ms: now_ms(),
            error: None,
            ignored: Vec::new(),
        }
    }
}

/// A configuration for the keeper to take, and whom to tell whether it did.
pub struct Order {
    pub config: Config,
    pub taken: oneshot::Sender<Result<(), String>>,
}

/// Reads the file again whenever it is asked to.
pub struct Reader {
    pub path: PathBuf,
    pub node: Arc<Node>,
    pub desk: Arc<Desk>,
    pub supervisor: Arc<Supervisor>,
    pub orders: mpsc::Sender<Order>,
    /// That of explicit mode.
    pub certificate: Option<Arc<Certificate>>,
}

impl Reader {
    /// As long as the process lives.
    pub async fn run(self, mut asked: Signal) {
        while asked.recv().await.is_some() {
            self.supervisor.reloading();
            match self.reload().await {
                Ok(ignored) => {
                    self.desk.renew();
                    log::set_levels(&self.node.config.load().agent.log.levels);
                    self.tell_taken(&ignored);
                    self.node.reloads.store(Arc::new(Reloads {
                        ignored,
                        ..Reloads::default()
                    }));
                    self.supervisor.ready(&supervisor::summary(&self.node));
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the configuration is not taken; the one before it holds"
                    );
                    let before = self.node.reloads.load();
                    self.supervisor
                        .ready(&format!("the configuration is not taken: {error}"));
                    self.node.reloads.store(Arc::new(Reloads {
                        error: Some(error),
                        ..Reloads::clone(&before)
                    }));
                }
            }
        }
    }

    async fn reload(&self) -> Result<Vec<&'static str>, String> {
        let newer = Config::load(&self.path).map_err(|error| error.to_string())?;
        let (config, ignored) = self.node.config.load().followed_by(newer);
        let certificate = self.certificate.as_ref();
        let renewed = certificate
            .map(|certificate| certificate.renewed(&config.explicit))
            .transpose()
            .map_err(|error| format!("{error:#}"))?;
        let (taken, answer) = oneshot::channel();
        let order = Order { config, taken };
        // The keeper ends only with the process.
        let gone = || "the agent ends".to_owned();
        self.orders.send(order).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        if let Some(renewed) = renewed {
            renewed.take();
        }
        Ok(ignored)
    }

    fn tell_taken(&self, ignored: &[&str]) {
        let config = self.node.config.load();
        tracing::info!(apps = config.apps.len(), "the configuration was read again");
        if !ignored.is_empty() {
            tracing::warn!(
                keys = ignored.join(", "),
                "these keys have changed and hold from the agent's next start on"
            );
        }
    }
}
