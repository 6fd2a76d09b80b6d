//! The apps of this node that the user may run, as the agent tells them, and the choice among them.

use std::time::{Duration, Instant};

use anyhow::bail;
use flect_agent::manifest::{AppName, Found, ManifestError, nearest};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::node::Node;

/// Agents follow the registry within a second, announcements lost or not.
const HEARS_WITHIN: Duration = Duration::from_secs(1);

/// Between two questions; an announcement takes some ten milliseconds.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The agent's answer to `apps`.
#[derive(Debug, Deserialize)]
pub struct Apps {
    /// Where apps connect to: the shared Valkey's own address.
    pub address: String,
    /// The app that this process is in already.
    pub current: Option<String>,
    /// Those that the user may run.
    pub apps: Vec<App>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub struct App {
    /// Its name in `agent.toml`.
    pub name: String,
    /// The store of a connection that names none.
    pub default: Option<String>,
    /// All its stores.
    pub stores: Vec<String>,
    /// Those of them that do not exist in the environment.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Those of them whose token a connection must have.
    #[serde(default)]
    pub tokens: Vec<String>,
}

impl Apps {
    /// Asks the agent.
    pub fn ask(node: &mut Node) -> anyhow::Result<Self> {
        Ok(serde_json::from_value(node.ask(&json!({ "op": "apps" }))?)?)
    }

    /// Asks for the stores of a manifest: where one of them is missing, again until the agent has had
    /// time to hear of a store that was made a moment ago.
    pub fn ask_for(
        node: &mut Node,
        asked: Option<&AppName>,
        manifest: &Found,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        loop {
            let apps = Self::ask(node)?;
            let missing = apps.choose(asked, manifest).is_ok_and(|app| {
                let mut stores = manifest.manifest.stores().into_iter();
                stores.any(|store| app.missing.iter().any(|name| name == store.as_str()))
            });
            if !missing || start.elapsed() > HEARS_WITHIN {
                return Ok(apps);
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// The app that the command line, the manifest or the circumstances choose.
    pub fn choose(&self, asked: Option<&AppName>, manifest: &Found) -> anyhow::Result<&App> {
        let find = |name: &str| self.apps.iter().find(|app| app.name == name);
        if let Some(name) = asked {
            return find(name.as_str()).ok_or_else(|| self.not_permitted(name, "--app"));
        }
        if let Some(name) = &manifest.manifest.app {
            let file = manifest.path.display().to_string();
            return find(name.as_str()).ok_or_else(|| self.not_permitted(name, &file));
        }
        if let Some(app) = self.current.as_deref().and_then(find) {
            return Ok(app);
        }
        match self.apps.as_slice() {
            [only] => Ok(only),
            [] => bail!(
                "there is no app on this node that you may run; its operator adds your user in agent.toml: users = [...] of [[app]]"
            ),
            _ => bail!(
                "which app? you may run {}; choose with --app NAME, or app = \"NAME\" in {}",
                self.names(),
                manifest.path.display()
            ),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.apps.iter().map(|app| app.name.as_str()).collect();
        names.join(", ")
    }

    fn not_permitted(&self, name: &AppName, from: &str) -> anyhow::Error {
        let known = self.apps.iter().map(|app| app.name.as_str());
        let hint = match nearest(name.as_str(), known) {
            Some(near) => format!("; did you mean '{near}'?"),
            None if self.apps.is_empty() => {
                "; there is none; its operator adds your user in agent.toml: users = [...] of [[app]]"
                    .to_owned()
            }
            None => format!("; these you may run: {}", self.names()),
        };
        anyhow::anyhow!("app '{name}' ({from}) is none that you may run on this node{hint}")
            .context(Failure::NotFound)
    }
}

impl App {
    /// Complains about the first store of the manifest that the app does not have.
    pub fn has_all(&self, manifest: &Found) -> Result<(), ManifestError> {
        for kv in &manifest.manifest.kv {
            let name = kv.name.as_str();
            if !self.stores.iter().any(|store| store == name) {
                let known = self.stores.iter().map(String::as_str);
                let hint = match nearest(name, known) {
                    Some(near) => format!("did you mean '{near}'? otherwise its"),
                    None => "its".to_owned(),
                };
                let message = format!(
                    "store '{name}' is not among app {}'s stores ({}); {hint} operator adds it in agent.toml",
                    self.name,
                    self.stores.join(", ")
                );
                return Err(manifest.complaint(kv.place, message));
            }
            if self.missing.iter().any(|store| store == name) {
                let message =
                    format!("store '{name}' does not exist; make it: flect kv create {name}");
                return Err(manifest.complaint(kv.place, message));
            }
        }
        Ok(())
    }

    /// The URL with which the app reaches one of its stores. The password repeats the name, since
    /// some clients send AUTH only when there is one.
    pub fn url(&self, address: &str, store: &str) -> String {
        if self.default.as_deref() == Some(store) {
            format!("redis://{address}")
        } else {
            format!("redis://{store}:{store}@{address}")
        }
    }
}

/// Moves this process into the app's cgroup.
pub fn enter(node: &mut Node, app: &str) -> anyhow::Result<Value> {
    node.ask(&json!({ "op": "enter", "app": app }))
}
