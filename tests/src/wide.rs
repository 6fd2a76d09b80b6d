//! Commands about all keys of a store, wherever a private Valkey takes them: alone, inside MULTI, inside
//! scripts; each conversation is held with a private Valkey as well, and strangers' keys are around.

mod flush;
mod names;

use anyhow::Result;
use libtest_mimic::Trial;

use crate::pair::{self, Body, Pair};
use crate::scenario;

/// What is tried.
pub const BODIES: &[(&str, Body)] = &[
    ("in_transactions", in_transactions),
    ("in_scripts", in_scripts),
    ("in_functions", in_functions),
    ("swapped", swapped),
    ("cursors_and_lengths", cursors),
    ("patterns", names::patterns),
    ("scanned", names::scanned),
    ("random", names::random),
    ("flushed_whole", flush::whole),
    ("flushed_at_once", flush::at_once),
    ("flushed_by_one_who_goes", flush::gone),
    ("nothing_is_left_behind", flush::nothing_is_left_behind),
    ("nobody_is_told_of_them", flush::nobody_is_told_of_them),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials("wide", BODIES)
}

fn in_transactions(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/transactions.txt"))
}

fn in_scripts(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/scripts.txt"))
}

fn in_functions(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/functions.txt"))
}

fn cursors(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/cursors.txt"))
}

fn swapped(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/swapped.txt"))
}
