//! The slots of a Valkey Cluster: which one a name is in.

use std::fmt;

use crc::{CRC_16_XMODEM, Crc, Table};

use super::Prefix;

/// How many slots a cluster has (`CLUSTER_SLOTS` in cluster.h).
pub const SLOTS: u16 = 16_384;

const CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_XMODEM);

/// One of a cluster's slots. What is in one slot is always on one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// A slot by its number; none where a cluster has no such slot.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// The slot of all names of a store.
    #[must_use]
    pub fn of_store(prefix: &Prefix) -> Self {
        Self::of_name(prefix.as_str().as_bytes())
    }

    /// The slot of a name: that of the first text in braces, where it has one that is not empty
    /// (`keyHashSlot` in cluster.c).
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let tag = memchr::memchr(b'{', name).and_then(|open| {
            let rest = &name[open + 1..];
            let close = memchr::memchr(b'}', rest)?;
            (close > 0).then(|| &rest[..close])
        });
        Self(CRC16.checksum(tag.unwrap_or(name)) % SLOTS)
    }

    /// Its number, below [`SLOTS`].
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are what CLUSTER KEYSLOT of Valkey 8.0.1 answers.
    #[test]
    fn slots_are_those_of_valkey() {
        for (name, slot) in [
            ("", 0),
            ("foo", 12182),
            ("123456789", 12739),
            ("{k7m2x}:user:1", 3509),
            ("a{k7m2x}{foo}", 3509),
            ("{}foo", 9500),
            ("foo{", 7673),
        ] {
            assert_eq!(Slot::of_name(name.as_bytes()).number(), slot, "{name}");
        }
        let prefix = Prefix::parse("{k7m2x}").unwrap();
        for name in ["{k7m2x}:a", "{k7m2x}/3:{b}", "{k7m2x}"] {
            assert_eq!(Slot::of_store(&prefix), Slot::of_name(name.as_bytes()));
        }
        assert!(Slot::new(SLOTS).is_none());
    }
}
