//! What the registry says of one store.
//!
//! Fields that this release does not know are kept, so that an older command does not undo what a
//! newer one wrote.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::admin::{hex, random};
use crate::store::{Prefix, Slug};

/// One store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// What its keys begin with.
    pub prefix: Prefix,
    /// Seconds since 1970.
    pub created_at: u64,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// What its apps have set for it with CONFIG SET, where that is not Valkey's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Replicas may answer what only reads, though they may be behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replica_reads: bool,
    /// What the password of a connection must be, where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenDigest>,
    /// Somebody is filling it; no app may use it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filling: bool,
    /// What a newer release wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a store may use; nothing set is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Limits {
    /// Bytes of keys and values, as `MEMORY USAGE` counts them, sampled. Commands that need memory
    /// are refused past it, as Valkey does at `maxmemory` with `noeviction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Open connections on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Connections to Valkey that its clients have for themselves, on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstreams: Option<u32>,
    /// Requests and replies on their way that an agent holds for its clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<u64>,
    /// Commands per second on each node; beyond it they wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands_per_second: Option<u32>,
    /// What a newer release wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Limits {
    /// No limit at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The SHA-256 of a store's token, in hexadecimal. Tokens are 32 random bytes, so a fast digest is
/// enough: there is nothing to guess.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TokenDigest(String);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(hex(&Sha256::digest(token)))
    }

    /// Is this the token? Compares digests, so the time taken tells nothing of the token.
    #[must_use]
    pub fn matches(&self, token: &[u8]) -> bool {
        *self == Self::of(token)
    }
}

/// A store that is gone, while its keys are not all deleted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Removal {
    /// Its name at the end.
    pub slug: Slug,
    /// What its keys begin with.
    pub prefix: Prefix,
    /// Seconds since 1970.
    pub removed_at: u64,
}

/// A new token: 32 random bytes in hexadecimal, so that it needs no escaping in a URL.
#[must_use]
pub fn new_token() -> String {
    hex(&random::<32>())
}

impl Record {
    /// A new store with a new prefix.
    #[must_use]
    pub fn new(prefix: Prefix, limits: Limits) -> Self {
        Self {
            prefix,
            created_at: now_seconds(),
            limits,
            settings: BTreeMap::new(),
            replica_reads: false,
            token: None,
            filling: false,
            other: Map::new(),
        }
    }

    pub(super) fn from_text(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The same record always gives the same text: that is what compare-and-set compares.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

impl Removal {
    pub(super) fn of(slug: Slug, record: &Record) -> Self {
        Self {
            slug,
            prefix: record.prefix.clone(),
            removed_at: now_seconds(),
        }
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_release_wrote_survives() {
        let text = r#"{"prefix":"{abcde}","created_at":7,"limits":{"connections":3,"shards":2},"slot":99}"#;
        let record = Record::from_text(text).unwrap();
        assert_eq!(record.limits.connections, Some(3));
        assert_eq!(record.to_text(), text);
    }

    #[test]
    fn tokens_are_told_by_their_digests() {
        let digest = TokenDigest::of(b"secret");
        assert!(digest.matches(b"secret"));
        assert!(!digest.matches(b"Secret"));
        assert!(!format!("{digest:?}").contains("secret"));
    }
}
