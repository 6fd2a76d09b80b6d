//! Writing a value anew, type by type, where the encoding of a newer server cannot be restored.
//!
//! What is lost: expiries of single hash fields, and which entries of a stream its consumers have
//! taken and not acknowledged.

use redis::Value;

use super::TransferError;
use super::restore::{Conflict, Restorer};
use crate::dump::Record;
use crate::keyspace::Connection;

/// Elements that are read and written at once.
const PAGE: usize = 500;

/// Reads a key from the other server and writes it into the store; how many keys were written.
pub(super) async fn recreate<S: Connection, C: Connection>(
    source: &mut S,
    record: &Record,
    restorer: &mut Restorer<C>,
) -> Result<u64, TransferError> {
    let (store, prefix, conflict, restored) = restorer.parts();
    let target = [prefix.namespace(record.database).keys(), &record.key].concat();
    if conflict == Conflict::Skip {
        let exists: bool = redis::cmd("EXISTS").arg(&target).query_async(store).await?;
        if exists {
            restored.skipped += 1;
            return Ok(0);
        }
    }
    let kind: String = redis::cmd("TYPE")
        .arg(&record.key)
        .query_async(source)
        .await?;
    let () = redis::cmd("UNLINK").arg(&target).query_async(store).await?;
    let key = record.key.as_slice();
    match kind.as_str() {
        // Gone by now.
        "none" => return Ok(0),
        "string" => {
            let value: Vec<u8> = redis::cmd("GET").arg(key).query_async(source).await?;
            let () = redis::cmd("SET")
                .arg(&target)
                .arg(value)
                .query_async(store)
                .await?;
        }
        "list" => list(source, key, store, &target).await?,
        "set" => scanned(source, key, store, &target, "SSCAN", "SADD").await?,
        "hash" => scanned(source, key, store, &target, "HSCAN", "HSET").await?,
        "zset" => scanned(source, key, store, &target, "ZSCAN", "ZADD").await?,
        "stream" => stream(source, key, store, &target).await?,
        other => {
            return Err(TransferError::Key {
                key: String::from_utf8_lossy(key).into_owned(),
                database: record.database,
                reason: format!("values of type {other} cannot be copied"),
            });
        }
    }
    if record.expires_at_ms > 0 {
        let () = redis::cmd("PEXPIREAT")
            .arg(&target)
            .arg(record.expires_at_ms)
            .query_async(store)
            .await?;
    }
    restored.keys += 1;
    restored.bytes += record.payload.len() as u64;
    Ok(1)
}

async fn list<S: Connection, C: Connection>(
    source: &mut S,
    key: &[u8],
    store: &mut C,
    target: &[u8],
) -> redis::RedisResult<()> {
    let mut start = 0;
    loop {
        let page: Vec<Vec<u8>> = redis::cmd("LRANGE")
            .arg(key)
            .arg(start)
            .arg(start + PAGE - 1)
            .query_async(source)
            .await?;
        if page.is_empty() {
            return Ok(());
        }
        start += page.len();
        let () = redis::cmd("RPUSH")
            .arg(target)
            .arg(page)
            .query_async(store)
            .await?;
    }
}

/// Sets, hashes and sorted sets: written elements replace themselves, so seeing one twice is well.
async fn scanned<S: Connection, C: Connection>(
    source: &mut S,
    key: &[u8],
    store: &mut C,
    target: &[u8],
    scan: &str,
    add: &str,
) -> redis::RedisResult<()> {
    let mut cursor = 0_u64;
    loop {
        let (next, mut page): (u64, Vec<Vec<u8>>) = redis::cmd(scan)
            .arg(key)
            .arg(cursor)
            .arg("COUNT")
            .arg(PAGE)
            .query_async(source)
            .await?;
        if add == "ZADD" {
            // ZSCAN tells the member first, ZADD wants the score first.
            for pair in page.chunks_exact_mut(2) {
                pair.swap(0, 1);
            }
        }
        if !page.is_empty() {
            let () = redis::cmd(add)
                .arg(target)
                .arg(page)
                .query_async(store)
                .await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn stream<S: Connection, C: Connection>(
    source: &mut S,
    key: &[u8],
    store: &mut C,
    target: &[u8],
) -> redis::RedisResult<()> {
    let info: Vec<Value> = redis::cmd("XINFO")
        .arg("STREAM")
        .arg(key)
        .query_async(source)
        .await?;
    let mut from = "-".to_owned();
    let mut empty = true;
    loop {
        let page: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XRANGE")
            .arg(key)
            .arg(&from)
            .arg("+")
            .arg("COUNT")
            .arg(PAGE)
            .query_async(source)
            .await?;
        let Some((last, _)) = page.last() else { break };
        from = format!("({last}");
        empty = false;
        let mut pipe = redis::pipe();
        for (id, fields) in page {
            pipe.cmd("XADD").arg(target).arg(id).arg(fields);
        }
        let () = pipe.query_async(store).await?;
    }
    if empty {
        // A stream without entries is made with one that goes again.
        let mut pipe = redis::pipe();
        pipe.cmd("XADD").arg(target).arg("0-1").arg(&["a", "b"]);
        pipe.cmd("XDEL").arg(target).arg("0-1");
        let () = pipe.query_async(store).await?;
    }
    let mut set_id = redis::cmd("XSETID");
    set_id.arg(target).arg(field(&info, "last-generated-id"));
    if let (Some(added), Some(deleted)) = (
        number(&info, "entries-added"),
        Some(field(&info, "max-deleted-entry-id")).filter(|id| !id.is_empty()),
    ) {
        set_id
            .arg("ENTRIESADDED")
            .arg(added)
            .arg("MAXDELETEDID")
            .arg(deleted);
    }
    let () = set_id.query_async(store).await?;
    let groups: Vec<Vec<Value>> = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(key)
        .query_async(source)
        .await?;
    for group in groups {
        let mut create = redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(target)
            .arg(field(&group, "name"))
            .arg(field(&group, "last-delivered-id"));
        if let Some(read) = number(&group, "entries-read") {
            create.arg("ENTRIESREAD").arg(read);
        }
        let () = create.query_async(store).await?;
    }
    Ok(())
}

/// A text of XINFO; empty when there is none.
fn field(info: &[Value], name: &str) -> Vec<u8> {
    match find(info, name) {
        Some(Value::BulkString(bytes)) => bytes.clone(),
        Some(Value::SimpleString(text)) => text.clone().into_bytes(),
        _ => Vec::new(),
    }
}

fn number(info: &[Value], name: &str) -> Option<i64> {
    match find(info, name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

/// Names and values take turns.
fn find<'v>(info: &'v [Value], name: &str) -> Option<&'v Value> {
    let mut pairs = info.chunks_exact(2);
    let pair = pairs.find(|pair| match &pair[0] {
        Value::BulkString(bytes) => bytes == name.as_bytes(),
        Value::SimpleString(text) => text == name,
        _ => false,
    })?;
    Some(&pair[1])
}
