//! The operator's side of the daemon: follows the registry and keeps users, settings and the registry
//! itself in place.
//!
//! Invariant: it alone uses the operator's connection and changes what is served. Every change is
//! effective within a second: it is announced, and the version is polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flect_agent::admin::{Admin, Before};
use flect_agent::audit::{self, Reason, Subject};
use flect_agent::config::Config;
use flect_agent::environment::Environment;
use flect_agent::environment::settings::events;
use flect_agent::reach::Topology;
use flect_agent::registry::{Backup, Snapshot};
use flect_agent::worker::{Handle, Message, Request};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::companions::Companions;
use crate::node::Node;
use crate::reload::Order;
use crate::serving::Serving;
use crate::settings::Changes;
use crate::stores::Stores;

mod cluster;
mod configuration;
mod measured;
mod server;

use configuration::{Credentials, limits};
use measured::Measured;

/// How often the registry's version is asked for: changes are to be effective within a second even
/// where they are not announced.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// How many polls pass between two looks at the server itself.
const POLLS_PER_LOOK: u32 = 4;

/// Workers report a missing user for each connection that fails; one repair serves them all.
const REPAIR_EVERY: Duration = Duration::from_millis(250);

/// Keeps things in place.
pub struct Keeper {
    config: Arc<Config>,
    admin: Admin,
    workers: Arc<Vec<Handle>>,
    environment: Arc<Environment>,
    node: Arc<Node>,
    stores: Stores,
    /// The registry as it was last read and applied in full.
    backup: Backup,
    snapshot: Snapshot,
    /// The run of the server that has the agent's users, settings and registry.
    run_id: String,
    /// The run that has the users at least.
    equipped: String,
    /// How many commands the server had when they were learnt.
    command_count: u64,
    repaired_at: Option<Instant>,
    repair_due: bool,
    changes: Changes,
    companions: Companions,
    credentials: Credentials,
    /// The registry is to be applied anew, though it is the same: the configuration is another.
    apply_due: bool,
    /// The cluster as it was when ways around the agent were last looked for.
    guarded: Option<Arc<Topology>>,
    measured: Measured,
}

impl Keeper {
    /// Applies the registry for the first time.
    pub async fn start(
        node: Arc<Node>,
        mut admin: Admin,
        workers: Arc<Vec<Handle>>,
        environment: Arc<Environment>,
        changed: Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let config = node.config.load_full();
        let limits = limits(&config, &mut admin).await;
        let mut keeper = Self {
            credentials: Credentials::of(&config.valkey)?,
            companions: Companions::start(&config, &admin, environment.clone(), changed),
            config,
            admin,
            workers,
            environment,
            node,
            stores: Stores::new(limits),
            backup: Backup::default(),
            snapshot: Snapshot::default(),
            run_id: String::new(),
            equipped: String::new(),
            command_count: 0,
            repaired_at: None,
            repair_due: false,
            changes: Changes::default(),
            apply_due: false,
            guarded: None,
            measured: Measured::default(),
        };
        keeper.make_stores().await?;
        keeper.run_id = keeper.admin.run_id().await?;
        keeper.equipped.clone_from(&keeper.run_id);
        keeper.command_count = keeper.admin.command_count().await?;
        keeper.tell_learnt();
        keeper.reload().await?;
        keeper.apply_settings().await;
        keeper.follow_cluster().await;
        Ok(keeper)
    }

    /// Runs until the registry turns out to be another one.
    pub async fn run(
        mut self,
        mut wanted: mpsc::UnboundedReceiver<Request>,
        changed: Arc<Notify>,
        mut ordered: mpsc::Receiver<Order>,
    ) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut polls = 0_u32;
        let moved = self.companions.moved();
        loop {
            tokio::select! {
                () = changed.notified() => self.look_at_registry().await?,
                Some(request) = wanted.recv() => self.serve_worker(request).await,
                Some(Order { config, taken }) = ordered.recv() => {
                    // Who asked ends only with the process.
                    let _ = taken.send(self.take(config).await.map_err(|error| format!("{error:#}")));
                }
                () = until(self.changes.next_at()) => self.keep_settings().await,
                () = moved.notified() => {
                    let reachable = self.look_at_server().await;
                    self.node.set_reachable(reachable);
                }
                _ = poll.tick() => {
                    if polls.is_multiple_of(POLLS_PER_LOOK) {
                        let reachable = self.look_at_server().await;
                        self.node.set_reachable(reachable);
                        self.ensure_events().await;
                        self.look_at_usage().await;
                    }
                    polls = polls.wrapping_add(1);
                    self.look_at_registry().await?;
                    if self.repair_due {
                        self.repair_users(Before::Nothing).await;
                    }
                }
            }
        }
    }

    /// Applies what has changed. Errors of the server are told and tried again by the next poll.
    async fn look_at_registry(&mut self) -> anyhow::Result<()> {
        let number = self.node.news.begin();
        let looked = self.follow_registry().await;
        self.node.news.end(number);
        looked
    }

    async fn follow_registry(&mut self) -> anyhow::Result<()> {
        let Ok(version) = self.admin.registry().version().await else {
            return Ok(());
        };
        if version < self.backup.version() {
            match self.admin.registry().restore(&self.backup).await {
                Ok(restored) => tracing::warn!(
                    version,
                    expected = self.backup.version(),
                    restored,
                    "Valkey lost the registry of stores; it was given back from memory"
                ),
                Err(error) => tracing::warn!(%error, "Valkey lost the registry of stores"),
            }
            registry_audit("Valkey lost the registry of stores");
        } else if version == self.backup.version() && !self.apply_due {
            return Ok(());
        }
        match self.reload().await {
            Ok(()) => Ok(()),
            Err(error) if error.is::<Replaced>() => Err(error),
            Err(error) => {
                registry_audit("a change in the registry could not be applied");
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a change in the registry could not be applied; trying again"
                );
                Ok(())
            }
        }
    }

    /// Reads the registry and makes it so.
    async fn reload(&mut self) -> anyhow::Result<()> {
        let backup = self.admin.registry().refresh(&self.backup).await?;
        if backup.version() < self.backup.version() {
            bail!("it is older than what was applied");
        }
        if !self.admin.knows(&backup) {
            registry_audit("the registry of stores was replaced by another one");
            return Err(Replaced.into());
        }
        let snapshot = backup.snapshot()?;
        let records = snapshot.stores.values();
        self.environment
            .integrity
            .know(records.map(|record| &record.prefix));
        // First what takes rights away: that needs nothing of the server.
        self.stores.retire(&self.config, &snapshot, &self.workers);
        self.publish(&snapshot);
        let followed = self
            .stores
            .follow(&self.config, &snapshot, &mut self.admin, &self.workers)
            .await;
        self.publish(&snapshot);
        followed.context("serving the environment's stores")?;
        self.stores
            .bury(&snapshot, &self.snapshot, &mut self.admin)
            .await
            .context("taking away the users of removed stores")?;
        self.snapshot = snapshot;
        self.backup = backup;
        self.apply_due = false;
        self.companions.understudies.want(self.cast());
        self.ensure_events().await;
        Ok(())
    }

    fn publish(&self, snapshot: &Snapshot) {
        let serving = Serving::new(&self.config, snapshot, self.stores.served());
        self.node.serving.store(Arc::new(serving));
    }

    /// What a worker cannot do itself.
    async fn serve_worker(&mut self, request: Request) {
        match request {
            Request::Grant {
                store,
                patterns,
                worker,
                ticket,
            } => {
                let result = self.admin.grant(&store, &patterns).await;
                self.companions.understudies.want(self.cast());
                if let Err(error) = &result {
                    store.refusals.add(Reason::Patterns);
                    let slug = store.slug();
                    tracing::debug!(store = %slug, %error, "patterns not granted");
                    let subject = Subject {
                        store: Some(slug.as_str()),
                        ..Subject::default()
                    };
                    audit::note(Reason::Patterns, subject, || error.to_string());
                }
                if let Some(worker) = self.workers.get(worker) {
                    worker.send(Message::Granted(ticket, result.is_ok()));
                }
            }
            Request::Settings {
                store,
                changes,
                worker,
                job,
            } => {
                self.changes.add(store, &changes, worker, job);
                self.keep_settings().await;
            }
            Request::Doubt => self.companions.doubt(),
            Request::UsersMissing => {
                if self
                    .repaired_at
                    .is_none_or(|at| at.elapsed() >= REPAIR_EVERY)
                {
                    self.repair_users(Before::Nothing).await;
                } else {
                    self.repair_due = true;
                }
            }
        }
    }

    /// Writes the settings that apps have asked for, as far as they may be written now.
    async fn keep_settings(&mut self) {
        while let Some(due) = self.changes.due() {
            let kept = self.admin.keep_settings(&due.store, &due.wanted).await;
            if let Err(error) = &kept {
                tracing::warn!(store = %due.store.slug(), %error, "settings not kept");
            }
            self.ensure_events().await;
            due.answer(&self.workers, kept.is_ok());
        }
    }

    /// Lets the server tell of the events that stores of this node want. What it tells already, for
    /// the operator or another node, stays.
    async fn ensure_events(&mut self) {
        let wanted = self
            .stores
            .served()
            .values()
            .map(|store| store.settings().notify_keyspace_events())
            .filter(|wanted| wanted & (events::KEYSPACE | events::KEYEVENT) != 0)
            .fold(0, |all, wanted| all | wanted)
            & !events::KEYEVENT;
        if wanted == 0 {
            return;
        }
        if let Err(error) = self.admin.ensure_events(wanted | events::KEYSPACE).await {
            tracing::warn!(%error, "the server could not be asked for keyspace events");
        }
    }
}

/// The environment's registry is not as it should be.
fn registry_audit(detail: &str) {
    audit::note(Reason::Registry, Subject::default(), || detail.to_owned());
}

/// Waits until then; for ever where there is nothing to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The users of this agent belong to another registry: passwords derived from its secret fit none of
/// the new one's, so everything must be begun anew.
#[derive(Debug, thiserror::Error)]
#[error("the registry of stores was replaced by another one; start the agent again to serve that")]
struct Replaced;
