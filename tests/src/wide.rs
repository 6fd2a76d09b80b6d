//! Commands about all keys of a store, wherever a private Valkey takes them: alone, inside MULTI, inside
//! scripts; each conversation is held with a private Valkey as well, and strangers' keys are around.

use anyhow::Result;
use libtest_mimic::Trial;

use crate::pair::{self, Pair};
use crate::scenario;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials(
        "wide",
        &[
            ("in_transactions", in_transactions),
            ("in_scripts", in_scripts),
            ("swapped", swapped),
        ],
    )
}

fn in_transactions(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/transactions.txt"))
}

fn in_scripts(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/scripts.txt"))
}

fn swapped(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("wide/swapped.txt"))
}
