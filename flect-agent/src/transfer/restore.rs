//! Writing keys into a store with `RESTORE`, as the store's own user.

use super::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, TransferError};
use crate::dump::Record;
use crate::keyspace::{Connection, Walk, database_and_key, has_slots, pattern};
use crate::store::Prefix;

/// What happens to a key that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It stays as it is.
    Skip,
    /// It is replaced.
    Replace,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Keys written.
    pub keys: u64,
    /// Keys left as they were.
    pub skipped: u64,
    /// Bytes of values.
    pub bytes: u64,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    Skipped,
    /// The value's encoding is of a newer server.
    Newer,
    Refused(String),
}

/// Writes records into a store.
pub struct Restorer<C> {
    connection: C,
    prefix: Prefix,
    conflict: Conflict,
    restored: Restored,
}

/// Whether a store holds no key at all.
///
/// # Errors
/// When the server refuses.
pub async fn is_empty<C: Connection>(
    connection: &mut C,
    prefix: &Prefix,
) -> redis::RedisResult<bool> {
    let slots = has_slots(connection).await?;
    let mut walk = Walk::new(pattern(prefix), slots);
    while let Some(page) = walk.next(connection).await? {
        let mut names = page.names.iter();
        if names.any(|name| database_and_key(prefix, name).is_some()) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<C: Connection> Restorer<C> {
    /// Into the store whose user `connection` is.
    #[must_use]
    pub fn new(connection: C, prefix: Prefix, conflict: Conflict) -> Self {
        Self {
            connection,
            prefix,
            conflict,
            restored: Restored::default(),
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn restored(&self) -> Restored {
        self.restored
    }

    /// Writes records; a record that is written twice is there once.
    ///
    /// # Errors
    /// When the server refuses one; those before it are written.
    pub async fn write(&mut self, records: &[Record]) -> Result<(), TransferError> {
        let outcomes = self.try_write(records).await?;
        for (record, outcome) in records.iter().zip(outcomes) {
            let reason = match outcome {
                Outcome::Written | Outcome::Skipped => continue,
                Outcome::Newer => {
                    "its value was written by a newer server than this one, or is damaged; import it where the server is at least as new".to_owned()
                }
                Outcome::Refused(reason) => reason,
            };
            return Err(TransferError::Key {
                key: String::from_utf8_lossy(&record.key).into_owned(),
                database: record.database,
                reason,
            });
        }
        Ok(())
    }

    /// Writes records and tells of each what became of it.
    pub(super) async fn try_write(
        &mut self,
        records: &[Record],
    ) -> Result<Vec<Outcome>, TransferError> {
        let mut outcomes = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(BATCH_KEYS_MAX).take_while(|record| {
                bytes += record.payload.len() as u64;
                bytes <= BATCH_BYTES_MAX
            });
            let (batch, others) = rest.split_at(fits.count().max(1));
            rest = others;
            let mut pipe = redis::pipe();
            // Of each key it is told by itself what became of it.
            pipe.ignore_errors();
            for record in batch {
                let name = [self.prefix.namespace(record.database).keys(), &record.key].concat();
                pipe.cmd("RESTORE")
                    .arg(name)
                    .arg(record.expires_at_ms)
                    .arg(&record.payload)
                    .arg("ABSTTL");
                if self.conflict == Conflict::Replace {
                    pipe.arg("REPLACE");
                }
            }
            let results: Vec<redis::RedisResult<redis::Value>> =
                pipe.query_async(&mut self.connection).await?;
            for (record, result) in batch.iter().zip(results) {
                let outcome = outcome(result)?;
                match outcome {
                    Outcome::Written => {
                        self.restored.keys += 1;
                        self.restored.bytes += record.payload.len() as u64;
                    }
                    Outcome::Skipped => self.restored.skipped += 1,
                    Outcome::Newer | Outcome::Refused(_) => {}
                }
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    pub(super) fn parts(&mut self) -> (&mut C, &Prefix, Conflict, &mut Restored) {
        (
            &mut self.connection,
            &self.prefix,
            self.conflict,
            &mut self.restored,
        )
    }
}

/// Errors that are no answer of the server's are no outcome of a key.
fn outcome(result: redis::RedisResult<redis::Value>) -> Result<Outcome, redis::RedisError> {
    let error = match result {
        Ok(_) => return Ok(Outcome::Written),
        Err(error) => error,
    };
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("BUSYKEY") => Ok(Outcome::Skipped),
        Some("ERR") if detail.contains("DUMP payload version or checksum") => Ok(Outcome::Newer),
        Some(code) => Ok(Outcome::Refused(format!("{code} {detail}"))),
        None => Err(error),
    }
}
