//! Who may reach which store, as the configuration and the registry say together. It is made anew
//! with every change and swapped as a whole; connections that come meanwhile see the old or the new.
//!
//! Invariant: the first store of an [`App`] is its default store. An app whose default store does not
//! exist is [`State::Absent`]: it never gets another store in its place.

use std::collections::HashMap;
use std::sync::Arc;

use flect_agent::cgroup;
use flect_agent::config::{self, CgroupPattern, Config, EXPLICIT_APP};
use flect_agent::environment::{App, Credentials, Store};
use flect_agent::registry::{Limits, Record, Snapshot, TokenDigest};
use flect_agent::store::{Prefix, Slug};

/// The cgroup below the managed root that holds those of `flect run`.
const RUN_FOLDER: &str = "flect.run";

/// Everything that is served at one moment.
#[derive(Default)]
pub struct Serving {
    /// The registry's version.
    pub version: u64,
    /// The apps in the configuration's order.
    pub workloads: Vec<Workload>,
    /// The stores of explicit mode.
    pub doors: Doors,
    stores: Vec<Arc<Store>>,
}

/// An app of the configuration and what it gets.
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub patterns: Vec<CgroupPattern>,
    /// Its stores by the names it is bound to, the default first.
    pub bindings: Vec<Binding>,
    /// What a connection of it gets.
    pub state: State,
}

/// A store's name in the configuration, and what it leads to.
pub struct Binding {
    /// The name.
    pub name: Slug,
    /// The store, or why there is none.
    pub store: Result<Arc<Store>, Absence>,
}

/// What a connection of an app gets.
pub enum State {
    /// A session.
    Ready(Arc<App>),
    /// A refusal that says which store is not there, and why; or a session in one of the app's other
    /// stores, if it begins with naming that.
    Absent {
        /// The default store.
        store: Slug,
        /// Why it cannot be used.
        absence: Absence,
        /// The app with a store in the default one's place that is gone already, so that nothing
        /// leads there.
        others: Arc<App>,
    },
}

/// Why a store cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is not in the registry.
    Missing,
    /// Somebody is filling it.
    Filling,
}

impl Absence {
    /// The reason as the app's user reads it.
    pub fn reason(self, store: &Slug, environment: &str) -> String {
        match self {
            Self::Missing => format!(
                "store '{store}' does not exist in environment '{environment}'; its operator can make it: flect kv create {store}"
            ),
            Self::Filling => format!(
                "store '{store}' in environment '{environment}' is being filled; try again when that is done"
            ),
        }
    }
}

/// The stores that explicit mode leads to: those with a token.
#[derive(Default)]
pub struct Doors {
    by_name: HashMap<Slug, Arc<App>>,
    by_token: Vec<(TokenDigest, Arc<App>)>,
}

impl Doors {
    /// The store of this name as an app of its own, if the token is the store's.
    ///
    /// A store that does not exist and a wrong token take the same time: both digest the token once.
    pub fn open(&self, user: &[u8], token: &[u8]) -> Option<Arc<App>> {
        let name = std::str::from_utf8(user).ok()?;
        let name = Slug::try_from(name.to_owned()).ok();
        let Some(app) = name.and_then(|name| self.by_name.get(&name)) else {
            let _ = TokenDigest::of(token);
            return None;
        };
        let store = app.default_store();
        (store.has_token() && store.opens_with(token) && !store.is_retired()).then(|| app.clone())
    }

    /// The only store with this token, for clients that send no user name. Tokens are random, so two
    /// stores share one only where an operator has set them so; then the name is asked for.
    pub fn open_unnamed(&self, token: &[u8]) -> Option<Arc<App>> {
        let digest = TokenDigest::of(token);
        let mut fitting = self.by_token.iter().filter(|(known, _)| *known == digest);
        let (_, app) = fitting.next()?;
        let store = app.default_store();
        (fitting.next().is_none() && store.opens_with(token) && !store.is_retired())
            .then(|| app.clone())
    }
}

impl Serving {
    /// What configuration and registry say, with the stores that are served.
    pub fn new(config: &Config, snapshot: &Snapshot, served: &HashMap<Prefix, Arc<Store>>) -> Self {
        let find = |name: &Slug| match snapshot.find(name) {
            None => Err(Absence::Missing),
            Some((_, record)) if record.filling => Err(Absence::Filling),
            // A store that could not be served yet is as good as missing; the next poll tries again.
            Some((_, record)) => served.get(&record.prefix).cloned().ok_or(Absence::Missing),
        };
        let workloads = config.apps.iter().map(|app| {
            let bindings = app.stores.iter().map(|name| Binding {
                name: name.clone(),
                store: find(name),
            });
            Workload::new(&app.name, &app.cgroups, bindings.collect())
        });
        let mut stores: Vec<_> = served.values().cloned().collect();
        stores.sort_by_key(|store| store.number);
        Self {
            version: snapshot.version,
            stores,
            workloads: workloads.collect(),
            doors: if config.explicit.listen.is_empty() {
                Doors::default()
            } else {
                doors(snapshot, served)
            },
        }
    }

    /// Everything that is served, in the order in which it came.
    pub fn stores(&self) -> &[Arc<Store>] {
        &self.stores
    }

    /// The app of this name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// The app of a cgroup: below the run folder the one it names, elsewhere the one with the strongest
    /// claim.
    pub fn claimant(&self, places: &Places, path: &str) -> Option<&Workload> {
        if let Some(app) = places.run_app(path) {
            return self.workload(app);
        }
        strongest(&self.workloads, path, |workload| &workload.patterns)
    }
}

/// The name of the app of a cgroup, as [`Serving::claimant`] finds it: before anything is served, too.
pub fn claimant<'a>(apps: &'a [config::App], places: &Places, path: &str) -> Option<&'a str> {
    let app = match places.run_app(path) {
        Some(name) => apps.iter().find(|app| app.name == name),
        None => strongest(apps, path, |app| &app.cgroups),
    };
    app.map(|app| app.name.as_str())
}

/// Which of them has the strongest claim.
fn strongest<'a, T>(
    all: &'a [T],
    path: &str,
    patterns: impl Fn(&T) -> &[CgroupPattern],
) -> Option<&'a T> {
    let claims = all.iter().filter_map(|one| {
        let claims = patterns(one).iter().filter_map(|p| p.claim(path));
        claims.max().map(|claim| (claim, one))
    });
    claims.max_by_key(|(claim, _)| *claim).map(|(_, one)| one)
}

fn doors(snapshot: &Snapshot, served: &HashMap<Prefix, Arc<Store>>) -> Doors {
    let mut doors = Doors::default();
    let mut by_prefix = HashMap::new();
    for (slug, record) in &snapshot.stores {
        let (Some(token), Some(store), false) =
            (&record.token, served.get(&record.prefix), record.filling)
        else {
            continue;
        };
        let app = Arc::new(App {
            name: EXPLICIT_APP.to_owned(),
            stores: vec![store.clone()],
        });
        doors.by_name.insert(slug.clone(), app.clone());
        doors.by_token.push((token.clone(), app.clone()));
        by_prefix.insert(&record.prefix, app);
    }
    for (alias, prefix) in &snapshot.aliases {
        if let Some(app) = by_prefix.get(prefix)
            && !snapshot.stores.contains_key(alias)
        {
            doors.by_name.insert(alias.clone(), app.clone());
        }
    }
    doors
}

impl Workload {
    fn new(name: &str, patterns: &[CgroupPattern], bindings: Vec<Binding>) -> Self {
        let mut stores: Vec<Arc<Store>> = Vec::new();
        for store in bindings.iter().filter_map(|b| b.store.as_ref().ok()) {
            // Two names may lead to one store after it was renamed.
            if !stores.iter().any(|other| Arc::ptr_eq(other, store)) {
                stores.push(store.clone());
            }
        }
        // The configuration gives every app a store; what has none is absent all the same.
        let absent = bindings.first().and_then(|first| match first.store {
            Err(absence) => Some((first.name.clone(), absence)),
            Ok(_) => None,
        });
        if let Some((store, _)) = &absent {
            stores.insert(0, Arc::new(nothing(store)));
        }
        let app = Arc::new(App {
            name: name.to_owned(),
            stores,
        });
        let state = match absent {
            Some((store, absence)) => State::Absent {
                store,
                absence,
                others: app,
            },
            None => State::Ready(app),
        };
        Self {
            name: name.to_owned(),
            patterns: patterns.to_vec(),
            bindings,
            state,
        }
    }

    /// Names that lead to no store now.
    pub fn missing(&self) -> impl Iterator<Item = &Slug> {
        let missing = self.bindings.iter().filter(|b| b.store.is_err());
        missing.map(|binding| &binding.name)
    }

    /// The stores whose token a connection must have.
    pub fn with_token(&self) -> impl Iterator<Item = &Slug> {
        let has_token = |binding: &&Binding| binding.store.as_ref().is_ok_and(|s| s.has_token());
        let bindings = self.bindings.iter().filter(has_token);
        bindings.map(|binding| &binding.name)
    }
}

/// A store that is gone: no worker knows it, and nobody can log into it.
fn nothing(slug: &Slug) -> Store {
    let nobody = Credentials {
        user: String::new(),
        password: String::new(),
    };
    let record = Record::new(Prefix::nobody(), Limits::default());
    let store = Store::new(usize::MAX, slug, &record, nobody.clone(), nobody);
    store.retire();
    store
}

/// Cgroups that mean something, as paths below the cgroup v2 mount.
#[derive(Clone, Debug)]
pub struct Places {
    /// The managed root.
    pub managed: String,
    /// The agent's own cgroup, which is exempt.
    pub agent: String,
    /// Where `flect run` puts processes.
    pub run: String,
}

impl Places {
    pub fn new(managed: &str, agent: &str) -> Self {
        Self {
            managed: managed.to_owned(),
            agent: agent.to_owned(),
            run: format!("{}/{RUN_FOLDER}", managed.trim_end_matches('/')),
        }
    }

    /// The name of the app whose run cgroup this is. Everything below the run folder has one, so no
    /// pattern of the configuration reaches into it.
    pub fn run_app<'a>(&self, path: &'a str) -> Option<&'a str> {
        if !cgroup::is_within(path, &self.run) {
            return None;
        }
        let below = path[self.run.len()..].trim_start_matches('/');
        Some(below.split('/').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
