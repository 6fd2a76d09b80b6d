//! Stores by their names: slug, prefix, and the namespace that a session's keys live in.
//!
//! Invariant: two different (prefix, database, key) triples never give the same stored name. A
//! prefix is an id in braces, so no prefix is the beginning of another; the byte after the closing
//! brace tells database 0 (`:`) from the others (`/`), and a database number ends at its `:`.

mod slot;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use slot::{SLOTS, Slot};

/// A store's name as people write it: `my-cache`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(Box<str>);

/// The text is no store name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no store name: expected 1 to {SLUG_BYTES_MAX} of a-z, 0-9 and '-', beginning with a letter or digit"
)]
pub struct InvalidSlug(String);

/// As long as a DNS label, so that a slug can become one.
pub const SLUG_BYTES_MAX: usize = 63;

impl Slug {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        let valid = (1..=SLUG_BYTES_MAX).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSlug(text))
        }
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0.into()
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store's id as it stands in every stored key: a short id in braces, such as `{k7m2x}`.
///
/// In braces it is a hash tag, so that a Valkey Cluster keeps a store on one shard; it holds no
/// glob character, so it may stand in front of a pattern as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(Box<str>);

/// The text is no prefix: it must be `{`, 1 to 16 of `a-z0-9`, `}`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no prefix: expected 1 to {PREFIX_ID_BYTES_MAX} of a-z and 0-9 in braces, such as {{k7m2x}}"
)]
pub struct InvalidPrefix(String);

/// The longest id inside the braces; longer ones would only cost memory in every key.
pub const PREFIX_ID_BYTES_MAX: usize = 16;

impl Prefix {
    /// Reads a prefix with its braces.
    ///
    /// # Errors
    /// When the text is not an id of 1 to 16 lower-case letters and digits in braces.
    pub fn parse(text: &str) -> Result<Self, InvalidPrefix> {
        let id = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| InvalidPrefix(text.to_owned()))?;
        let valid = (1..=PREFIX_ID_BYTES_MAX).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPrefix(text.to_owned()))
        }
    }

    /// The prefix of no store: its id is too long to be read or made.
    #[must_use]
    pub fn nobody() -> Self {
        Self("{nobody-is-a-store}".into())
    }

    /// The prefix with its braces, without the separator.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of one of the store's databases.
    #[must_use]
    pub fn namespace(&self, database: u32) -> Namespace {
        let keys = if database == 0 {
            format!("{}:", self.0)
        } else {
            format!("{}/{database}:", self.0)
        };
        Namespace {
            keys: keys.into_bytes().into(),
            channels: format!("{}:", self.0).into_bytes().into(),
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = InvalidPrefix;

    fn try_from(text: String) -> Result<Self, InvalidPrefix> {
        Self::parse(&text)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0.into()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the names begin with, behind the prefix, that the agent itself keeps with a store: database 0 has
/// no number in its names, so no key of an app is called so.
pub const HIDDEN: &[u8] = b"/0:";

/// What goes in front of a session's names: keys by database, channels for the whole store (Valkey
/// does not divide channels by database either).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    keys: Box<[u8]>,
    channels: Box<[u8]>,
}

impl Namespace {
    /// The bytes before every key, separator included: `{k7m2x}:`, or `{k7m2x}/3:` in database 3.
    #[must_use]
    pub fn keys(&self) -> &[u8] {
        &self.keys
    }

    /// The bytes before every channel, separator included: `{k7m2x}:`.
    #[must_use]
    pub fn channels(&self) -> &[u8] {
        &self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_ids_in_braces() {
        for good in ["{a}", "{k7m2x}", "{0123456789abcdef}"] {
            assert_eq!(Prefix::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "{}",
            "a",
            "{A}",
            "{a*}",
            "{a}b",
            "{0123456789abcdefg}",
            "{a:b}",
        ] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn databases_cannot_be_taken_for_each_others_keys() {
        let prefix = Prefix::parse("{a}").unwrap();
        assert_eq!(prefix.namespace(0).keys(), b"{a}:");
        assert_eq!(prefix.namespace(3).keys(), b"{a}/3:");
        assert_eq!(prefix.namespace(3).channels(), b"{a}:");
    }
}
