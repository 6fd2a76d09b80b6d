//! Commands of all types on a store and on a private Valkey, each reply compared byte for byte, in
//! RESP2 and RESP3.
//!
//! What is left out differs for a reason, said where it would stand.

use anyhow::Result;
use libtest_mimic::Trial;

use crate::pair::{self, Body, Pair};
use crate::scenario;

/// What is tried.
pub const BODIES: &[(&str, Body)] = &[
    ("strings_and_keys", strings_and_keys),
    ("collections", collections),
    ("streams_and_more", streams_and_more),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials("equality", BODIES)
}

fn strings_and_keys(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("equality/strings.txt"))?;
    scenario::check(pair, include_str!("equality/keys.txt"))
}

fn collections(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("equality/collections.txt"))
}

fn streams_and_more(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("equality/streams.txt"))?;
    scenario::check(pair, include_str!("equality/errors.txt"))?;
    scenario::check(pair, include_str!("equality/newer.txt"))
}
