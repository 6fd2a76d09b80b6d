//! The stores that this node serves: told to the workers as they come, change and go.
//!
//! Invariant: a store's users are in place before a worker hears of it, and the workers hear of it
//! before any session can choose it. A number is never given again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use flect_agent::admin::{Admin, AdminError, Before, STORES_AT_ONCE};
use flect_agent::config::Config;
use flect_agent::environment::{Defaults, Store};
use flect_agent::registry::{Record, Snapshot};
use flect_agent::store::{Prefix, Slug};
use flect_agent::worker::{Handle, Message};

/// What is served.
pub struct Stores {
    limits: Defaults,
    served: HashMap<Prefix, Arc<Store>>,
    next_number: usize,
    /// Removed stores whose users are gone: asked for once.
    buried: HashSet<Prefix>,
}

impl Stores {
    /// None yet; they will have these limits where their records say nothing.
    pub fn new(limits: Defaults) -> Self {
        Self {
            limits,
            served: HashMap::new(),
            next_number: 0,
            buried: HashSet::new(),
        }
    }

    /// They have other limits from now on.
    pub fn set_limits(&mut self, limits: Defaults) {
        self.limits = limits;
        for store in self.served.values() {
            store.limits.set_defaults(&self.limits);
        }
    }

    /// By prefix.
    pub fn served(&self) -> &HashMap<Prefix, Arc<Store>> {
        &self.served
    }

    /// Removed stores whose users are taken away.
    pub fn buried(&self) -> &HashSet<Prefix> {
        &self.buried
    }

    /// The server may have users again that were taken away.
    pub fn exhume(&mut self) {
        self.buried.clear();
    }

    /// Ends what is no longer to be served, at once and whatever the server says.
    pub fn retire(&mut self, config: &Config, snapshot: &Snapshot, workers: &[Handle]) {
        let wanted = wanted(config, snapshot);
        self.served.retain(|prefix, store| {
            let keep = wanted.contains_key(prefix);
            if !keep {
                tracing::info!(store = %store.slug(), %prefix, "store no longer served");
                store.retire();
                for worker in workers {
                    worker.send(Message::Retire(store.clone()));
                }
            }
            keep
        });
    }

    /// Takes over what the registry says of the others and serves those that are new.
    ///
    /// # Errors
    /// When the server refuses; what has been done by then stays, the rest is done by the next call.
    pub async fn follow(
        &mut self,
        config: &Config,
        snapshot: &Snapshot,
        admin: &mut Admin,
        workers: &[Handle],
    ) -> Result<(), AdminError> {
        let mut fresh = Vec::new();
        for (prefix, (slug, record)) in wanted(config, snapshot) {
            let aliases: Vec<Slug> = snapshot
                .aliases
                .iter()
                .filter(|(alias, of)| *of == prefix && !snapshot.stores.contains_key(*alias))
                .map(|(alias, _)| alias.clone())
                .collect();
            if let Some(store) = self.served.get(prefix) {
                store.follow(record);
                store.rename(slug, &aliases);
                continue;
            }
            let store = admin.describe(self.next_number, slug, record);
            self.next_number += 1;
            store.limits.set_defaults(&self.limits);
            store.rename(slug, &aliases);
            fresh.push(Arc::new(store));
        }
        for fresh in fresh.chunks(STORES_AT_ONCE) {
            let stores: Vec<&Store> = fresh.iter().map(Arc::as_ref).collect();
            admin.ensure_users(&stores, Before::Marks).await?;
            for store in fresh {
                self.serve(store, workers);
            }
        }
        Ok(())
    }

    /// Serves a store that has its users.
    fn serve(&mut self, store: &Arc<Store>, workers: &[Handle]) {
        for worker in workers {
            worker.send(Message::Store(store.clone()));
        }
        tracing::info!(store = %store.slug(), prefix = %store.prefix, "store");
        self.buried.remove(&store.prefix);
        self.served.insert(store.prefix.clone(), store.clone());
    }

    /// Takes the users of removed stores away. Every agent does: one that had not heard of the
    /// removal yet may have made them again.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn bury(
        &mut self,
        snapshot: &Snapshot,
        before: &Snapshot,
        admin: &mut Admin,
    ) -> Result<(), AdminError> {
        let there: HashSet<&Prefix> = snapshot.stores.values().map(|r| &r.prefix).collect();
        let removed = snapshot.removed.iter().map(|removal| &removal.prefix);
        // A removal that was forgotten between two looks is seen by what has vanished.
        let vanished = before.stores.values().map(|record| &record.prefix);
        for prefix in removed.chain(vanished) {
            if !there.contains(prefix) && !self.buried.contains(prefix) {
                admin.remove_users(prefix).await?;
                self.buried.insert(prefix.clone());
            }
        }
        Ok(())
    }
}

/// The stores that this node is to serve: those that its apps are bound to and, for explicit mode,
/// those with a token; none that somebody is filling.
fn wanted<'a>(
    config: &Config,
    snapshot: &'a Snapshot,
) -> HashMap<&'a Prefix, (&'a Slug, &'a Record)> {
    let bound = config.apps.iter().flat_map(|app| &app.stores);
    let bound = bound.filter_map(|name| snapshot.find(name));
    let explicit = !config.explicit.listen.is_empty();
    let open = snapshot.stores.iter();
    let open = open.filter(|(_, record)| explicit && record.token.is_some());
    bound
        .chain(open)
        .filter(|(_, record)| !record.filling)
        .map(|(slug, record)| (&record.prefix, (slug, record)))
        .collect()
}
