//! A store's keys on the server, for the operator's commands: walking, deleting and copying them.
//!
//! Invariants: work is done in batches that each take the server well under a few milliseconds, so
//! that other stores' requests get in between; a key is touched only after its name was found to
//! begin with the store's own prefix and a separator, so no other store's key can be among them.

pub mod copy;
pub mod erase;
mod names;
mod pace;
mod walk;

pub use names::{database_and_key, pattern, position};
pub use pace::Pace;
pub use walk::{Page, Walk};

use redis::aio::ConnectionLike;

use crate::admin;

/// What the operator's work on keys runs on: `Admin::connection()`, or any other connection.
pub trait Connection: ConnectionLike + Clone + Send + Sync {}

impl<C: ConnectionLike + Clone + Send + Sync> Connection for C {}

/// Commands in one pipeline at most: with small keys a fraction of a millisecond of the server's
/// time, and enough to hide the network's.
pub const BATCH_COMMANDS_MAX: usize = 256;

/// One field of INFO.
///
/// # Errors
/// When the server refuses.
pub async fn info_field<C: Connection>(
    connection: &mut C,
    section: &str,
    name: &str,
) -> redis::RedisResult<Option<String>> {
    let info: String = redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await?;
    Ok(admin::info_field(&info, name).map(str::to_owned))
}

/// Whether the server divides its keys into the slots of a cluster: then a walk over one store's
/// names looks at that store's slot alone.
///
/// # Errors
/// When the server refuses.
pub async fn has_slots<C: Connection>(connection: &mut C) -> redis::RedisResult<bool> {
    let enabled = info_field(connection, "cluster", "cluster_enabled").await?;
    Ok(enabled.as_deref() == Some("1"))
}
