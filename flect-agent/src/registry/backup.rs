//! A copy of the registry in the memory of every agent, from which it comes back when the server has
//! lost it: a Valkey without persistence that was restarted, a `FLUSHALL`, a replica that was behind
//! when it took over.
//!
//! Invariant: what is given back never overwrites what is there, and a registry that is as new as the
//! copy or newer is left alone.

use redis::Script;
use redis::aio::ConnectionLike;

use super::{
    ALIASES, CHANGES, LOG, META, PREFIXES, REMOVED, Registry, RegistryError, STORES, Snapshot,
    Texts,
};

/// Everything the registry held at one instant. Its `Debug` output hides the environment's secret.
#[derive(Clone, Default)]
pub struct Backup {
    pub(super) meta: Texts,
    pub(super) stores: Texts,
    pub(super) prefixes: Texts,
    pub(super) aliases: Texts,
    pub(super) removed: Texts,
    /// What the log says of the version, if it does.
    pub(super) line: Option<String>,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl Backup {
    /// The registry's version at that instant; 0 when there was none.
    #[must_use]
    pub fn version(&self) -> u64 {
        let version = self.meta.get("version");
        version.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// What it says.
    ///
    /// # Errors
    /// When this release does not understand it.
    pub fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        Snapshot::read(self.version(), &self.stores, &self.aliases, &self.removed)
    }

    /// The secret that the environment's users are derived from.
    pub(crate) fn user_key(&self) -> Option<&str> {
        self.meta.get("user-key").map(String::as_str)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> Registry<C> {
    /// Everything at one instant, to read and to keep.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn backup(&mut self) -> Result<Backup, RegistryError> {
        let (meta, stores, prefixes, aliases, removed, mut log): (Texts, _, _, _, _, Texts) =
            redis::pipe()
                .atomic()
                .hgetall(META)
                .hgetall(STORES)
                .hgetall(PREFIXES)
                .hgetall(ALIASES)
                .hgetall(REMOVED)
                .hgetall(LOG)
                .query_async(&mut self.connection)
                .await?;
        let version = meta.get("version");
        Ok(Backup {
            line: version.and_then(|version| log.remove(version)),
            meta,
            stores,
            prefixes,
            aliases,
            removed,
        })
    }

    /// Gives back what the server has lost; `false` when it holds the same registry, or one that is
    /// newer, which somebody else may have given back a moment ago.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn restore(&mut self, backup: &Backup) -> Result<bool, RegistryError> {
        let script = Script::new(include_str!("restore.lua"));
        let mut call = script.key(META);
        call.key(STORES)
            .key(PREFIXES)
            .key(ALIASES)
            .key(REMOVED)
            .key(LOG);
        call.arg(CHANGES).arg(backup.version());
        call.arg(backup.user_key().unwrap_or_default());
        let hashes = [
            &backup.meta,
            &backup.stores,
            &backup.prefixes,
            &backup.aliases,
            &backup.removed,
        ];
        for (number, hash) in hashes.into_iter().enumerate() {
            for (field, value) in hash {
                call.arg(number + 1).arg(field).arg(value);
            }
        }
        let outcome: String = call.invoke_async(&mut self.connection).await?;
        Ok(outcome == "restored")
    }
}
