//! Moving data: a store into a file, a file into a store, another server's database into a store.
//!
//! Invariants: values of files and other servers are restored as the store's own ACL user, whose
//! payloads the server checks (`sanitize-payload`) and who can name no other store's key. Memory is
//! bounded by a batch, or by the largest single value, which `DUMP` and `RESTORE` take whole.

mod connect;
mod export;
mod fetch;
mod functions;
mod live;
mod recreate;
mod restore;

use crate::dump::DumpError;

pub use connect::{Source, connect_as, connect_to};
pub use export::{Exported, Place, export, header};
pub use functions::copy_functions;
pub use live::{Choice, Live, copy_live};
pub use restore::{Conflict, Restored, Restorer, is_empty};

/// Bytes of values in one batch, about: a few milliseconds of the server's time.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Keys in one batch.
const BATCH_KEYS_MAX: usize = 128;

/// Why data could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A server cannot be reached or refuses.
    #[error("{0}")]
    Server(#[from] redis::RedisError),
    /// What the configuration names cannot be used.
    #[error(transparent)]
    Reach(#[from] crate::reach::ReachError),
    /// The file.
    #[error("{0}")]
    File(#[from] DumpError),
    /// One key cannot be written.
    #[error("key {key} in database {database}: {reason}")]
    Key {
        /// The app's name for it, bytes that are no text replaced.
        key: String,
        /// Its database.
        database: u32,
        /// What the server said.
        reason: String,
    },
    /// The address of another server is not understood.
    #[error("{0}")]
    Address(String),
}

/// What limits the speed of moving.
#[derive(Debug)]
pub struct Paces {
    /// Keys per second.
    pub keys: crate::keyspace::Pace,
    /// Bytes of values per second.
    pub bytes: crate::keyspace::Pace,
}

impl Paces {
    /// No more than so many keys or bytes per second.
    #[must_use]
    pub fn new(keys: Option<u64>, bytes: Option<u64>) -> Self {
        Self {
            keys: crate::keyspace::Pace::new(keys),
            bytes: crate::keyspace::Pace::new(bytes),
        }
    }

    async fn done(&mut self, keys: u64, bytes: u64) {
        self.keys.done(keys).await;
        self.bytes.done(bytes).await;
    }
}
