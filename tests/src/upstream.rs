//! How the agent reaches its Valkey: TLS with certificates of both sides, and what becomes of apps when the
//! server is not who it should be, hands its place to another, or refuses.

pub(crate) mod certificates;
mod loading;
mod reading;
mod refusals;
mod replicas;
mod resting;
mod tls;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    tls::BODIES
        .iter()
        .chain(&replicas::BODIES)
        .chain(&refusals::BODIES)
        .chain(&loading::BODIES)
        .chain(&reading::BODIES)
        .chain(&resting::BODIES)
        .map(|&(name, body)| {
            Trial::test(format!("upstream::{name}"), move || {
                body().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}
