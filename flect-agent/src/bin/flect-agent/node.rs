//! What all parts of the daemon look at: the configuration, what is served now, and how it goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use flect_agent::commands::Learnt;
use flect_agent::config::Config;
use flect_agent::environment::Environment;
use flect_agent::interception::{AccelerationVerdict, Monitor};
use flect_agent::store::Prefix;
use flect_agent::worker::Handle;
use serde::Deserialize;
use tokio::sync::watch;

use crate::accept::Acceptor;
use crate::news::News;
use crate::page::Page;
use crate::refusals::Refusals;
use crate::reload::Reloads;
use crate::serving::{Places, Serving};

/// This node's daemon, as its parts share it.
pub struct Node {
    /// The configuration, as it was last read and taken.
    pub config: Arc<ArcSwap<Config>>,
    /// How that went.
    pub reloads: ArcSwap<Reloads>,
    /// Who may reach which store, now.
    pub serving: Arc<ArcSwap<Serving>>,
    /// The cgroups that matter; none where nothing is intercepted.
    pub places: Option<Places>,
    /// Whether the hooks hold; none where nothing is intercepted.
    pub hooks: Option<Arc<Monitor>>,
    /// How bytes travel between apps and the agent.
    pub acceleration: Option<AccelerationVerdict>,
    /// Who was refused.
    pub refusals: Refusals,
    /// Looks at the registry, for those who cannot wait for the next one.
    pub news: News,
    /// What stores hold, as far as somebody measures it.
    pub usage: Arc<ArcSwap<HashMap<Prefix, Usage>>>,
    /// Commands that the server has and the table has not.
    pub learnt: Arc<ArcSwap<Learnt>>,
    /// When the agent began.
    pub started_at: Instant,
    /// The status page.
    pub page: Arc<Page>,
    reachable: AtomicBool,
    running: OnceLock<Running>,
    closing: watch::Sender<bool>,
}

/// What a store holds, as the registry's `usage` has it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Usage {
    /// Bytes of keys and values.
    pub memory_bytes: u64,
    /// How many keys.
    pub keys: u64,
}

/// What exists once Valkey has answered.
pub struct Running {
    /// Who opens listeners in network namespaces; none where nothing is intercepted.
    pub announcer: Option<Weak<Acceptor>>,
    /// The event loops.
    pub workers: Arc<Vec<Handle>>,
    /// The shared Valkey.
    pub environment: Arc<Environment>,
    /// Where explicit mode listens.
    pub explicit: Vec<SocketAddr>,
}

/// Tells that this agent gives up its places.
pub struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Returns when it does.
    pub async fn told(&mut self) {
        if self.0.wait_for(|closing| *closing).await.is_err() {
            // The node is gone without having told: so is the process, soon.
            std::future::pending().await
        }
    }

    /// It never does.
    #[cfg(test)]
    pub fn never() -> Self {
        Self(watch::channel(false).1)
    }
}

impl Node {
    pub fn new(
        config: Arc<ArcSwap<Config>>,
        places: Option<Places>,
        hooks: Option<Arc<Monitor>>,
        acceleration: Option<AccelerationVerdict>,
        page: Arc<Page>,
    ) -> Self {
        Self {
            config,
            reloads: ArcSwap::default(),
            serving: Arc::default(),
            places,
            hooks,
            acceleration,
            refusals: Refusals::default(),
            news: News::default(),
            usage: Arc::default(),
            learnt: Arc::default(),
            started_at: Instant::now(),
            page,
            reachable: AtomicBool::new(false),
            running: OnceLock::new(),
            closing: watch::Sender::new(false),
        }
    }

    /// For a thread that has a place which only one process can have: it gives the place up when this tells it
    /// to, and drops this then.
    pub fn closing(&self) -> Closing {
        Closing(self.closing.subscribe())
    }

    /// Tells them to, and waits until all have, or for as long as given.
    pub async fn close(&self, within: Duration) {
        self.closing.send_replace(true);
        // What is late is in the way of the next agent, which tries again.
        let _ = tokio::time::timeout(within, self.closing.closed()).await;
    }

    /// Connections are served from now on.
    pub fn ready(&self, running: Running) {
        self.reachable.store(true, Ordering::Relaxed);
        // Set once, by the one caller.
        let _ = self.running.set(running);
    }

    /// What serves, if it does.
    pub fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Notes whether Valkey answered when it was last asked.
    pub fn set_reachable(&self, reachable: bool) {
        if self.reachable.swap(reachable, Ordering::Relaxed) != reachable {
            if reachable {
                tracing::info!("Valkey answers again");
            } else {
                tracing::warn!("Valkey does not answer");
            }
        }
    }

    /// Whether it did.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Whether connections get what they ask for, or why not.
    ///
    /// # Errors
    /// In words that name no store and no app, since every app may ask.
    pub fn readiness(&self) -> Result<(), String> {
        if self.running().is_none() {
            return Err("starting: Valkey could not be used yet".to_owned());
        }
        let mut hooks = self.hooks.iter().flat_map(|monitor| monitor.hooks());
        if let Some((hook, _)) = hooks.find(|(_, attached)| !attached) {
            return Err(format!(
                "the hook '{hook}' is not attached any more: start the agent again"
            ));
        }
        if !self.is_reachable() {
            return Err("Valkey does not answer".to_owned());
        }
        Ok(())
    }

    /// Where apps connect to: the shared Valkey's own address, or the explicit listener where nothing
    /// is intercepted.
    pub fn address(&self) -> String {
        let config = self.config.load();
        if self.places.is_some() {
            return config.valkey.address.to_string();
        }
        let listener = self.running().and_then(|running| running.explicit.first());
        let configured = || config.explicit.listen.first();
        listener
            .or_else(configured)
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}
