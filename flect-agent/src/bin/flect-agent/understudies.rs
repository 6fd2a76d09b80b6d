//! Servers that may take the primary's place have the agent's users in advance, so that apps can be sent there the
//! moment that one does.
//!
//! Invariant: what is known of a server is known of one run of it (`run_id`): a restart makes it unknown.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flect_agent::admin::{Before, Outfit, STORES_AT_ONCE, info_field, users_gone};
use flect_agent::environment::{Environment, Store, UpstreamAddress};
use flect_agent::reach::Link;
use flect_agent::store::Prefix;
use tokio::sync::watch;

/// How often replicas are looked at: one that comes has its users so soon, and few failovers are sooner.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What changes in a burst is made so in one go.
const SETTLE: Duration = Duration::from_millis(100);

/// A primary speaks to its replicas every ten seconds at least (`repl-ping-replica-period`).
const SILENT_SECONDS_MAX: u64 = 15;

/// Runs of servers that are remembered; more than any environment has.
const RUNS_MAX: usize = 64;

/// What users servers must have.
#[derive(Clone, Default)]
pub struct Cast {
    outfit: Arc<Outfit>,
    stores: Vec<Arc<Store>>,
    /// Stores that are removed from the environment.
    gone: HashSet<Prefix>,
}

impl Cast {
    /// Users for these stores, and none for those that are gone.
    pub fn new(outfit: Arc<Outfit>, stores: Vec<Arc<Store>>, gone: HashSet<Prefix>) -> Self {
        Self {
            outfit,
            stores,
            gone,
        }
    }
}

/// What servers have, and must have.
#[derive(Clone)]
pub struct Understudies {
    environment: Arc<Environment>,
    wanted: Arc<watch::Sender<Cast>>,
    /// By the run of the server.
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// What a look at a server has brought.
struct Looked {
    /// Of how many stores users were made.
    equipped: usize,
    /// What it holds is as new as a replica's data can be.
    is_readable: bool,
}

/// Whether a replica has all that its primary had a moment ago, by `INFO replication`.
fn follows_closely(info: &str) -> bool {
    let field = |name| info_field(info, name);
    let silent_s = field("master_last_io_seconds_ago").and_then(|text| text.parse::<u64>().ok());
    field("role") == Some("slave")
        && field("master_link_status") == Some("up")
        && silent_s.is_some_and(|silent_s| silent_s <= SILENT_SECONDS_MAX)
}

/// What one run of a server has.
#[derive(Default)]
struct Known {
    outfit: Arc<Outfit>,
    /// How many patterns were granted when its users were made.
    stores: HashMap<Prefix, usize>,
}

impl Known {
    /// Which stores' users it lacks, or has as they were.
    fn lacks<'a>(&self, cast: &'a Cast) -> Vec<&'a Store> {
        let is_other = self.outfit != cast.outfit;
        let stores = cast.stores.iter().map(Arc::as_ref);
        stores
            .filter(|store| {
                is_other || self.stores.get(&store.prefix) != Some(&store.granted().len())
            })
            .collect()
    }
}

impl Understudies {
    /// Nothing is wanted yet. Replicas that can be read from are told to `environment`.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self {
            environment,
            wanted: Arc::new(watch::Sender::new(Cast::default())),
            known: Arc::default(),
        }
    }

    /// These users are wanted from now on.
    pub fn want(&self, cast: Cast) {
        self.wanted.send_replace(cast);
    }

    /// Whether this run of a server has all users of these stores.
    pub fn is_ready(&self, run_id: &str, cast: &Cast) -> bool {
        let known = self.known();
        let known = known.get(run_id);
        known.is_some_and(|known| known.outfit == cast.outfit && known.lacks(cast).is_empty())
    }

    /// Makes users on servers that may take the primary's place, until it is dropped.
    pub async fn run(self, link: Link) {
        let mut wanted = self.wanted.subscribe();
        // Once for each reason and server: it may last.
        let mut told: HashMap<String, String> = HashMap::new();
        loop {
            let mut readable = Vec::new();
            // What is not known now is known at the next look.
            for address in link.others().await.unwrap_or_default() {
                let cast = wanted.borrow_and_update().clone();
                let done = self.look_after(&link, &address, &cast).await;
                let place = address.to_string();
                match done {
                    Ok(Looked {
                        equipped,
                        is_readable,
                    }) => {
                        told.remove(&place);
                        readable.extend(is_readable.then_some(address));
                        if equipped > 0 {
                            tracing::info!(
                                replica = place,
                                stores = equipped,
                                "a replica has the agent's users"
                            );
                        }
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if told.get(&place) != Some(&error) {
                            tracing::warn!(
                                replica = place,
                                error,
                                "a replica lacks the agent's users; they are made when it becomes primary"
                            );
                            told.insert(place, error);
                        }
                    }
                }
            }
            if **self.environment.replicas.load() != readable {
                self.environment.replicas.store(Arc::new(readable));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Patterns are granted one by one.
                    tokio::time::sleep(SETTLE).await;
                }
            }
        }
    }

    /// Makes what one server lacks.
    async fn look_after(
        &self,
        link: &Link,
        address: &UpstreamAddress,
        cast: &Cast,
    ) -> redis::RedisResult<Looked> {
        let mut server = link.converse(address).await?;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut server)
            .await?;
        let run_id = info_field(&info, "run_id").unwrap_or_default().to_owned();
        let (is_new, lacking, gone) = match self.known().get(&run_id) {
            Some(known) => {
                let gone = known.stores.keys().filter(|it| cast.gone.contains(it));
                let gone: Vec<Prefix> = gone.cloned().collect();
                (known.outfit != cast.outfit, known.lacks(cast), gone)
            }
            None => {
                let stores = cast.stores.iter().map(Arc::as_ref);
                (true, stores.collect(), Vec::new())
            }
        };
        if is_new {
            for user in cast.outfit.own() {
                let () = user.command().query_async(&mut server).await?;
            }
            let mut known = self.known();
            if known.len() >= RUNS_MAX {
                known.clear();
            }
            known.insert(run_id.clone(), Known::default());
        }
        for prefix in gone {
            let () = users_gone(&prefix).query_async(&mut server).await?;
            if let Some(known) = self.known().get_mut(&run_id) {
                known.stores.remove(&prefix);
            }
        }
        for stores in lacking.chunks(STORES_AT_ONCE) {
            // Before they are made: a pattern that is granted meanwhile may be lacking.
            let granted: Vec<_> = stores.iter().map(|store| store.granted().len()).collect();
            cast.outfit
                .equip(&mut server, stores, Before::Marks)
                .await?;
            if let Some(known) = self.known().get_mut(&run_id) {
                let prefixes = stores.iter().map(|store| store.prefix.clone());
                known.stores.extend(prefixes.zip(granted));
            }
        }
        if let Some(known) = self.known().get_mut(&run_id) {
            known.outfit = cast.outfit.clone();
        }
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut server)
            .await?;
        Ok(Looked {
            equipped: lacking.len(),
            is_readable: follows_closely(&info),
        })
    }

    /// Each change is one call, so a panic elsewhere cannot leave it half done.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::follows_closely;

    #[test]
    fn a_replica_is_read_while_it_follows() {
        let check = |role: &str, link: &str, silent: &str| {
            follows_closely(&format!(
                "# Replication\r\nrole:{role}\r\nmaster_link_status:{link}\r\n\
                 master_last_io_seconds_ago:{silent}\r\n"
            ))
        };
        assert!(check("slave", "up", "3"));
        for (role, link, silent) in [
            ("master", "up", "3"),
            ("slave", "down", "3"),
            ("slave", "up", "16"),
            ("slave", "up", "-1"),
        ] {
            assert!(!check(role, link, silent), "{role} {link} {silent}");
        }
        assert!(!follows_closely("role:master\r\n"));
    }
}
