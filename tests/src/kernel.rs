//! Trials of the hooks alone, without Valkey and without the daemon: who is behind a connection, and
//! that there is no way around, on the running kernel.
//!
//! The agent's cgroup is that of a process, so each trial is a process of its own: this executable in
//! the role [`TRIAL`]. Its apps are processes too, in the role [`PUPPET`], each in its cgroup. The
//! executable must call [`child::dispatch`] with [`ROLES`] first.

mod acceleration;
mod guards;
mod identity;
mod lifecycle;
mod puppet;
mod stage;

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use libtest_mimic::{Failed, Trial};

use crate::child;
pub(crate) use puppet::loopback_up;
use stage::{Stage, sweep};

/// The role of a process that is one trial.
const TRIAL: &str = "kernel-trial";
/// The role of a process that plays an app.
const PUPPET: &str = "kernel-puppet";

/// For [`child::dispatch`].
pub const ROLES: [(&str, child::Role); 2] = [(TRIAL, play), (PUPPET, puppet::role)];

type Body = fn(&mut Stage) -> Result<()>;

const BODIES: [&[(&str, Body)]; 4] = [
    &identity::BODIES,
    &guards::BODIES,
    &lifecycle::BODIES,
    &acceleration::BODIES,
];

/// The trials; they need root, cgroup v2 and BPF.
#[must_use]
pub fn trials() -> Vec<Trial> {
    BODIES
        .into_iter()
        .flatten()
        .map(|&(name, _)| {
            Trial::test(format!("kernel::{name}"), move || {
                run(name).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// Runs a trial as a process, and cleans up behind it whatever has become of it.
fn run(name: &str) -> Result<()> {
    let trial = child::command(TRIAL, &[name])?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the trial")?;
    let process = trial.id();
    let output = trial.wait_with_output();
    let swept = sweep(process);
    let output = output.context("waiting for the trial")?;
    if !output.status.success() {
        bail!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    swept.context("cleaning up behind the trial")
}

/// The trial's own process.
fn play(args: &[String]) -> Result<()> {
    let name = args.first().context("no trial was named")?;
    let (_, body) = BODIES
        .into_iter()
        .flatten()
        .find(|(own, _)| own == name)
        .with_context(|| format!("no such trial: {name}"))?;
    body(&mut Stage::new()?)
}
