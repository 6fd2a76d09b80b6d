//! What runs beside the keeper over connections of the operator's: hearing of changes, ending scripts that
//! take too long, measuring stores.
//!
//! Invariant: dropped, they end; so others with new credentials can take their place.

use std::sync::Arc;
use std::time::SystemTime;

use flect_agent::accountant;
use flect_agent::admin::Admin;
use flect_agent::config::Config;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::{follow, warden};

/// Those that run.
pub struct Companions {
    /// Who hears of changes.
    changed: Arc<Notify>,
    /// What tells this agent from all others of the environment, in the registry.
    name: String,
    tasks: JoinSet<()>,
}

impl Companions {
    pub fn start(config: &Config, admin: &Admin, changed: Arc<Notify>) -> Self {
        let mut companions = Self {
            changed,
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
        self.tasks
            .spawn(follow::listen(connection.clone(), changed));
        let busy_seconds = config.limits.busy_seconds;
        self.tasks
            .spawn(warden::run(connection.clone(), busy_seconds));
        self.tasks
            .spawn(accountant::run(connection, self.name.clone()));
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
