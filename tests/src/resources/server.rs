//! What the shared server itself holds for clients that do not read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::stage::{self, told};
use crate::bed::{APP1, Bed};
use crate::wire::{Wire, encode};
use crate::witness::Witness;

/// Clients that ask and never read.
const SILENT: usize = 20;

/// What each asks for at once, of a value of a megabyte.
const REQUESTS: usize = 10;

/// What the server may grow by: what clients may hold at least where nobody has said how much would be a lot
/// for a trial, so here somebody says.
const ALLOWED: &str = "32mb";

/// What the server grew by when it held nothing back, at least.
const HARM_BYTES: usize = 100 << 20;

fn field(server: &mut Wire, section: &str, name: &str) -> Result<usize> {
    let info = server.command(&["INFO", section])?.text();
    let mut lines = info.lines();
    let found = lines.find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    });
    found.with_context(|| format!("no {name}: {info}"))
}

/// What clients may hold together, by the operator's command.
fn allow(bed: &Bed, bytes: &str, shown: &str) -> Result<()> {
    let mut flect = bed.flect()?;
    let output = flect
        .args(["env", "set", "--max-client-memory", bytes])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains(shown),
        "{output:?}"
    );
    Ok(())
}

/// Clients that ask for the large value so often at once, and never read.
fn ask(bed: &Bed, clients: usize, requests: usize) -> Result<Vec<Wire>> {
    let mut silent = stage::connect(bed, clients)?;
    for wire in &mut silent {
        wire.send_raw(&encode(&["GET", "large"]).repeat(requests))?;
    }
    Ok(silent)
}

fn fill(bed: &Bed) -> Result<Wire> {
    let mut wire = bed.connect(APP1)?;
    wire.command(&[b"SET".as_slice(), b"large", &vec![b'v'; 1 << 20]])?;
    Ok(wire)
}

/// Looks at what the server holds for clients, and how many it has disconnected, until that is enough or time is
/// up; the most that it held, and whether it was enough.
fn held(
    server: &mut Wire,
    time: Duration,
    enough: impl Fn(usize, usize) -> bool,
) -> Result<(usize, bool)> {
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < time {
        most = most.max(field(server, "memory", "mem_clients_normal")?);
        if enough(most, field(server, "stats", "evicted_clients")?) {
            return Ok((most, true));
        }
        stage::breathe();
    }
    Ok((most, false))
}

/// The server disconnects those that hold most, and the neighbour is served.
pub fn holds_little() -> Result<()> {
    let bed = stage::bed("", |b| b)?;
    let run = || {
        // As an agent leaves a server that nobody has given a limit.
        let mut server = bed.operator()?;
        let get = ["CONFIG", "GET", "maxmemory-clients"];
        let machine = field(&mut server, "memory", "total_system_memory")?;
        let safe = (machine / 4).max(1 << 30).to_string();
        let got = server.command(&get)?.text();
        ensure!(got.contains(&safe), "{got}, not {safe}");
        allow(&bed, ALLOWED, "of 32.0 MiB")?;
        let mut neighbour = Witness::start(&bed)?;
        fill(&bed)?;
        let _silent = ask(&bed, SILENT, REQUESTS)?;
        let (most, is_evicted) = held(&mut server, stage::PATIENCE, |_, evicted| evicted > 0)?;
        ensure!(
            is_evicted,
            "nobody was disconnected; clients held {most} bytes"
        );
        neighbour.progresses(70)?;
        ensure!(most < HARM_BYTES, "clients held {most} bytes");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// Without the limit the server holds it all.
pub fn self_check() -> Result<()> {
    let bed = stage::bed("", |b| b)?;
    let run = || {
        allow(&bed, "0", "held, no limit")?;
        let mut server = bed.operator()?;
        fill(&bed)?;
        let _silent = ask(&bed, SILENT, REQUESTS)?;
        let (most, is_harmed) = held(&mut server, stage::PATIENCE, |held, _| held >= HARM_BYTES)?;
        ensure!(is_harmed, "clients held {most} bytes at most");
        Ok(())
    };
    told(&bed, run())
}

/// Once replies are known to be large, no more is asked for than may be on its way: without any limit at the
/// server, and for five times what harmed it above.
pub fn is_asked_for_little() -> Result<()> {
    let bed = stage::bed("", |b| b.workers(1))?;
    let run = || {
        allow(&bed, "0", "held, no limit")?;
        let mut server = bed.operator()?;
        let mut first = fill(&bed)?;
        first.command(&["GET", "large"])?;
        let _silent = ask(&bed, SILENT, REQUESTS * 5)?;
        let (most, is_harmed) = held(&mut server, Duration::from_secs(2), |held, _| {
            held >= HARM_BYTES
        })?;
        ensure!(!is_harmed, "clients held {most} bytes");
        Ok(())
    };
    told(&bed, run())
}
