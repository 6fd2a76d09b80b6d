//! `flect top` and the agent's status page.
//!
//! They run on the host only, since the image of `cargo xtask vm-test` has no browser; a missing one
//! is a failure.

mod browser;
mod looks;
mod page;
mod top;
mod town;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all: Vec<(&str, Body)> = Vec::new();
    all.extend(top::TRIALS);
    all.extend(page::TRIALS);
    all.extend(looks::TRIALS);
    all.into_iter()
        .map(|(name, run)| {
            Trial::test(format!("views::{name}"), move || {
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}
