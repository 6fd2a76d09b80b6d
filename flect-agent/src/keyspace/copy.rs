//! Copying all keys of a store into another one, inside the server.
//!
//! Not one instant: a key is copied as it is when the walk comes to it. What is there unchanged from
//! beginning to end is copied; what is written meanwhile is copied as it was before or after.

use redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{BATCH_COMMANDS_MAX, Connection, Pace, Walk, database_and_key, info_field, pattern};
use crate::store::Prefix;

/// How far copies are, by the prefix that is being filled: JSON of [`Place`]. Beside the registry's
/// own keys, where no store can reach it.
pub const PROGRESS: &str = "flect:{registry}:progress";

/// How often the place is written down, in pages of the walk: little to repeat, little to write.
const PAGES_BETWEEN_NOTES: u32 = 16;

/// Where a copy can go on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Place {
    /// The store that is copied.
    pub from: Prefix,
    /// The server's process: cursors mean nothing to another one.
    pub run_id: String,
    /// Where the walk goes on.
    pub cursor: u64,
    /// Keys copied so far.
    pub keys: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Copied {
    /// Keys copied, by earlier calls as well.
    pub keys: u64,
    /// The part of the walk that is done, from 0 to 1.
    pub fraction: f64,
    /// It went on where an earlier call was interrupted.
    pub resumed: bool,
}

/// Copies every key with its expiry, replacing what is there.
///
/// # Errors
/// When the server refuses; calling it again goes on.
pub async fn copy<C: Connection>(
    connection: &mut C,
    from: &Prefix,
    to: &Prefix,
    pace: &mut Pace,
    mut progress: impl FnMut(Copied),
) -> redis::RedisResult<Copied> {
    let run_id = info_field(connection, "server", "run_id")
        .await?
        .unwrap_or_default();
    let slots = super::has_slots(connection).await?;
    let place = place(connection, to).await?;
    let place = place.filter(|place| place.from == *from && place.run_id == run_id);
    let mut copied = Copied {
        keys: place.as_ref().map_or(0, |place| place.keys),
        fraction: 0.0,
        resumed: place.is_some(),
    };
    let cursor = place.map_or(0, |place| place.cursor);
    let mut walk = Walk::from(cursor, pattern(from), slots);
    let mut pages = 0_u32;
    while let Some(page) = walk.next(connection).await? {
        let own: Vec<_> = page
            .names
            .iter()
            .filter_map(|name| Some((name, database_and_key(from, name)?)))
            .collect();
        for batch in own.chunks(BATCH_COMMANDS_MAX) {
            let mut pipe = redis::pipe();
            for (name, (database, key)) in batch {
                let new = [to.namespace(*database).keys(), key].concat();
                pipe.cmd("COPY").arg(*name).arg(new).arg("REPLACE");
            }
            let done: Vec<u64> = pipe.query_async(connection).await?;
            copied.keys += done.iter().sum::<u64>();
            copied.fraction = walk.fraction();
            progress(copied);
            pace.done(batch.len() as u64).await;
        }
        pages += 1;
        if pages.is_multiple_of(PAGES_BETWEEN_NOTES) && walk.cursor() != 0 {
            let place = Place {
                from: from.clone(),
                run_id: run_id.clone(),
                cursor: walk.cursor(),
                keys: copied.keys,
            };
            let text = serde_json::to_string(&place).expect("strings and numbers are JSON");
            let () = connection.hset(PROGRESS, to.as_str(), text).await?;
        }
        copied.fraction = walk.fraction();
        progress(copied);
    }
    forget(connection, to).await?;
    Ok(copied)
}

/// Where an interrupted copy into a store was.
///
/// # Errors
/// When the server refuses.
pub async fn place<C: Connection>(
    connection: &mut C,
    to: &Prefix,
) -> redis::RedisResult<Option<Place>> {
    let text: Option<String> = connection.hget(PROGRESS, to.as_str()).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Nothing of this store is to be gone on with.
///
/// # Errors
/// When the server refuses.
pub async fn forget<C: Connection>(connection: &mut C, to: &Prefix) -> redis::RedisResult<()> {
    connection.hdel(PROGRESS, to.as_str()).await
}
