//! Values larger than any buffer, and clients that take their time.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;

use anyhow::{Result, ensure};

use crate::pair::{Pair, Side};
use crate::wire::{Wire, encode};

/// The largest value that Valkey takes: its default `proto-max-bulk-len`.
const LARGEST_BYTES: usize = 512 * 1024 * 1024;
const LARGE_BYTES: usize = 100 * 1024 * 1024;

/// The unit in which large values are made and compared; each bears its number.
const BLOCK_BYTES: usize = 1024 * 1024;

/// 512 MiB in and out, and 100 MiB in the middle of a pipeline, in bounded memory.
pub fn values(pair: &Pair) -> Result<()> {
    pair.with_bounded_memory(|| {
        let mut wire = pair.connect(Side::Store)?;
        let mut blocks = Blocks::new();
        send_value(wire.stream(), &mut blocks, "largest", LARGEST_BYTES)?;
        ensure!(wire.read()?.text() == "OK", "SET of the largest value");
        wire.send(&["GET", "largest"])?;
        check_value(&mut wire, &mut blocks, LARGEST_BYTES)?;
        ensure!(wire.command(&["DEL", "largest"])?.text() == "1", "DEL");

        let mut out = encode(&["SET", "small", "1"]);
        out.extend(encode(&["INCR", "small"]));
        wire.send_raw(&out)?;
        send_value(wire.stream(), &mut blocks, "large", LARGE_BYTES)?;
        wire.send(&["INCR", "small"])?;
        wire.send(&["STRLEN", "large"])?;
        for expect in ["OK", "2", "OK", "3", &LARGE_BYTES.to_string()] {
            let reply = wire.read()?;
            ensure!(reply.text() == expect, "{reply} instead of {expect}");
        }
        let mut out = encode(&["GET", "small"]);
        out.extend(encode(&["GET", "large"]));
        out.extend(encode(&["INCR", "small"]));
        wire.send_raw(&out)?;
        ensure!(wire.read()?.text() == "3", "before the large value");
        check_value(&mut wire, &mut blocks, LARGE_BYTES)?;
        ensure!(wire.read()?.text() == "4", "after the large value");
        wire.command(&["DEL", "large"])?;
        Ok(())
    })
}

/// What a client that does not read leaves with the agent: below the 256 MiB at which such clients
/// are disconnected when they hold up others.
const UNREAD_BYTES: usize = 100 * 1024 * 1024;

/// The agent may hold the whole value, in a buffer that grows by doubling.
const HELD_BYTES_MAX: u64 = 3 * UNREAD_BYTES as u64;

/// Requests that each of the others gets answered while the slow client reads nothing.
const ROUNDS: u32 = 200;

/// A client asks for a large value and reads nothing until others of the same store have been served
/// many times. Were they to wait for it, their reads would run out of patience.
pub fn slow_reader(pair: &Pair) -> Result<()> {
    pair.with_memory_below(HELD_BYTES_MAX, || {
        let mut blocks = Blocks::new();
        let mut slow = pair.connect(Side::Store)?;
        send_value(slow.stream(), &mut blocks, "large", UNREAD_BYTES)?;
        ensure!(slow.read()?.text() == "OK", "SET");
        // A fresh connection is not known to be heavy: its reply comes over the shared connection.
        let mut slow = pair.connect(Side::Store)?;
        let asked = Barrier::new(5);
        thread::scope(|scope| -> Result<()> {
            let others: Vec<_> = (0..4)
                .map(|number| {
                    let asked = &asked;
                    scope.spawn(move || count_up(pair, number, asked))
                })
                .collect();
            let sent = slow
                .send(&["GET", "large"])
                .and_then(|()| slow.send(&["PING"]));
            asked.wait();
            sent?;
            for other in others {
                other.join().expect("no panic")?;
            }
            check_value(&mut slow, &mut blocks, UNREAD_BYTES)?;
            ensure!(slow.read()?.text() == "PONG", "after the large value");
            Ok(())
        })
    })
}

fn count_up(pair: &Pair, number: u32, asked: &Barrier) -> Result<()> {
    let connected = pair.connect(Side::Store);
    // Whatever happens, the others are not left waiting.
    asked.wait();
    let mut wire = connected?;
    let key = format!("other:{number}");
    for round in 1..=ROUNDS {
        let reply = wire.command(&["INCR", &key])?;
        ensure!(reply.text() == round.to_string(), "round {round}: {reply}");
    }
    Ok(())
}

/// Blocks that all differ, without a generator's time for each byte.
struct Blocks {
    block: Vec<u8>,
}

impl Blocks {
    fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        while block.len() < BLOCK_BYTES {
            // xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        Self { block }
    }

    fn get(&mut self, number: usize) -> &[u8] {
        self.block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        &self.block
    }
}

fn send_value(mut to: &TcpStream, blocks: &mut Blocks, key: &str, bytes: usize) -> Result<()> {
    let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n", key.len());
    to.write_all(head.as_bytes())?;
    for number in 0..bytes / BLOCK_BYTES {
        to.write_all(blocks.get(number))?;
    }
    to.write_all(b"\r\n")?;
    Ok(())
}

fn check_value(from: &mut Wire, blocks: &mut Blocks, bytes: usize) -> Result<()> {
    let head = format!("${bytes}\r\n");
    let mut got = vec![0; head.len()];
    from.read_exact(&mut got)?;
    ensure!(got == head.as_bytes(), "{}", got.escape_ascii());
    let mut block = vec![0; BLOCK_BYTES];
    for number in 0..bytes / BLOCK_BYTES {
        from.read_exact(&mut block)?;
        ensure!(block == blocks.get(number), "block {number} differs");
    }
    let mut end = [0; 2];
    from.read_exact(&mut end)?;
    ensure!(&end == b"\r\n", "the end is {}", end.escape_ascii());
    Ok(())
}
