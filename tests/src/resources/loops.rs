//! Expensive commands in a loop, and large values: the neighbour is served, in bounded memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};

use super::stage::{self, told};
use crate::bed::{APP1, Bed};
use crate::wire::{Wire, encode};
use crate::witness::Witness;

/// Keys of the store, so that KEYS is long.
const KEYS: usize = 20_000;

/// A value that fits no buffer; the largest that Valkey takes is tried in `protocol::large`.
const VALUE_BYTES: usize = 64 << 20;

/// What the agent may grow by: the names of four KEYS, and buffers.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

fn fill(wire: &mut Wire) -> Result<()> {
    for chunk in 0..KEYS / 1000 {
        let mut burst = Vec::new();
        for number in 0..1000 {
            let key = format!("key:{}", chunk * 1000 + number);
            burst.extend(encode(&["SET", &key, "v"]));
            burst.extend(encode(&["RPUSH", "list", &number.to_string()]));
        }
        wire.send_raw(&burst)?;
        for _ in 0..2000 {
            wire.read()?;
        }
    }
    Ok(())
}

/// KEYS, SORT, a script and a large value, each in a loop of its own.
pub fn of_one_store() -> Result<()> {
    let bed = stage::bed("", |b| b)?;
    let run = || {
        fill(&mut bed.connect(APP1)?)?;
        let mut neighbour = Witness::start(&bed)?;
        let stop = AtomicBool::new(false);
        let grown = stage::growth(&bed, || {
            thread::scope(|scope| {
                let attackers = [
                    scope.spawn(|| repeat(&bed, &stop, &["KEYS", "*"])),
                    scope.spawn(|| repeat(&bed, &stop, &["SORT", "list", "ALPHA"])),
                    scope.spawn(|| {
                        let text = "for i = 1, 100000 do local x = i * i end return 'done'";
                        repeat(&bed, &stop, &["EVAL", text, "0"])
                    }),
                    scope.spawn(|| values(&bed, &stop)),
                ];
                let progress = neighbour.progresses(60);
                stop.store(true, Ordering::Relaxed);
                for attacker in attackers {
                    let rounds = attacker.join().expect("no panic")?;
                    ensure!(rounds > 0, "an attack has not begun");
                }
                progress
            })
        })?;
        ensure!(grown < GROWTH_BYTES_MAX, "the agent grew by {grown} bytes");
        neighbour.end().map(drop)
    };
    told(&bed, run())
}

fn repeat(bed: &Bed, stop: &AtomicBool, request: &[&str]) -> Result<usize> {
    let mut wire = bed.connect(APP1)?;
    let mut rounds = 0;
    while rounds == 0 || !stop.load(Ordering::Relaxed) {
        let reply = wire.command(request)?;
        ensure!(!reply.text().starts_with('-'), "{request:?}: {reply}");
        rounds += 1;
    }
    Ok(rounds)
}

fn values(bed: &Bed, stop: &AtomicBool) -> Result<usize> {
    let mut wire = bed.connect(APP1)?;
    let value = vec![b'v'; VALUE_BYTES];
    let mut rounds = 0;
    while rounds == 0 || !stop.load(Ordering::Relaxed) {
        let got = wire.command(&[b"SET".as_slice(), b"value", &value])?.text();
        ensure!(got == "OK", "{got}");
        wire.send(&["GET", "value"])?;
        let head = format!("${VALUE_BYTES}\r\n");
        let mut got = vec![0; head.len() + VALUE_BYTES + 2];
        wire.read_exact(&mut got)?;
        ensure!(got.starts_with(head.as_bytes()), "GET");
        rounds += 1;
    }
    Ok(rounds)
}
