//! The file that `flect kv export` writes: docs/export-format.md describes it for others.
//!
//! Invariants: whatever was cut off or changed anywhere in a file is noticed before the file counts
//! as whole; reading takes no more memory than the largest chunk that is really there.

mod reader;
mod writer;

use serde::{Deserialize, Serialize};

use crate::store::{Prefix, Slug};

pub use reader::{Part, Reader, Summary, verify};
pub use writer::Writer;

/// What a file begins with. Like PNG's: a byte that is no text, a name, and line ends that a
/// transfer as text would change.
pub const MAGIC: &[u8; 8] = b"\x89FKV\r\n\x1a\n";

/// The version of the layout that this release reads and writes.
pub const VERSION: u16 = 1;

/// The longest header: some names and numbers.
const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// A chunk is written when it holds so much: small enough to repeat little after an interruption,
/// large enough that its own 25 bytes are nothing. A larger value is a chunk of its own.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// Kinds of parts after the header: a chunk with more to come, the last one, the end.
const MORE: u8 = b'C';
const LAST: u8 = b'L';
const END: u8 = b'E';

/// Bytes of a chunk before its body: kind, cursor, records, length.
const CHUNK_HEAD_BYTES: usize = 1 + 8 + 4 + 8;

/// Bytes of a record before its key: database, expiry, lengths of key and payload.
const RECORD_HEAD_BYTES: usize = 4 + 8 + 4 + 8;

/// Bytes of the end without its checksum: kind, records, chunks, digest.
const END_BYTES: usize = 1 + 8 + 8 + 32;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// The store's name.
    pub store: Slug,
    /// What its keys began with on the server; they stand in the file without it.
    pub prefix: Prefix,
    /// The environment that it was in.
    pub environment: String,
    /// When the export began: seconds since 1970.
    pub created_at: u64,
    /// Such as `valkey 8.0.1`.
    pub server: String,
    /// The version of the values' encoding; servers read what is not newer than their own.
    pub rdb_version: Option<u16>,
    /// The server's process, so that an interrupted export goes on only where its cursor means
    /// something.
    pub run_id: String,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which of the store's databases.
    pub database: u32,
    /// Milliseconds since 1970; 0 when it does not expire.
    pub expires_at_ms: u64,
    /// The app's name for it.
    pub key: Vec<u8>,
    /// As `DUMP` gives it.
    pub payload: Vec<u8>,
}

/// Records, and where the walk stands behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Where SCAN goes on if this is the last chunk that was written.
    pub cursor: u64,
    /// The walk is over.
    pub last: bool,
    /// The keys.
    pub records: Vec<Record>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The system does not read or write.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Something else.
    #[error("this is no file of `flect kv export`")]
    Foreign,
    /// From the future.
    #[error("the file has version {0} of the format, this flect reads {VERSION}; upgrade flect")]
    Version(u16),
    /// It ends too early.
    #[error("the file is cut off {0}")]
    Cut(&'static str),
    /// Bytes were changed.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
}

/// The version of a payload's encoding: the two bytes before its checksum of eight.
#[must_use]
pub fn rdb_version(payload: &[u8]) -> Option<u16> {
    let at = payload.len().checked_sub(10)?;
    let bytes = payload.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
