//! Many connections: up to a store's limit and past it, up to the agent's descriptors, and in a loop.

use std::os::unix::fs::PermissionsExt;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

use super::stage::{self, TOO_MANY, connect, expect_audit, told};
use crate::bed::{APP1, Bed, NEIGHBOUR, UNCLAIMED};
use crate::tools::Programs;
use crate::wire::Wire;
use crate::witness::Witness;

/// A connection that must be refused in Valkey's words.
fn refused(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect(APP1)?;
    let got = wire.read()?.text();
    ensure!(got == TOO_MANY, "{got} instead of the refusal");
    ensure!(wire.read().is_err(), "the connection is open");
    Ok(())
}

fn ping(wire: &mut Wire) -> Result<()> {
    let got = wire.command(&["PING"])?.text();
    ensure!(got == "PONG", "{got}");
    Ok(())
}

/// As many as the node allows each store, none more, and one more when one has gone.
pub fn up_to_the_limit() -> Result<()> {
    const LIMIT: usize = 100;
    let bed = stage::bed(&format!("connections = {LIMIT}"), |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut wires = connect(&bed, LIMIT)?;
        wires.iter_mut().try_for_each(ping)?;
        for _ in 0..50 {
            refused(&bed)?;
        }
        neighbour.progresses(20)?;
        let got = wires[0].command(&["CONFIG", "GET", "maxclients"])?;
        ensure!(got.items().len() == 2, "{got}");
        let count = stage::metric(&bed, "store1", "refused")?;
        ensure!(count >= 50, "{count} refused");
        expect_audit(&bed, "connections", "store1")?;
        drop(wires.pop());
        stage::wait_until(|| {
            let mut wire = bed.connect(APP1)?;
            Ok(wire.command(&["PING"])?.text() == "PONG")
        })?;
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// The default limit, ten thousand, and past it, as far as the machine's descriptors go.
pub fn ten_thousand() -> Result<()> {
    const LIMIT: usize = 10_000;
    /// A connection of a debug build, with its entry in the directory.
    const SESSION_BYTES_MAX: u64 = 16 * 1024;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // This process holds the other ends, and other trials run beside.
    let here = most.map_or(LIMIT, |most| usize::try_from(most / 2).unwrap_or(LIMIT));
    let count = LIMIT.min(here);
    let bed = stage::bed(&format!("connections = {count}"), |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut wires = Vec::new();
        let grown = stage::growth(&bed, || {
            wires = connect(&bed, count)?;
            let mut last = wires.iter_mut().rev().take(100);
            last.try_for_each(ping)
        })?;
        refused(&bed)?;
        neighbour.progresses(20)?;
        let bytes_max = SESSION_BYTES_MAX * count as u64;
        ensure!(grown < bytes_max, "{count} connections take {grown} bytes");
        wires.iter_mut().step_by(97).try_for_each(ping)?;
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// An agent with few descriptors: one store cannot take the last ones.
pub fn few_descriptors() -> Result<()> {
    const LIMIT: usize = 400;
    let folder = tempfile::tempdir()?;
    let wrapper = folder.path().join("flect-agent");
    let mut programs = Programs::beside_current()?;
    let text = format!(
        "#!/bin/sh\nulimit -n {LIMIT}\nexec {} \"$@\"\n",
        programs.agent.display()
    );
    fs::write(&wrapper, text)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    programs.agent = wrapper;
    let bed = stage::bed("", |b| b.programs(programs))?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut held = Vec::new();
        let mut first_refused = None;
        for number in 0..LIMIT {
            let mut wire = bed.connect(APP1)?;
            match wire.command(&["PING"])?.text().as_str() {
                "PONG" => held.push(wire),
                TOO_MANY => {
                    first_refused.get_or_insert(number);
                }
                other => anyhow::bail!("{other}"),
            }
        }
        let first = first_refused.context("nothing was refused")?;
        ensure!(first > LIMIT / 4, "refused already at {first}");
        let open = stage::descriptors(&bed)?;
        ensure!(open < LIMIT, "{open} descriptors of {LIMIT}");
        // Others come in, several at once, while the first holds what it has.
        let mut others: Vec<Wire> = (0..20)
            .map(|_| Ok(bed.connect(NEIGHBOUR)?))
            .collect::<Result<_>>()?;
        others.iter_mut().try_for_each(ping)?;
        neighbour.progresses(70)?;
        held.iter_mut().try_for_each(ping)?;
        ensure!(!bed.agent_log().contains("accept failed"), "accept failed");
        expect_audit(&bed, "connections", "store1")?;
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// Connections that are made and dropped as fast as they can be, by a store and by a cgroup that no app
/// claims: others are accepted all the while, and nothing is left behind.
pub fn storm() -> Result<()> {
    const EACH: usize = 700;
    let bed = stage::bed("", |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        neighbour.progresses(5)?;
        let before = stage::descriptors(&bed)?;
        let grown = stage::growth(&bed, || {
            thread::scope(|scope| {
                let loops: Vec<_> = [APP1, APP1, UNCLAIMED]
                    .into_iter()
                    .map(|app| {
                        let bed = &bed;
                        scope.spawn(move || -> Result<()> {
                            let connector = bed.connector(app)?;
                            for number in 0..EACH {
                                let stream = connector.connect(bed.address())?;
                                // Half of them are gone before they are accepted.
                                if number % 2 == 0 {
                                    let mut wire = Wire::new(stream)?;
                                    // What is refused may be reset meanwhile.
                                    let _ = wire.send(&["PING"]);
                                }
                            }
                            Ok(())
                        })
                    })
                    .collect();
                neighbour.progresses(100)?;
                loops
                    .into_iter()
                    .try_for_each(|one| one.join().expect("no panic"))
            })
        })?;
        ensure!(grown < 64 << 20, "the agent grew by {grown} bytes");
        neighbour.progresses(70)?;
        stage::wait_until(|| Ok(stage::descriptors(&bed)? <= before + 16))
            .context("descriptors are left behind")?;
        stage::wait_until(|| Ok(!stage::audited(&bed, "identity").is_empty()))?;
        let lines = stage::audited(&bed, "identity").len();
        ensure!(lines <= 10, "{lines} lines of the same");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}
