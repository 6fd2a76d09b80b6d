//! Many who change the registry at once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Body, flect};
use crate::bed::Bed;

pub const BODIES: [(&str, Body); 1] = [("creators_agree", creators_agree)];

/// Eight at once is more than the machines of a test have cores.
const CREATORS: usize = 8;
/// Names that all of them want.
const CONTESTED: usize = 5;

/// Creators of the same names and of their own: each name has one prefix, and no two have the same.
fn creators_agree() -> Result<()> {
    let bed = Bed::builder().create_stores(false).start()?;
    let wins: Vec<Result<Vec<usize>>> = thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS)
            .map(|creator| {
                scope.spawn({
                    let bed = &bed;
                    move || create(bed, creator)
                })
            })
            .collect();
        let joined = creators.into_iter().map(|creator| creator.join());
        joined
            .map(|result| result.unwrap_or_else(|_| Err(anyhow::anyhow!("a creator panicked"))))
            .collect()
    });
    let mut won: BTreeMap<usize, usize> = BTreeMap::new();
    for wins in wins {
        for name in wins? {
            *won.entry(name).or_default() += 1;
        }
    }
    let once: BTreeMap<usize, usize> = (0..CONTESTED).map(|name| (name, 1)).collect();
    ensure!(won == once, "who made what: {won:?}");
    let listed: Value = serde_json::from_str(&flect(&bed, &["kv", "list", "--json"])?)?;
    let stores = listed["stores"].as_array().context("no stores")?;
    let of =
        |key: &str| -> BTreeSet<&str> { stores.iter().filter_map(|s| s[key].as_str()).collect() };
    let count = CONTESTED + CREATORS;
    ensure!(
        stores.len() == count && of("name").len() == count && of("prefix").len() == count,
        "{listed}"
    );
    Ok(())
}

/// Tries every contested name, each creator in another order, and makes one of its own; answers the
/// contested ones that it made.
fn create(bed: &Bed, creator: usize) -> Result<Vec<usize>> {
    let mut made = Vec::new();
    for step in 0..CONTESTED {
        let number = (creator + step) % CONTESTED;
        let ended = bed
            .flect()?
            .args(["kv", "create", &format!("contested-{number}")])
            .output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if ended.status.success() {
            made.push(number);
        } else {
            ensure!(
                ended.status.code() == Some(1) && said.contains("already"),
                "{}: {said}",
                ended.status
            );
        }
    }
    flect(bed, &["kv", "create", &format!("own-{creator}")])?;
    Ok(made)
}
