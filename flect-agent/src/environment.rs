//! What the data path needs to know about the environment: the shared Valkey, its stores and apps.
//!
//! Invariant: whatever holds an [`App`] has been identified; a session is built from one and never
//! from a name or an address.

mod attention;
mod descriptors;
mod entry;
mod limits;
mod pause;
mod places;
pub mod settings;
mod store;
mod whereabouts;

use std::fmt;
use std::sync::atomic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::commands;
use crate::integrity::Integrity;
pub use crate::reach::UpstreamAddress;
use crate::worker::mailbox::Mailboxes;
pub use attention::Monitors;
pub use descriptors::Descriptors;
pub use entry::{Entry, Live, Look, Named, States};
pub use limits::{Defaults, Limits};
pub use pause::Pause;
pub use places::{Place, Places};
pub use settings::{Setting, Settings};
pub use store::{Patterns, Share, Store};
pub use whereabouts::Whereabouts;

/// A user of the shared Valkey. Its `Debug` output hides the password.
#[derive(Clone)]
pub struct Credentials {
    /// The ACL user's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What the server says of itself in `HELLO`, `INFO` and `CONFIG`: facts that clients rely on.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `server` in HELLO: `redis` on Valkey 8.0.
    pub server: String,
    /// `version` in HELLO: the compatible Redis version, such as `7.2.4`.
    pub version: String,
    /// How many databases SELECT reaches.
    pub databases: u32,
    /// The server's own version: 8.1 of 8.1.3.
    pub release: crate::commands::Version,
    /// Modules that are part of the server (Lua, since 9.1), with their versions: every server of its release
    /// has them. Those that an operator has loaded are no matter of a store's.
    pub modules: Vec<(String, i64)>,
}

/// One shared Valkey.
#[derive(Debug)]
pub struct Environment {
    /// Where it is now.
    pub whereabouts: Whereabouts,
    /// Replicas that have the agent's users and follow it closely, for stores that may be read there.
    pub replicas: ArcSwap<Vec<UpstreamAddress>>,
    /// What it says of itself.
    pub facts: ServerFacts,
    /// The user of the agent's own store-wide work: it may list names, and read no value.
    pub housekeeper: Credentials,
    /// What no reply may hold.
    pub integrity: Arc<Integrity>,
    /// The user who works on libraries of functions, and can do nothing else.
    pub librarian: Credentials,
    /// The sessions of this node.
    pub directory: Directory,
}

/// Each change made under such a lock is one call, so a panic elsewhere cannot leave it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A workload that the config names, with its stores.
#[derive(Debug)]
pub struct App {
    /// Its name, for people.
    pub name: String,
    /// Its stores; the first is the default. Never empty.
    pub stores: Vec<Arc<Store>>,
}

impl App {
    /// The store of a connection that does not name one.
    #[must_use]
    pub fn default_store(&self) -> &Arc<Store> {
        &self.stores[0]
    }

    /// The store of a connection whose user name is this: a bound store by its name, or the default
    /// one. A store that is gone is none.
    #[must_use]
    pub fn store(&self, user: &[u8]) -> Option<&Arc<Store>> {
        let mut stores = self.stores.iter();
        match user {
            b"default" => stores.next(),
            name => stores.find(|store| store.is_called(name)),
        }
        .filter(|store| !store.is_retired())
    }
}

/// The sessions of this node, for CLIENT LIST and `flect status`. Touched when a session begins,
/// ends or is named; never for a command.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Mutex<Vec<Arc<Entry>>>,
    /// What connections there may be at all.
    pub descriptors: Descriptors,
    pub(crate) mailboxes: Mailboxes,
}

impl Directory {
    /// Enters a session.
    pub fn enter(&self, entry: Arc<Entry>) {
        lock(&self.entries).push(entry);
    }

    /// Takes a session out; whether it was there.
    pub fn leave(&self, entry: &Arc<Entry>) -> bool {
        let mut entries = lock(&self.entries);
        let place = entries.iter().position(|other| Arc::ptr_eq(other, entry));
        if let Some(index) = place {
            entries.swap_remove(index);
        }
        place.is_some()
    }

    /// A session of a store by its CLIENT ID.
    #[must_use]
    pub fn find(&self, store: usize, id: u64) -> Option<Arc<Entry>> {
        let entries = lock(&self.entries);
        let mut entries = entries.iter();
        entries
            .find(|entry| entry.store == store && entry.id == id)
            .cloned()
    }

    /// What INFO counts of a store's sessions.
    #[must_use]
    pub fn states(&self, store: usize) -> States {
        let mut states = States::default();
        for entry in lock(&self.entries).iter().filter(|e| e.store == store) {
            states.count(entry);
        }
        states
    }

    /// Whether any session of a store has a script or a transaction as its last command: no other can have one
    /// under way, but for one that has sent more behind it.
    #[must_use]
    pub fn may_run_scripts(&self, store: usize) -> bool {
        let entries = lock(&self.entries);
        let mut looks = entries
            .iter()
            .filter(|entry| entry.store == store)
            .map(|entry| entry.live.look());
        looks.any(|look| {
            let number = look.command.map(usize::from);
            let command = number.and_then(|number| commands::all().get(number));
            command.is_some_and(|command| {
                let name = command.name;
                name.starts_with("eval") || name.starts_with("fcall") || name == "exec"
            })
        })
    }

    /// The sessions of one store, oldest first.
    #[must_use]
    pub fn of_store(&self, store: usize) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = lock(&self.entries)
            .iter()
            .filter(|entry| entry.store == store)
            .cloned()
            .collect();
        entries.sort_by_key(|entry| entry.id);
        entries
    }
}
