//! Clients that let the agent hold as much as it will: requests that never end, replies that are never
//! read.

use anyhow::{Result, ensure};

use super::stage::{self, expect_audit, told};
use crate::bed::{APP1, Bed};
use crate::wire::{Wire, encode};
use crate::witness::Witness;

/// Clients of each kind.
const CLIENTS: usize = 100;

/// What each sends of a request whose end never comes.
const PART_BYTES: usize = 900 * 1024;

/// What the store may let the agent hold.
const LIMIT_BYTES: u64 = 8 << 20;

/// What the agent may grow by: the limit, what allocators keep, and connections.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// A script's text must be there as a whole, so it is what takes most memory: its beginning.
fn unfinished() -> Vec<u8> {
    let mut bytes = b"*3\r\n$4\r\nEVAL\r\n$1000000\r\n".to_vec();
    bytes.resize(bytes.len() + PART_BYTES, b'x');
    bytes
}

/// Clients that begin a request and never end it, and clients that ask and never read; how much the agent
/// grows.
fn attack(bed: &Bed, neighbour: &mut Witness) -> Result<u64> {
    let mut wire = bed.connect(APP1)?;
    wire.command(&[b"SET".as_slice(), b"large", &vec![b'v'; 100_000]])?;
    let part = unfinished();
    let asks: Vec<u8> = (0..20).flat_map(|_| encode(&["GET", "large"])).collect();
    let mut held: Vec<Wire> = Vec::new();
    stage::growth(bed, || {
        for number in 0..2 * CLIENTS {
            let mut wire = bed.connect(APP1)?;
            let bytes = if number % 2 == 0 { &part } else { &asks };
            // Some are disconnected before they have sent all.
            let _ = wire.send_raw(bytes);
            held.push(wire);
        }
        // One byte at a time, and a value of 512 MB of which nothing comes.
        for number in 0..CLIENTS {
            let mut wire = bed.connect(APP1)?;
            if number % 2 == 0 {
                for byte in b"*3\r\n$3\r\nSET\r\n$5" {
                    wire.send_raw(&[*byte])?;
                }
            } else {
                wire.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")?;
            }
            held.push(wire);
        }
        neighbour.progresses(100)
    })
}

/// The agent's memory stays bounded, and who takes most is disconnected.
pub fn of_one_store() -> Result<()> {
    let bed = stage::bed(&format!("buffer_bytes = {LIMIT_BYTES}"), |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let mut reader = bed.connect(APP1)?;
        let grown = attack(&bed, &mut neighbour)?;
        ensure!(grown < GROWTH_BYTES_MAX, "the agent grew by {grown} bytes");
        let ended = stage::metric(&bed, "store1", "disconnected")?;
        ensure!(ended > 0, "nobody was disconnected");
        expect_audit(&bed, "buffers", "store1")?;
        // One that reads its replies is not the one that goes.
        let got = reader.command(&["PING"])?.text();
        ensure!(got == "PONG", "{got}");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

/// Without the limit the agent grows past what the trial above allows.
pub fn self_check() -> Result<()> {
    let bed = stage::bed("buffer_bytes = 0", |b| b)?;
    let run = || {
        let mut neighbour = Witness::start(&bed)?;
        let grown = attack(&bed, &mut neighbour)?;
        ensure!(
            grown > GROWTH_BYTES_MAX,
            "the agent grew by {grown} bytes only though nothing bounds it"
        );
        let ended = stage::metric(&bed, "store1", "disconnected")?;
        ensure!(ended == 0, "{ended} were disconnected");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}
