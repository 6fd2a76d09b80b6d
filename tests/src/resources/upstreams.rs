//! Clients that keep a connection to Valkey each: all stores share its `maxclients`.

use anyhow::{Result, ensure};

use super::stage::{self, TOO_MANY, connect, expect_audit, told};
use crate::bed::{APP1, Bed};
use crate::wire::Wire;
use crate::witness::Witness;

/// Clients of one store that all block.
const BLOCKED: usize = 100;

/// What the shared server takes: fewer than that.
const CLIENTS_MAX: &str = "80";

fn shared(limits: &str) -> Result<Bed> {
    stage::bed(limits, |b| b.valkey_option("--maxclients", CLIENTS_MAX))
}

/// All of them block; how many got Valkey's words instead, once it is known.
fn block(wires: &mut [Wire], server: &mut Wire) -> Result<()> {
    for wire in wires.iter_mut() {
        wire.send(&["BLPOP", "list", "0"])?;
    }
    // Every one is told no, or waits on the server, or the server takes no more.
    stage::wait_until(|| {
        let info = server.command(&["INFO", "clients"])?.text();
        Ok(field(&info, "blocked_clients:") >= 20)
    })
}

fn field(info: &str, name: &str) -> usize {
    let mut lines = info.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0)
}

/// A client of a store that nobody has used before.
fn newcomer(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect("app2")?;
    let got = wire.command(&["SET", "k", "v"])?.text();
    ensure!(got == "OK", "the newcomer got {got}");
    Ok(())
}

/// The store's clients beyond the limit are told so; those that need nothing of their own, and all other
/// stores, are served.
pub fn of_one_store() -> Result<()> {
    // A quarter of what the server takes, without a word in the configuration.
    let bed = shared("")?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut server = bed.operator()?;
        let mut bystander = bed.connect(APP1)?;
        let mut wires = connect(&bed, BLOCKED)?;
        block(&mut wires, &mut server)?;
        neighbour.progresses(70)?;
        let got = bystander.command(&["SET", "k", "v"])?.text();
        ensure!(got == "OK", "{got}");
        stage::wait_until(|| Ok(stage::metric(&bed, "store1", "refused")? >= 80))?;
        stage::wait_until(|| {
            let mut told = 0;
            for wire in &mut wires {
                told += usize::from(!wire.is_silent_for(std::time::Duration::from_millis(1))?);
            }
            Ok(told == 80)
        })?;
        let mut refused = 0;
        let mut waiting = Vec::new();
        for mut wire in wires {
            if wire.is_silent_for(std::time::Duration::from_millis(2))? {
                waiting.push(wire);
                continue;
            }
            let got = wire.read()?.text();
            ensure!(got == TOO_MANY, "{got}");
            ensure!(wire.read().is_err(), "a refused client is connected");
            refused += 1;
        }
        ensure!(
            refused == 80 && waiting.len() == 20,
            "{refused} were refused, {} wait",
            waiting.len()
        );
        expect_audit(&bed, "upstreams", "store1")?;
        // A store that has no connection yet gets one.
        newcomer(&bed)?;
        // Those who end make room.
        bystander.command(&["RPUSH", "list", "a", "b", "c", "d", "e"])?;
        stage::wait_until(|| {
            let info = server.command(&["INFO", "clients"])?.text();
            Ok(field(&info, "blocked_clients:") == 15)
        })?;
        let mut more = connect(&bed, 5)?;
        for wire in &mut more {
            let got = wire.command(&["BLPOP", "other", "0.01"])?.text();
            ensure!(got == "(nil)", "{got}");
        }
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// Without the limit one store uses up the server, and the neighbour is not served: that is what the trial
/// above would see.
pub fn self_check() -> Result<()> {
    let bed = shared("upstreams = 0")?;
    let run = || {
        let mut server = bed.operator()?;
        let mut wires = connect(&bed, BLOCKED)?;
        block(&mut wires, &mut server)?;
        let full: usize = CLIENTS_MAX.parse()?;
        stage::wait_until(|| {
            let info = server.command(&["INFO", "clients"])?.text();
            Ok(field(&info, "connected_clients:") >= full)
        })?;
        ensure!(
            newcomer(&bed).is_err(),
            "a newcomer was served though nothing bounds the store"
        );
        stage::wait_until(|| {
            let mut lines = stage::audited(&bed, "upstreams").into_iter();
            Ok(lines.any(|line| line["store"].is_null()))
        })
    };
    told(&bed, run())
}
