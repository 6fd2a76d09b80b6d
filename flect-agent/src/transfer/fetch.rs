//! Reading keys with `DUMP`, in batches that are bounded in keys and bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{BATCH_BYTES_MAX, BATCH_KEYS_MAX};
use crate::keyspace::{BATCH_COMMANDS_MAX, Connection};

/// A key as the server has it.
pub(super) struct Fetched {
    /// Its name on the server.
    pub(super) name: Vec<u8>,
    /// Milliseconds since 1970; 0 when it does not expire.
    pub(super) expires_at_ms: u64,
    /// What `DUMP` gave.
    pub(super) payload: Vec<u8>,
}

/// How a server tells when keys expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// `PEXPIRETIME`, since version 7.
    Time,
    /// `PTTL` and this machine's clock.
    Remaining,
}

impl Expiry {
    /// Asks the server what it knows.
    pub(super) async fn of_server<C: Connection>(connection: &mut C) -> redis::RedisResult<Self> {
        let known: Vec<redis::Value> = redis::cmd("COMMAND")
            .arg("INFO")
            .arg("PEXPIRETIME")
            .query_async(connection)
            .await?;
        Ok(match known.first() {
            None | Some(redis::Value::Nil) => Self::Remaining,
            Some(_) => Self::Time,
        })
    }

    fn command(self) -> &'static str {
        match self {
            Self::Time => "PEXPIRETIME",
            Self::Remaining => "PTTL",
        }
    }

    /// Milliseconds since 1970; negative replies are those of keys that do not expire.
    fn at(self, reply: i64) -> u64 {
        let reply = u64::try_from(reply).unwrap_or(0);
        match self {
            Self::Remaining if reply > 0 => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                // Milliseconds fit for millions of years.
                now.map_or(0, |now| now.as_millis() as u64) + reply
            }
            _ => reply,
        }
    }
}

/// Divides names into batches by what they will take.
pub(super) async fn batches<C: Connection>(
    connection: &mut C,
    names: Vec<Vec<u8>>,
) -> redis::RedisResult<Vec<Vec<Vec<u8>>>> {
    let mut sizes = Vec::with_capacity(names.len());
    for part in names.chunks(BATCH_COMMANDS_MAX) {
        let mut pipe = redis::pipe();
        for name in part {
            pipe.cmd("MEMORY").arg("USAGE").arg(name);
        }
        let part: Vec<Option<u64>> = pipe.query_async(connection).await?;
        sizes.extend(part);
    }
    Ok(divide(names, &sizes))
}

fn divide(names: Vec<Vec<u8>>, sizes: &[Option<u64>]) -> Vec<Vec<Vec<u8>>> {
    let mut all: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = u64::MAX;
    for (name, size) in names.into_iter().zip(sizes) {
        // A key that is gone by now.
        let Some(size) = size else { continue };
        let full = all.last().is_none_or(|batch| batch.len() >= BATCH_KEYS_MAX);
        bytes = bytes.saturating_add(*size);
        if full || bytes > BATCH_BYTES_MAX {
            all.push(Vec::new());
            bytes = *size;
        }
        if let Some(batch) = all.last_mut() {
            batch.push(name);
        }
    }
    all
}

/// Reads one batch. Each value and its expiry are of the same instant.
pub(super) async fn fetch<C: Connection>(
    connection: &mut C,
    batch: Vec<Vec<u8>>,
    expiry: Expiry,
) -> redis::RedisResult<Vec<Fetched>> {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for name in &batch {
        pipe.cmd(expiry.command()).arg(name);
        pipe.cmd("DUMP").arg(name);
    }
    let replies: Vec<redis::Value> = pipe.query_async(connection).await?;
    let mut all = Vec::with_capacity(batch.len());
    let mut replies = replies.into_iter();
    for name in batch {
        let (Some(expires), Some(payload)) = (replies.next(), replies.next()) else {
            break;
        };
        // Not there any more.
        let redis::Value::BulkString(payload) = payload else {
            continue;
        };
        all.push(Fetched {
            name,
            expires_at_ms: expiry.at(redis::from_redis_value(expires)?),
            payload,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded() {
        let names = |count: usize| (0..count).map(|n| vec![n as u8]).collect::<Vec<_>>();
        let counts = |sizes: &[Option<u64>]| -> Vec<usize> {
            divide(names(sizes.len()), sizes)
                .iter()
                .map(Vec::len)
                .collect()
        };
        assert_eq!(counts(&[Some(10); 200]), [128, 72]);
        assert_eq!(
            counts(&[Some(1), None, Some(BATCH_BYTES_MAX * 9), Some(1)]),
            [1, 1, 1]
        );
        assert!(counts(&[None]).is_empty());
    }
}
