//! The daemon's control side: following the registry, the control socket, explicit mode.

mod client;
mod concurrency;
mod enter;
mod explicit;
mod lost;
mod registry;
mod second;
mod socket;
mod tls;
mod users;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::Bed;
use crate::bed::agent::wait_until;
use crate::child;
use crate::smoke::output;
use crate::wire::Wire;

/// For [`child::dispatch`].
pub const ROLES: [(&str, child::Role); 1] = [(client::ROLE, client::role)];

/// A trial that makes what it needs.
type Body = fn() -> Result<()>;

/// How soon every node follows a change: a second by design, half of it for a machine that is busy
/// with the trials beside. Emulated machines are slower still.
const SOON: Duration = Duration::from_secs(3);

/// How long a trial waits before it gives up; that it took longer than [`SOON`] is told then.
const PATIENCE: Duration = Duration::from_secs(20);

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let groups: [&[(&str, Body)]; 7] = [
        &registry::BODIES,
        &concurrency::BODIES,
        &lost::BODIES,
        &socket::BODIES,
        &enter::BODIES,
        &explicit::BODIES,
        &users::BODIES,
    ];
    groups
        .into_iter()
        .flatten()
        .chain(&tls::BODIES)
        .map(|&(name, body)| {
            Trial::test(format!("control::{name}"), move || {
                body().map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// Runs `flect` against the bed's environment and agent, and returns what it prints.
fn flect(bed: &Bed, args: &[&str]) -> Result<String> {
    output(bed.flect()?.args(args)).with_context(|| format!("flect {}", args.join(" ")))
}

/// Sends a line and returns the reply as text; also what a closed connection says: nothing.
fn said(wire: &mut Wire, line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    match wire.command(&words) {
        Ok(reply) => reply.text(),
        Err(error) => format!("({error})"),
    }
}

/// Sends a line and expects a reply that begins so.
fn expect(wire: &mut Wire, line: &str, begin: &str) -> Result<()> {
    let got = said(wire, line);
    ensure!(got.starts_with(begin), "{line}: {got} instead of {begin}");
    Ok(())
}

/// Waits until something has become true, which must be soon.
fn soon(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    wait_until(PATIENCE, &mut look).with_context(|| what.to_owned())?;
    let took = begin.elapsed();
    let slow = std::env::var_os("FLECT_SLOW").is_some() || is_emulated();
    ensure!(slow || took < SOON, "{what} took {took:?}");
    Ok(())
}

/// Machines of QEMU without KVM are many times slower.
fn is_emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU"))
}
