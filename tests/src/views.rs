//! `flect top` and the agent's status page.
//!
//! What needs a browser is tried on the host only: the image of `cargo xtask vm-test` has none
//! ([`tools::in_vm`]). On the host a missing browser is a failure.

mod browser;
mod looks;
mod page;
mod top;
mod town;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::tools;

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all: Vec<(&str, Body)> = Vec::new();
    all.extend(top::TRIALS);
    all.extend(page::TRIALS);
    if !tools::in_vm() {
        all.extend(looks::TRIALS);
    }
    all.into_iter()
        .map(|(name, run)| {
            Trial::test(format!("views::{name}"), move || {
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}
