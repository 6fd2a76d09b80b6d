//! What runs beside the keeper over connections of the operator's: hearing of changes, following the primary,
//! making users on its replicas, ending scripts that take too long, measuring stores.
//!
//! Invariant: dropped, they end; so others with new credentials can take their place.

use std::sync::Arc;
use std::time::SystemTime;

use flect_agent::accountant;
use flect_agent::admin::Admin;
use flect_agent::config::Config;
use flect_agent::environment::Environment;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::understudies::Understudies;
use crate::{follow, pursuit, warden};

/// Those that run.
pub struct Companions {
    /// Who hears of changes.
    changed: Arc<Notify>,
    /// Whom a worker tells that its server may not be the primary.
    doubted: Arc<Notify>,
    /// Who hears that it is another one.
    moved: Arc<Notify>,
    /// Servers that may become the primary.
    pub understudies: Understudies,
    /// What tells this agent from all others of the environment, in the registry.
    name: String,
    tasks: JoinSet<()>,
}

impl Companions {
    pub fn start(
        config: &Config,
        admin: &Admin,
        environment: Arc<Environment>,
        changed: Arc<Notify>,
    ) -> Self {
        let mut companions = Self {
            changed,
            doubted: Arc::default(),
            moved: Arc::default(),
            understudies: Understudies::new(environment),
            name: own_name(),
            tasks: JoinSet::new(),
        };
        companions.restart(config, admin);
        companions
    }

    /// As a newer configuration and connection say.
    pub fn restart(&mut self, config: &Config, admin: &Admin) {
        self.tasks.abort_all();
        let connection = admin.connection();
        let changed = self.changed.clone();
        let (doubted, moved) = (self.doubted.clone(), self.moved.clone());
        self.tasks
            .spawn(pursuit::run(connection.clone(), doubted, moved));
        self.tasks
            .spawn(follow::listen(connection.clone(), changed));
        self.tasks
            .spawn(self.understudies.clone().run(connection.clone()));
        let busy_seconds = config.limits.busy_seconds;
        self.tasks
            .spawn(warden::run(connection.clone(), busy_seconds));
        self.tasks
            .spawn(accountant::run(connection, self.name.clone()));
    }
}

impl Companions {
    /// A worker has met a server that takes no writes, or none at all.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Where it is told that the server may be another one.
    pub fn moved(&self) -> Arc<Notify> {
        self.moved.clone()
    }
}

fn own_name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    // Containers may share a host's name and a process id.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_or(0, |since| since.as_nanos());
    format!("{host}/{}/{since}", std::process::id())
}
