//! A store into a file.

use std::io::Write;

use super::fetch::{Expiry, batches, fetch};
use super::{Paces, TransferError};
use crate::dump::{CHUNK_BYTES, Chunk, Header, Record, Writer, rdb_version};
use crate::environment::ServerFacts;
use crate::keyspace::{Connection, Walk, database_and_key, has_slots, info_field, pattern};
use crate::registry::now_seconds;
use crate::store::{Prefix, Slug};

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exported {
    /// Keys in the file.
    pub keys: u64,
    /// Bytes of their values, of this call.
    pub bytes: u64,
    /// The part of the walk that is done, from 0 to 1.
    pub fraction: f64,
}

/// Where an export begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the beginning, or where an interrupted one was.
    Cursor(u64),
    /// The walk was over; only the end of the file was missing.
    Over,
}

/// What a new file says of itself.
///
/// # Errors
/// When the server refuses.
pub async fn header<C: Connection>(
    connection: &mut C,
    facts: &ServerFacts,
    environment: &str,
    store: &Slug,
    prefix: &Prefix,
) -> Result<Header, TransferError> {
    let run_id = info_field(connection, "server", "run_id").await?;
    // Any key of the server's tells the version of its encoding; this one is always there.
    let sample: Option<Vec<u8>> = redis::cmd("DUMP")
        .arg("flect:{registry}:meta")
        .query_async(connection)
        .await?;
    Ok(Header {
        store: store.clone(),
        prefix: prefix.clone(),
        environment: environment.to_owned(),
        created_at: now_seconds(),
        server: format!("{} {}", facts.server, facts.version),
        rdb_version: sample.as_deref().and_then(rdb_version),
        run_id: run_id.unwrap_or_default(),
    })
}

/// Writes every key of the store, and the end of the file.
///
/// # Errors
/// When the server refuses or the file cannot be written; what is in the file is whole chunks.
pub async fn export<C: Connection, W: Write>(
    connection: &mut C,
    prefix: &Prefix,
    place: Place,
    mut writer: Writer<W>,
    paces: &mut Paces,
    mut progress: impl FnMut(Exported),
) -> Result<W, TransferError> {
    let Place::Cursor(cursor) = place else {
        return Ok(writer.end()?);
    };
    let slots = has_slots(connection).await?;
    let expiry = Expiry::of_server(connection).await?;
    let mut walk = Walk::from(cursor, pattern(prefix), slots);
    let mut chunk = Chunk::default();
    let mut chunk_bytes = 0;
    let mut exported = Exported::default();
    loop {
        // Until the page is done, an interrupted export must repeat it.
        let before = walk.cursor();
        let Some(page) = walk.next(connection).await? else {
            break;
        };
        for batch in batches(connection, page.names).await? {
            let fetched = fetch(connection, batch, expiry).await?;
            let (mut keys, mut bytes) = (0, 0);
            for key in fetched {
                let Some((database, name)) = database_and_key(prefix, &key.name) else {
                    continue;
                };
                keys += 1;
                bytes += key.payload.len() as u64;
                let record = Record {
                    database,
                    expires_at_ms: key.expires_at_ms,
                    key: name.to_vec(),
                    payload: key.payload,
                };
                chunk_bytes += record.bytes();
                chunk.records.push(record);
            }
            if chunk_bytes >= CHUNK_BYTES {
                chunk.cursor = before;
                writer.chunk(&chunk)?;
                chunk.records.clear();
                chunk_bytes = 0;
            }
            exported.bytes += bytes;
            exported.keys = writer.records() + chunk.records.len() as u64;
            progress(exported);
            paces.done(keys, bytes).await;
        }
        exported.fraction = walk.fraction();
        progress(exported);
    }
    chunk.cursor = 0;
    chunk.last = true;
    writer.chunk(&chunk)?;
    Ok(writer.end()?)
}
