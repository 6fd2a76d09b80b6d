//! The form of the generated half of the table.
//!
//! Invariant: one short function for each thing that a line of the table says, so that a line stays a
//! line.

use super::keyspec::{Begin, Find, KeySpec};
use super::{Flags, KeyFlags, Version};

/// A command as servers describe it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) arity: i16,
    pub(super) flags: Flags,
    pub(super) keys: &'static [KeySpec],
    pub(super) since: Version,
}

pub(super) const fn entry(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    major: u8,
    minor: u8,
) -> Entry {
    Entry {
        name,
        arity,
        flags,
        keys,
        since: Version { major, minor },
    }
}

pub(super) const fn spec(flags: KeyFlags, begin: Begin, find: Find) -> KeySpec {
    KeySpec { flags, begin, find }
}

pub(super) const fn index(at: u16) -> Begin {
    Begin::Index(at)
}

pub(super) const fn keyword(word: &'static str, from: i16) -> Begin {
    Begin::Keyword { word, from }
}

pub(super) const fn range(last: i16, step: u8, limit: u8) -> Find {
    Find::Range { last, step, limit }
}

pub(super) const fn keynum(at: u8, first: u8, step: u8) -> Find {
    Find::Keynum { at, first, step }
}
