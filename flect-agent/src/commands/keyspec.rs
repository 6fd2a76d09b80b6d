//! Key specs: how `COMMAND` says where a command's keys stand.
//!
//! Invariant: the model is the server's own (`begin_search` and `find_keys` of `COMMAND INFO`); what
//! a spec cannot say is in [`super::Names`].

use super::KeyFlags;

/// One group of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done with the keys.
    pub flags: KeyFlags,
    /// Where the group begins.
    pub begin: Begin,
    /// Which arguments from there on are keys.
    pub find: Find,
}

/// Where a group of keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument; the command's name is argument 0, also before a subcommand.
    Index(u16),
    /// After this word, looked for from an argument on (from the end when negative).
    Keyword {
        /// The word, in upper case.
        word: &'static str,
        /// The first argument that may be the word.
        from: i16,
    },
    /// The server cannot say.
    Unknown,
}

/// Which arguments after the beginning are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`-th one from the first to the last.
    Range {
        /// The last key: counted from the first when not negative, else from the end (-1 is the last argument).
        last: i16,
        /// The distance from key to key.
        step: u8,
        /// With a negative `last`: only the first 1/`limit` of the remaining arguments; 0 and 1 mean all.
        limit: u8,
    },
    /// An argument says how many there are.
    Keynum {
        /// That argument, counted from the beginning.
        at: u8,
        /// The first key, counted from the beginning.
        first: u8,
        /// The distance from key to key.
        step: u8,
    },
    /// The server cannot say.
    Unknown,
}
