//! Workloads in containers: a real runtime (crun) makes their namespaces, and a hook of the runtime tells the
//! agent before the app's program runs.
//!
//! The runtime makes no cgroups here (`--cgroup-manager=disabled`): it would switch on controllers in those
//! of the machine. A hook puts the container's process into its app's cgroup instead.

mod bundle;
mod notify;

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::{APP1, Bed};
use crate::child;
use crate::wire::Value;
use bundle::{Container, Tried};

/// For [`child::dispatch`].
pub const ROLES: [(&str, child::Role); 1] = [(bundle::ROLE, bundle::role)];

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

const BODIES: [(&str, Body); 2] = [
    ("an_announced_one_works_at_once", announced),
    ("one_that_nobody_announced_works_on_retry", unannounced),
];

/// How soon an app that tries again is served at the latest: clients give up after some seconds.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    BODIES
        .into_iter()
        .chain(notify::BODIES)
        .map(|(name, body)| {
            Trial::test(format!("containers::{name}"), move || {
                body().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// The first connect of the first program in a network namespace that has only a loopback.
fn announced() -> Result<()> {
    let bed = Bed::builder().start()?;
    let tried = Container::of(&bed, APP1)?.announced(true).run()?;
    ensure!(
        tried.refused == 0,
        "{} connects were refused though the hook had told the agent",
        tried.refused
    );
    is_in_its_store(&bed)
}

/// Without the hook the first connects are refused, which shows that it is the hook that helps above.
fn unannounced() -> Result<()> {
    let bed = Bed::builder().start()?;
    let Tried { refused, after } = Container::of(&bed, APP1)?.announced(false).run()?;
    ensure!(
        refused > 0,
        "nobody told the agent, and nothing was refused"
    );
    ensure!(
        after < SERVED_WITHIN,
        "served after {after:?} and {refused} refusals"
    );
    is_in_its_store(&bed)
}

fn is_in_its_store(bed: &Bed) -> Result<()> {
    let key = format!("{}:from", bed.prefix("store1")?);
    let value = bed.operator()?.command(&["GET", &key])?;
    ensure!(
        value == Value::Bulk(b"container".to_vec()),
        "{key} holds {value:?}"
    );
    Ok(())
}
