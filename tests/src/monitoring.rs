//! What monitoring sees of a node: metrics, health, readiness, and who may see them.

mod access;
pub mod held;
mod http;
mod logs;
mod metrics;
mod readiness;
pub mod reload;
mod rules;
mod supervised;
pub mod text;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::bed::Bed;
use crate::smoke::output;

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all: Vec<(&str, Body)> = Vec::new();
    all.extend(metrics::TRIALS);
    all.extend(access::TRIALS);
    all.extend(readiness::TRIALS);
    all.extend(supervised::TRIALS);
    all.extend(reload::TRIALS);
    all.extend(logs::TRIALS);
    all.extend(rules::TRIALS);
    all.into_iter()
        .map(|(name, run)| {
            Trial::test(format!("monitoring::{name}"), move || {
                run().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// Gives the first store each kind of limit: what is told only where one is set.
fn limit(bed: &Bed) -> Result<()> {
    let mut flect = bed.flect()?;
    flect.args(["kv", "set", "store1", "--max-memory", "64mb"]);
    flect.args(["--max-connections", "50", "--rate", "5000"]);
    output(&mut flect).map(drop)
}
