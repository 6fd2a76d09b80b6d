//! The agent's conversation with the shared Valkey as its operator: users and facts. What stores
//! there are, the [registry](crate::registry) says.

mod bounds;
mod facts;
mod learn;
mod outfit;
mod shards;
mod users;

use std::sync::Arc;
use std::time::Duration;

use crate::commands::Learnt;
use crate::config;
use crate::environment::settings::events;
use crate::environment::{Credentials, ServerFacts, Setting, Store, settings};
use crate::reach::{Link, Login, Reach, ReachError, Times, UpstreamAddress};
use crate::registry::{Backup, Record, Registry, RegistryError};
use crate::scoped::SCRIPT_NAMES;
use crate::scripts;
use crate::store::{Prefix, Slug};
pub use bounds::CLIENT_MEMORY;
pub use facts::info_field;
pub use outfit::{Before, Outfit, STORES_AT_ONCE, User, users_gone};
pub use shards::Prepared;
use users::UserKey;
pub use users::hex;
pub(crate) use users::random;

/// How long the operator's connection may take to answer before it counts as lost. The server's
/// longest pause for others is a slow script, after five seconds it answers BUSY.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// Channel patterns that one store may be granted, since each stays in its user's list, which the
/// server searches at every PSUBSCRIBE.
pub const GRANTED_PATTERNS_MAX: usize = 4096;

/// Why the agent cannot work with its Valkey.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// What the configuration names cannot be used.
    #[error("{0}")]
    Reach(#[from] ReachError),
    /// The server cannot be reached or refuses the operator.
    #[error("Valkey at {address}: {cause}")]
    Server {
        /// The endpoint.
        address: String,
        /// What the client library says.
        cause: redis::RedisError,
    },
    /// The registry does not do what is asked.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// The registry holds something that is not the agent's, or a store asks for too much.
    #[error("{0}")]
    Refused(String),
}

/// The operator's connection.
pub struct Admin {
    connection: Link,
    registry: Registry<Link>,
    address: String,
    key: UserKey,
    learnt: Learnt,
    /// What users this server must have.
    outfit: Arc<Outfit>,
    facts: ServerFacts,
    /// The server has been asked to tell of new keys.
    new_keys_told: bool,
    /// The nodes of a cluster that have the agent's users.
    prepared: Vec<Prepared>,
    /// Some of them may not have been asked to tell of events.
    events_due: bool,
}

impl Admin {
    /// Connects and reads what the server says of itself.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses the operator's credentials or rights.
    pub async fn connect(valkey: &config::Valkey) -> Result<Self, AdminError> {
        let address = valkey.reached_at();
        let server = |cause| AdminError::Server {
            address: address.clone(),
            cause,
        };
        let times = Times {
            answer: ANSWER_WITHIN,
            connect: ANSWER_WITHIN,
        };
        let login = Login::of_operator(valkey).map_err(ReachError::from)?;
        let opened = Link::open(Reach::of(valkey)?, login.to_redis(), times).await;
        let mut connection = opened.map_err(server)?;
        let facts = facts::facts(&mut connection).await.map_err(server)?;
        scripts::of_release(facts.release);
        let mut registry = Registry::open(connection.clone()).await?;
        let key = registry.user_key(&UserKey::random().to_text()).await?;
        let key = UserKey::from_text(&key).ok_or_else(|| {
            AdminError::Refused("the registry's user-key is no key; who wrote it?".to_owned())
        })?;
        let mut admin = Self {
            connection,
            registry,
            address,
            key,
            learnt: Learnt::default(),
            outfit: Arc::default(),
            facts,
            new_keys_told: false,
            prepared: Vec::new(),
            events_due: false,
        };
        admin.learn().await?;
        Ok(admin)
    }

    /// What the server says of itself.
    #[must_use]
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// How many clients the server takes (`maxclients`), if it says so.
    pub async fn clients_max(&mut self) -> Option<u32> {
        let told: redis::RedisResult<Vec<String>> = redis::cmd("CONFIG")
            .arg("GET")
            .arg("maxclients")
            .query_async(&mut self.connection)
            .await;
        told.ok()?.get(1)?.parse().ok()
    }

    /// The user of the agent's own store-wide work, made or brought up to date.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_housekeeper(&mut self) -> Result<Credentials, AdminError> {
        let credentials = self.key.housekeeper();
        self.make_user(&credentials.user).await?;
        Ok(credentials)
    }

    /// The user who works on libraries of functions, made or brought up to date.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_librarian(&mut self) -> Result<Credentials, AdminError> {
        let credentials = self.key.librarian();
        self.make_user(&credentials.user).await?;
        Ok(credentials)
    }

    /// What users a server must have that can do what this one can.
    #[must_use]
    pub fn outfit(&self) -> Arc<Outfit> {
        self.outfit.clone()
    }

    /// What stores there are.
    pub fn registry(&mut self) -> &mut Registry<Link> {
        &mut self.registry
    }

    /// The operator's connection itself; clones share it.
    #[must_use]
    pub fn connection(&self) -> Link {
        self.connection.clone()
    }

    /// Where the server is that this connection leads to, for others to connect to.
    ///
    /// # Errors
    /// When its name cannot be looked up.
    pub async fn places(&self) -> Result<Vec<UpstreamAddress>, AdminError> {
        let located = match self.connection.address() {
            // It has said that it is the primary; another may by now.
            Some(address) if self.connection.is_followed() => Ok(vec![address]),
            _ => self.connection.locate().await,
        };
        located.map_err(|error| self.server(error.into()))
    }

    /// A store as the data path sees it, with its users in place.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn store(
        &mut self,
        number: usize,
        slug: &Slug,
        record: &Record,
    ) -> Result<Store, AdminError> {
        let store = self.describe(number, slug, record);
        self.ensure_users(&[&store], Before::Marks).await?;
        Ok(store)
    }

    /// The same without touching the server.
    #[must_use]
    pub fn describe(&self, number: usize, slug: &Slug, record: &Record) -> Store {
        let id = record.prefix.as_str().trim_matches(['{', '}']);
        Store::new(
            number,
            slug,
            record,
            self.key.credentials(&format!("flect.{id}")),
            self.key.credentials(&format!("flect.{id}.sort")),
        )
    }

    /// Takes a removed store's users away, which ends their connections.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove_users(&mut self, prefix: &Prefix) -> Result<(), AdminError> {
        self.order(&users_gone(prefix)).await?;
        for shard in self.connection.of_shards() {
            self.drop_libraries(prefix, &shard).await?;
        }
        // The names of its scripts go with it.
        let result: redis::RedisResult<()> = redis::cmd("DEL")
            .arg(format!("{SCRIPT_NAMES}{prefix}"))
            .query_async(&mut self.connection)
            .await;
        result.map_err(|cause| self.server(cause))
    }

    /// Lets the store's user subscribe to patterns literally. They begin with the store's own
    /// prefix, so this widens nothing.
    ///
    /// # Errors
    /// When the server refuses, or the store has too many patterns already.
    pub async fn grant(&mut self, store: &Store, patterns: &[Vec<u8>]) -> Result<(), AdminError> {
        let own = store.prefix.namespace(0);
        let granted = store.granted().len();
        if granted + patterns.len() > GRANTED_PATTERNS_MAX
            || patterns
                .iter()
                .any(|pattern| !pattern.starts_with(own.channels()))
        {
            return Err(AdminError::Refused(format!(
                "store '{}' asks for more than {GRANTED_PATTERNS_MAX} patterns",
                store.slug()
            )));
        }
        let rules = patterns.iter();
        let rules = rules.map(|pattern| [b"&", pattern.as_slice()].concat());
        let user = User {
            name: store.credentials.user.clone(),
            rules: rules.collect(),
        };
        self.order(&user.command()).await?;
        store.granted().extend(patterns.iter().cloned());
        Ok(())
    }

    /// Writes down what apps of a store have set for it, and lets it obey on this node.
    ///
    /// # Errors
    /// When the registry cannot be changed, or the store is gone.
    pub async fn keep_settings(
        &mut self,
        store: &Store,
        changes: &[(Setting, i64)],
    ) -> Result<(), AdminError> {
        let slug = store.slug();
        let change = |record: &mut Record| {
            // A store of the same name may have taken the place of one that is gone.
            let changes = changes.iter().filter(|_| record.prefix == store.prefix);
            for (setting, value) in changes {
                settings::keep(&mut record.settings, *setting, *value);
            }
        };
        let record = self.registry.change(&slug, change).await?;
        if record.prefix != store.prefix {
            return Err(AdminError::Refused(format!("store '{slug}' is gone")));
        }
        store.settings().set(&record.settings);
        Ok(())
    }

    /// Applies settings of the server, for all its stores.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn apply_settings<N: AsRef<str>>(
        &mut self,
        settings: &[(N, String)],
    ) -> Result<(), AdminError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (name, value) in settings {
            command.arg(name.as_ref()).arg(value);
        }
        self.everywhere(&command).await
    }

    /// Lets the server publish at least these classes of keyspace events.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_events(&mut self, wanted: u32) -> Result<(), AdminError> {
        let read: redis::RedisResult<Vec<String>> = redis::cmd("CONFIG")
            .arg("GET")
            .arg("notify-keyspace-events")
            .query_async(&mut self.connection)
            .await;
        let read = read.map_err(|cause| self.server(cause))?;
        let shown = read.get(1).map_or("", String::as_str);
        // An operator's letters that this release does not know stay as they are.
        let known = shown.bytes().filter_map(|letter| events::parse(&[letter]));
        let current = known.fold(0, |all, bits| all | bits);
        // Valkey 8.0 does not show `n` beside `A`, so it cannot be seen there.
        let blind = if current & events::ALL == events::ALL {
            events::NEW
        } else {
            0
        };
        let again = wanted & blind != 0 && !self.new_keys_told;
        if wanted & !current & !blind == 0 && !again && !self.events_due {
            return Ok(());
        }
        let mut letters = format!("{shown}{}", events::letters(wanted));
        if (wanted | blind) & events::NEW != 0 {
            letters.push('n');
        }
        self.apply_settings(&[("notify-keyspace-events", letters)])
            .await?;
        self.new_keys_told = (wanted | blind) & events::NEW != 0;
        self.events_due = false;
        Ok(())
    }

    /// Which run of the server answers: another id means that what it keeps in memory alone, users
    /// and settings, may be lost.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn run_id(&mut self) -> Result<String, AdminError> {
        let result: redis::RedisResult<String> = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut self.connection)
            .await;
        let info = result.map_err(|cause| self.server(cause))?;
        Ok(info_field(&info, "run_id").unwrap_or_default().to_owned())
    }

    /// Whether a registry is the one that this connection was made for: users are derived from its
    /// secret.
    #[must_use]
    pub fn knows(&self, backup: &Backup) -> bool {
        backup.user_key() == Some(self.key.to_text().as_str())
    }

    /// One of the agent's own users.
    async fn make_user(&mut self, name: &str) -> Result<(), AdminError> {
        let outfit = self.outfit.clone();
        for user in outfit.own().iter().filter(|user| user.name == name) {
            self.order(&user.command()).await?;
        }
        Ok(())
    }

    async fn order(&mut self, command: &redis::Cmd) -> Result<(), AdminError> {
        self.everywhere(command).await
    }

    fn server(&self, cause: redis::RedisError) -> AdminError {
        AdminError::Server {
            address: self.address.clone(),
            cause,
        }
    }
}
