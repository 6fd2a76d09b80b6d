//! Another server's database into a store: one without prefixes, as it was before Flect KV.
//!
//! Not one instant, and not a replica: what is written to the other server meanwhile may be missed.

use super::fetch::{Expiry, Fetched, batches, fetch};
use super::recreate::recreate;
use super::restore::{Outcome, Restorer};
use super::{Paces, TransferError};
use crate::dump::Record;
use crate::keyspace::{Connection, Walk, database_and_key};
use crate::store::Prefix;

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Live {
    /// Keys found on the other server.
    pub found: u64,
    /// Keys whose values were written anew, type by type, since the other server's encoding is newer.
    pub recreated: u64,
    /// The part of the walk that is done, from 0 to 1.
    pub fraction: f64,
}

/// What is copied, and how.
#[derive(Clone, Debug)]
pub struct Choice {
    /// A glob pattern of names.
    pub matching: Vec<u8>,
    /// Stores whose keys are none of the database's own: those of an environment that lives on the
    /// same server.
    pub stores: Vec<Prefix>,
    /// The store's database that is written.
    pub database: u32,
    /// Write every value anew, type by type.
    pub by_type: bool,
}

impl Choice {
    fn is_foreign(&self, name: &[u8]) -> bool {
        !self.stores.is_empty() && name.starts_with(REGISTRY)
            || self
                .stores
                .iter()
                .any(|prefix| database_and_key(prefix, name).is_some())
    }
}

/// What the registry's own keys begin with.
const REGISTRY: &[u8] = b"flect:{registry}:";

/// Copies every key that matches into one of the store's databases.
///
/// # Errors
/// When a server refuses; what was copied stays, and copying again goes over it.
pub async fn copy_live<S: Connection, C: Connection>(
    source: &mut S,
    choice: &Choice,
    restorer: &mut Restorer<C>,
    paces: &mut Paces,
    mut progress: impl FnMut(Live),
) -> Result<Live, TransferError> {
    let mut live = Live::default();
    let expiry = Expiry::of_server(source).await?;
    let mut walk = Walk::new(choice.matching.clone(), false);
    while let Some(mut page) = walk.next(source).await? {
        page.names.retain(|name| !choice.is_foreign(name));
        for batch in batches(source, page.names).await? {
            let fetched = fetch(source, batch, expiry).await?;
            let bytes = fetched.iter().map(|key| key.payload.len() as u64).sum();
            let count = fetched.len() as u64;
            live.found += count;
            let records: Vec<Record> = fetched
                .into_iter()
                .map(|key: Fetched| Record {
                    database: choice.database,
                    expires_at_ms: key.expires_at_ms,
                    key: key.name,
                    payload: key.payload,
                })
                .collect();
            let outcomes = if choice.by_type {
                vec![Outcome::Newer; records.len()]
            } else {
                restorer.try_write(&records).await?
            };
            for (record, outcome) in records.iter().zip(outcomes) {
                match outcome {
                    Outcome::Written | Outcome::Skipped => {}
                    Outcome::Newer => live.recreated += recreate(source, record, restorer).await?,
                    Outcome::Refused(reason) => {
                        return Err(TransferError::Key {
                            key: String::from_utf8_lossy(&record.key).into_owned(),
                            database: choice.database,
                            reason,
                        });
                    }
                }
            }
            progress(live);
            paces.done(count, bytes).await;
        }
        live.fraction = walk.fraction();
        progress(live);
    }
    Ok(live)
}
