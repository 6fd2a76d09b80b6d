//! What comes unasked and is not read: messages and the lines of MONITOR.

use anyhow::{Result, ensure};

use super::stage::{self, told};
use crate::bed::APP1;
use crate::wire::encode;
use crate::witness::Witness;

/// What the agent may grow by, whatever is not read: MONITOR's 8 MiB and connections' buffers.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// Subscribers that read nothing: the server ends them at its client-output-buffer-limit, and the agent
/// holds next to nothing meanwhile.
pub fn messages() -> Result<()> {
    let bed = stage::bed("", |b| {
        b.valkey_option("--client-output-buffer-limit", "pubsub 2mb 1mb 5")
    })?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut silent = stage::connect(&bed, 4)?;
        for wire in &mut silent {
            wire.command(&["SUBSCRIBE", "news"])?;
        }
        let message = vec![b'm'; 64 * 1024];
        let mut publisher = bed.connect(APP1)?;
        let grown = stage::growth(&bed, || {
            // Until nobody is left: what sockets and the server's buffers take differs.
            stage::wait_until(|| {
                for _ in 0..20 {
                    let got = publisher.command(&[b"PUBLISH".as_slice(), b"news", &message])?;
                    if got.text() == "0" {
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
            neighbour.progresses(70)
        })?;
        ensure!(grown < GROWTH_BYTES_MAX, "the agent grew by {grown} bytes");
        for wire in &mut silent {
            // What was on its way, then the end.
            let (_, closed) = wire.read_until_silent(stage::PATIENCE)?;
            ensure!(closed, "a subscriber that does not read is connected");
        }
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// A client that monitors and does not read is disconnected; whoever is watched is not slowed by it.
pub fn monitor() -> Result<()> {
    let bed = stage::bed("", |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut silent = bed.connect(APP1)?;
        ensure!(silent.command(&["MONITOR"])?.text() == "OK", "MONITOR");
        let value = "v".repeat(4000);
        let burst: Vec<u8> = (0..100)
            .flat_map(|_| encode(&["SET", "key", &value]))
            .collect();
        let mut busy = bed.connect(APP1)?;
        let grown = stage::growth(&bed, || {
            stage::wait_until(|| {
                busy.send_raw(&burst)?;
                for _ in 0..100 {
                    ensure!(busy.read()?.text() == "OK", "SET");
                }
                Ok(stage::metric(&bed, "store1", "disconnected")? == 1)
            })?;
            neighbour.progresses(70)
        })?;
        ensure!(grown < GROWTH_BYTES_MAX, "the agent grew by {grown} bytes");
        stage::expect_audit(&bed, "buffers", "store1")?;
        let (lines, closed) = silent.read_until_silent(stage::PATIENCE)?;
        ensure!(closed && !lines.is_empty(), "it is connected");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}
