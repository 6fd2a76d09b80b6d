//! Deleting all keys of a removed store.
//!
//! Invariant: it ends only after a whole walk has found nothing: a session that was open when the
//! store was removed may have written behind the first walk.

use super::{BATCH_COMMANDS_MAX, Connection, Pace, Walk, database_and_key, pattern};
use crate::store::Prefix;

/// How far a deletion is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Erased {
    /// Keys deleted by this call.
    pub keys: u64,
    /// Walks begun.
    pub walks: u32,
    /// The part of the current walk that is done, from 0 to 1.
    pub fraction: f64,
}

/// Deletes every key of the prefix with UNLINK, so that large values are freed by the server's
/// background thread.
///
/// # Errors
/// When the server refuses; calling it again goes on.
pub async fn erase<C: Connection>(
    connection: &mut C,
    prefix: &Prefix,
    pace: &mut Pace,
    mut progress: impl FnMut(Erased),
) -> redis::RedisResult<Erased> {
    let slots = super::has_slots(connection).await?;
    let mut erased = Erased::default();
    loop {
        let mut found = false;
        let mut walk = Walk::new(pattern(prefix), slots);
        erased.walks += 1;
        while let Some(page) = walk.next(connection).await? {
            let own: Vec<_> = page
                .names
                .iter()
                .filter(|name| belongs(prefix, name))
                .collect();
            found |= !own.is_empty();
            for batch in own.chunks(BATCH_COMMANDS_MAX) {
                let deleted: u64 = redis::cmd("UNLINK")
                    .arg(batch)
                    .query_async(connection)
                    .await?;
                erased.keys += deleted;
                erased.fraction = walk.fraction();
                progress(erased);
                pace.done(batch.len() as u64).await;
            }
            erased.fraction = walk.fraction();
            progress(erased);
        }
        if !found {
            return Ok(erased);
        }
    }
}

/// Names that no app can have made (`{id}/x`) go as well: nothing else owns them.
fn belongs(prefix: &Prefix, name: &[u8]) -> bool {
    database_and_key(prefix, name).is_some()
        || name
            .strip_prefix(prefix.as_str().as_bytes())
            .is_some_and(|rest| rest.starts_with(b"/"))
}
