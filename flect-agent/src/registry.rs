//! The registry of an environment: which stores there are, kept in the environment's own Valkey.
//!
//! ```text
//! flect:{registry}:meta      schema, version, user-key, settings of the server (`set-NAME`)
//! flect:{registry}:stores    slug -> record (JSON)
//! flect:{registry}:prefixes  prefix -> the slug it was claimed for, for ever
//! flect:{registry}:aliases   earlier slug of a renamed store -> its prefix
//! flect:{registry}:removed   prefix -> removal (JSON), until its keys are deleted
//! flect:{registry}:usage     prefix -> what the store holds (JSON), while somebody measures
//! flect:{registry}:round     id -> another one after each round of measuring
//! flect:{registry}:log       version -> which fields the change touched, and a digest (JSON): the last 128
//! flect:{registry}:changes   channel: the version after each change
//! ```
//!
//! No store can reach these: a store's names begin with `{`. The hash tag keeps them on one shard.
//!
//! Invariants: a prefix is claimed once and never given again; a slug names at most one store; every
//! change is one script, so it happens whole, raises the version by one and is published after it.
//! Records are changed by compare-and-set, so of two who change the same record one starts over.

mod backup;
mod news;
mod record;
mod slots;

use std::collections::BTreeMap;

use redis::aio::ConnectionLike;
use redis::{AsyncCommands, Script};

use crate::store::{InvalidSlug, Prefix, Slug};
pub use backup::Backup;
pub(crate) use record::now_seconds;
pub use record::{Limits, Record, Removal, TokenDigest, new_token};
pub use slots::sharing;

/// What the channel is called on which the version is published after each change.
pub const CHANGES: &str = "flect:{registry}:changes";

const META: &str = "flect:{registry}:meta";
const STORES: &str = "flect:{registry}:stores";
const PREFIXES: &str = "flect:{registry}:prefixes";
const ALIASES: &str = "flect:{registry}:aliases";
const REMOVED: &str = "flect:{registry}:removed";

/// What each of the last changes touched, by version.
const LOG: &str = "flect:{registry}:log";

/// What the names of the server's settings begin with in `meta`.
const SETTING: &str = "set-";

/// Usage as somebody measured it, by prefix.
pub const USAGE: &str = "flect:{registry}:usage";

/// The layout above. A higher number in `meta` was written by a newer release and is not touched.
const SCHEMA: u32 = 1;

/// A script that changes the registry and says so.
macro_rules! changing {
    ($name:literal) => {
        concat!(
            include_str!("registry/changed.lua"),
            include_str!(concat!("registry/", $name, ".lua"))
        )
    };
}

/// Tries to find an unclaimed prefix; with a million stores, one in sixty is taken.
const PREFIX_TRIES: u32 = 32;

/// How many of these insist on a slot that nobody has taken meanwhile.
const EXACT_TRIES: u32 = 16;

/// How often a change starts over because somebody else changed the same record.
const CHANGE_TRIES: u32 = 16;

/// Why the registry does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The server cannot be reached or refuses.
    #[error("{0}")]
    Server(#[from] redis::RedisError),
    /// There is such a store.
    #[error("there is a store '{0}' already")]
    Exists(Slug),
    /// There is no such store.
    #[error("there is no store '{slug}'{}", did_you_mean(.known))]
    Unknown {
        /// What was asked for.
        slug: Slug,
        /// The names that come closest, best first.
        known: Vec<Slug>,
    },
    /// Others change the record all the time.
    #[error("store '{0}' is being changed by others; try again")]
    Busy(Slug),
    /// What is in the registry is not what this release writes.
    #[error("registry: {0}")]
    Foreign(String),
}

fn did_you_mean(known: &[Slug]) -> String {
    match known {
        [] => String::new(),
        [best, ..] => format!("; did you mean '{best}'?"),
    }
}

/// A hash of the registry as it stands on the server.
type Texts = BTreeMap<String, String>;

/// All of the registry at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Raised by one with every change.
    pub version: u64,
    /// By slug.
    pub stores: BTreeMap<Slug, Record>,
    /// Earlier names of renamed stores, which still find them.
    pub aliases: BTreeMap<Slug, Prefix>,
    /// Stores that are gone, whose keys are not all deleted yet.
    pub removed: Vec<Removal>,
}

impl Snapshot {
    fn read(
        version: u64,
        stores: &Texts,
        aliases: &Texts,
        removed: &Texts,
    ) -> Result<Self, RegistryError> {
        let mut snapshot = Self {
            version,
            ..Self::default()
        };
        for (slug, text) in stores {
            let slug = known_slug(slug.clone())?;
            let record = parse(&slug, text)?;
            snapshot.stores.insert(slug, record);
        }
        for (slug, prefix) in aliases {
            let prefix =
                Prefix::parse(prefix).map_err(|error| RegistryError::Foreign(error.to_string()))?;
            snapshot.aliases.insert(known_slug(slug.clone())?, prefix);
        }
        for (prefix, text) in removed {
            let removal = serde_json::from_str(text)
                .map_err(|error| RegistryError::Foreign(format!("removed {prefix}: {error}")))?;
            snapshot.removed.push(removal);
        }
        Ok(snapshot)
    }

    /// A store by its name, or by the name that it had before it was renamed.
    #[must_use]
    pub fn find(&self, slug: &Slug) -> Option<(&Slug, &Record)> {
        self.stores.get_key_value(slug).or_else(|| {
            let prefix = self.aliases.get(slug)?;
            self.stores.iter().find(|(_, r)| r.prefix == *prefix)
        })
    }

    /// A store by its name.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] with the names that come close.
    pub fn get(&self, slug: &Slug) -> Result<(&Slug, &Record), RegistryError> {
        self.find(slug).ok_or_else(|| RegistryError::Unknown {
            slug: slug.clone(),
            known: self.close_to(slug),
        })
    }

    /// Names that somebody may have meant, best first.
    fn close_to(&self, slug: &Slug) -> Vec<Slug> {
        /// Jaro-Winkler similarity from which two names look alike.
        const ALIKE: f64 = 0.8;
        let mut near: Vec<_> = self
            .stores
            .keys()
            .map(|known| (strsim::jaro_winkler(known.as_str(), slug.as_str()), known))
            .filter(|(similarity, _)| *similarity > ALIKE)
            .collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        near.into_iter().map(|(_, known)| known.clone()).collect()
    }
}

/// The operator's way to the registry. Cheap to clone when the connection is.
#[derive(Clone)]
pub struct Registry<C> {
    connection: C,
}

impl<C: ConnectionLike + Clone + Send + Sync> Registry<C> {
    /// Opens the registry, making or migrating it if need be.
    ///
    /// # Errors
    /// When the server refuses, or a newer release wrote the registry.
    pub async fn open(mut connection: C) -> Result<Self, RegistryError> {
        let schema: u32 = Script::new(include_str!("registry/open.lua"))
            .key(META)
            .key(STORES)
            .key(PREFIXES)
            .arg(SCHEMA)
            .arg(now_seconds())
            .invoke_async(&mut connection)
            .await?;
        if schema != SCHEMA {
            return Err(RegistryError::Foreign(format!(
                "written by a newer release (schema {schema}, this one knows {SCHEMA}); upgrade flect"
            )));
        }
        Ok(Self { connection })
    }

    /// A secret of the environment, made by whoever asks first: `fresh` if there was none.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn user_key(&mut self, fresh: &str) -> Result<String, RegistryError> {
        let _: bool = self.connection.hset_nx(META, "user-key", fresh).await?;
        Ok(self.connection.hget(META, "user-key").await?)
    }

    /// Writes down settings of the server, so that agents apply them again after it was restarted.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn keep_settings(
        &mut self,
        settings: &[(&str, String)],
    ) -> Result<(), RegistryError> {
        let fields: Vec<(String, &String)> = settings
            .iter()
            .map(|(name, value)| (format!("{SETTING}{name}"), value))
            .collect();
        let () = self.connection.hset_multiple(META, &fields).await?;
        Ok(())
    }

    /// The server's settings as they were last written down.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn settings(&mut self) -> Result<Vec<(String, String)>, RegistryError> {
        let meta: BTreeMap<String, String> = self.connection.hgetall(META).await?;
        let kept = meta.into_iter();
        Ok(kept
            .filter_map(|(name, value)| Some((name.strip_prefix(SETTING)?.to_owned(), value)))
            .collect())
    }

    /// The version, which every change raises by one.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn version(&mut self) -> Result<u64, RegistryError> {
        let version: Option<u64> = self.connection.hget(META, "version").await?;
        Ok(version.unwrap_or(0))
    }

    /// Everything at one instant.
    ///
    /// # Errors
    /// When the server refuses, or holds what this release does not understand.
    pub async fn snapshot(&mut self) -> Result<Snapshot, RegistryError> {
        let (version, stores, aliases, removed): (Option<u64>, Texts, Texts, Texts) = redis::pipe()
            .atomic()
            .hget(META, "version")
            .hgetall(STORES)
            .hgetall(ALIASES)
            .hgetall(REMOVED)
            .query_async(&mut self.connection)
            .await?;
        Snapshot::read(version.unwrap_or(0), &stores, &aliases, &removed)
    }

    /// Makes a store.
    ///
    /// # Errors
    /// [`RegistryError::Exists`] when there is one of that name.
    pub async fn create(&mut self, slug: &Slug, limits: Limits) -> Result<Record, RegistryError> {
        self.create_as(slug, |prefix| Record::new(prefix, limits.clone()))
            .await
    }

    /// Makes a store from a record that is made for its new prefix.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_as(
        &mut self,
        slug: &Slug,
        record: impl Fn(Prefix) -> Record,
    ) -> Result<Record, RegistryError> {
        for turn in 0..PREFIX_TRIES {
            let snapshot = self.snapshot().await?;
            let record = record(slots::prefix(&snapshot, slots::random_prefix));
            // Of two who make stores at once one chooses anew; where there are many, slots may be shared.
            let version = (turn < EXACT_TRIES).then(|| snapshot.version.to_string());
            let outcome: String = Script::new(changing!("create"))
                .key(META)
                .key(STORES)
                .key(PREFIXES)
                .key(ALIASES)
                .key(LOG)
                .arg(CHANGES)
                .arg(slug.as_str())
                .arg(record.prefix.as_str())
                .arg(record.to_text())
                .arg(version.unwrap_or_default())
                .invoke_async(&mut self.connection)
                .await?;
            match outcome.as_str() {
                "created" => return Ok(record),
                "exists" => return Err(RegistryError::Exists(slug.clone())),
                _ => {}
            }
        }
        Err(RegistryError::Foreign(format!(
            "no free prefix found for store '{slug}'"
        )))
    }

    /// Finds or makes a store.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure(&mut self, slug: &Slug) -> Result<Record, RegistryError> {
        for _ in 0..CHANGE_TRIES {
            if let Some((_, record)) = self.snapshot().await?.find(slug) {
                return Ok(record.clone());
            }
            match self.create(slug, Limits::default()).await {
                Err(RegistryError::Exists(_)) => {}
                other => return other,
            }
        }
        Err(RegistryError::Busy(slug.clone()))
    }

    /// Changes a store's record; its prefix stays.
    ///
    /// # Errors
    /// When there is no such store.
    pub async fn change(
        &mut self,
        slug: &Slug,
        change: impl Fn(&mut Record),
    ) -> Result<Record, RegistryError> {
        for _ in 0..CHANGE_TRIES {
            let before = self.current(slug).await?;
            let mut after = before.record.clone();
            change(&mut after);
            after.prefix = before.record.prefix.clone();
            // Every agent reads the whole registry after a change, and apps can ask for one.
            if after == before.record || self.swap(&before, &before.slug, &after).await? {
                return Ok(after);
            }
        }
        Err(RegistryError::Busy(slug.clone()))
    }

    /// Gives a store another name. The earlier one still finds it until a store of that name is
    /// made, so that apps that are bound to it keep working.
    ///
    /// # Errors
    /// When there is no such store, or one of the new name.
    pub async fn rename(&mut self, slug: &Slug, new: &Slug) -> Result<Record, RegistryError> {
        for _ in 0..CHANGE_TRIES {
            let before = self.current(slug).await?;
            if before.slug == *new || self.swap(&before, new, &before.record).await? {
                return Ok(before.record);
            }
        }
        Err(RegistryError::Busy(slug.clone()))
    }

    /// Takes a store out: agents stop serving it, its name is free. Its keys remain until somebody
    /// deletes them and says so with [`forget`](Self::forget).
    ///
    /// # Errors
    /// When there is no such store.
    pub async fn remove(&mut self, slug: &Slug) -> Result<Removal, RegistryError> {
        for _ in 0..CHANGE_TRIES {
            let current = self.current(slug).await?;
            let removal = Removal::of(current.slug.clone(), &current.record);
            let outcome: String = Script::new(changing!("remove"))
                .key(META)
                .key(STORES)
                .key(ALIASES)
                .key(REMOVED)
                .key(LOG)
                .arg(CHANGES)
                .arg(current.slug.as_str())
                .arg(current.text)
                .arg(removal.prefix.as_str())
                .arg(removal.to_text())
                .invoke_async(&mut self.connection)
                .await?;
            if outcome == "removed" {
                return Ok(removal);
            }
        }
        Err(RegistryError::Busy(slug.clone()))
    }

    /// The keys of a removed store are deleted.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn forget(&mut self, removal: &Removal) -> Result<(), RegistryError> {
        let _: String = Script::new(changing!("forget"))
            .key(META)
            .key(REMOVED)
            .key(USAGE)
            .key(LOG)
            .arg(CHANGES)
            .arg(removal.prefix.as_str())
            .invoke_async(&mut self.connection)
            .await?;
        Ok(())
    }

    /// A store as it stands in the registry; by an earlier name as well.
    async fn current(&mut self, slug: &Slug) -> Result<Current, RegistryError> {
        let text: Option<String> = self.connection.hget(STORES, slug.as_str()).await?;
        if let Some(text) = text {
            return Current::new(slug, text);
        }
        let snapshot = self.snapshot().await?;
        let (slug, _) = snapshot.get(slug)?;
        let text: Option<String> = self.connection.hget(STORES, slug.as_str()).await?;
        let unknown = || RegistryError::Unknown {
            slug: slug.clone(),
            known: Vec::new(),
        };
        Current::new(slug, text.ok_or_else(unknown)?)
    }

    /// Puts `after` under `slug` if nobody has changed what stands there meanwhile.
    async fn swap(
        &mut self,
        before: &Current,
        slug: &Slug,
        after: &Record,
    ) -> Result<bool, RegistryError> {
        let outcome: String = Script::new(changing!("swap"))
            .key(META)
            .key(STORES)
            .key(ALIASES)
            .key(LOG)
            .arg(CHANGES)
            .arg(before.slug.as_str())
            .arg(&before.text)
            .arg(slug.as_str())
            .arg(after.to_text())
            .arg(after.prefix.as_str())
            .invoke_async(&mut self.connection)
            .await?;
        match outcome.as_str() {
            "exists" => Err(RegistryError::Exists(slug.clone())),
            "swapped" => Ok(true),
            _ => Ok(false),
        }
    }
}

/// What is compared when a record is changed: the text, since another release may order it
/// differently.
struct Current {
    slug: Slug,
    text: String,
    record: Record,
}

impl Current {
    fn new(slug: &Slug, text: String) -> Result<Self, RegistryError> {
        Ok(Self {
            record: parse(slug, &text)?,
            slug: slug.clone(),
            text,
        })
    }
}

fn parse(slug: &Slug, text: &str) -> Result<Record, RegistryError> {
    Record::from_text(text)
        .map_err(|error| RegistryError::Foreign(format!("store '{slug}': {error}")))
}

fn known_slug(text: String) -> Result<Slug, RegistryError> {
    Slug::try_from(text).map_err(|error: InvalidSlug| RegistryError::Foreign(error.to_string()))
}
