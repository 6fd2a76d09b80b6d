//! What the app developer touches: `flect run`, `dev`, `check`, `explain` and their like, as the real
//! programs, for root and for an ordinary user.

mod check;
mod dev;
mod dev_ends;
mod project;
mod run;
mod terminal;
mod words;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let all: [&[(&str, Body)]; 6] = [
        check::TRIALS,
        run::TRIALS,
        dev::TRIALS,
        dev_ends::TRIALS,
        terminal::TRIALS,
        words::TRIALS,
    ];
    all.into_iter()
        .flatten()
        .map(|(name, run)| {
            Trial::test(format!("cli::{name}"), move || {
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}
