//! What the attacking store's clients do, each until it is told to stop. What the agent does to them in
//! turn (refusals, disconnections) is no error.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use flect_tests::bed::{APP1, Bed};
use flect_tests::wire::{Wire, encode};

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// It keeps the server itself busy, which no agent can divide.
    pub server_bound: bool,
    /// The agent refuses it. A Valkey without one would end.
    pub refused: bool,
    /// How many do it at once.
    pub threads: usize,
    pub run: fn(&Bed, &AtomicBool) -> Result<()>,
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    attack("connections in a loop", false, 2, storm),
    attack("connections, held", false, 1, held),
    attack("requests without an end", false, 1, unfinished),
    attack("pipelines", false, 2, pipelines),
    attack("replies not read", false, 1, unread),
    attack("messages not read", false, 1, messages),
    Attack {
        refused: true,
        ..attack("refused commands", false, 2, refused)
    },
    attack("values of 16 MB", true, 2, values),
    attack("KEYS", true, 2, keys),
    attack("SORT", true, 2, sort),
    attack("scripts of a millisecond", true, 2, scripts),
];

const fn attack(
    name: &'static str,
    server_bound: bool,
    threads: usize,
    run: fn(&Bed, &AtomicBool) -> Result<()>,
) -> Attack {
    Attack {
        name,
        server_bound,
        refused: false,
        threads,
        run,
    }
}

/// Connections that an attack holds: within a common RLIMIT_NOFILE, and far beyond what an app needs.
const HELD: usize = 500;

fn goes_on(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Relaxed)
}

/// Sends without ever waiting for the other side.
fn push(stream: &TcpStream, bytes: &[u8]) {
    // Full buffers and ended connections are what the attack is about.
    let _ = stream.set_nonblocking(true);
    let _ = (&*stream).write(bytes);
}

fn storm(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    let connector = bed.connector(APP1)?;
    while goes_on(stop) {
        let stream = connector.connect(bed.address())?;
        push(&stream, b"PING\r\n");
    }
    Ok(())
}

/// Connections that have sent these bytes, until the end.
fn hold(bed: &Bed, stop: &AtomicBool, bytes: &[u8]) -> Result<()> {
    let mut held = Vec::new();
    while goes_on(stop) {
        if held.len() < HELD {
            let wire = bed.connect(APP1)?;
            push(wire.stream(), bytes);
            held.push(wire);
        } else {
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn held(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    hold(bed, stop, b"PING\r\n")
}

fn unfinished(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    let mut bytes = b"*3\r\n$4\r\nEVAL\r\n$1000000\r\n".to_vec();
    bytes.resize(900_000, b'x');
    hold(bed, stop, &bytes)
}

/// One request again and again, so many at once.
fn repeat(bed: &Bed, stop: &AtomicBool, request: &[&[u8]], at_once: usize) -> Result<()> {
    let mut wire = bed.connect(APP1)?;
    let burst = encode(request).repeat(at_once);
    while goes_on(stop) {
        wire.send_raw(&burst)?;
        for _ in 0..at_once {
            wire.read()?;
        }
    }
    Ok(())
}

fn pipelines(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    repeat(bed, stop, &[b"INCR", b"n"], 500)
}

fn refused(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    repeat(bed, stop, &[b"SHUTDOWN"], 500)
}

fn unread(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    bed.connect(APP1)?
        .command(&[b"SET".as_slice(), b"large", &vec![b'v'; 100_000]])?;
    hold(bed, stop, &encode(&["GET", "large"]).repeat(20))
}

fn messages(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    let mut silent: Vec<Wire> = Vec::new();
    for _ in 0..20 {
        let mut wire = bed.connect(APP1)?;
        wire.command(&["SUBSCRIBE", "news"])?;
        silent.push(wire);
    }
    repeat(bed, stop, &[b"PUBLISH", b"news", &[b'm'; 1000]], 100)
}

fn values(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    repeat(bed, stop, &[b"SET", b"value", &vec![b'v'; 16 << 20]], 1)
}

/// Keys for KEYS and elements for SORT.
fn fill(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect(APP1)?;
    wire.command(&["DEL", "list"])?;
    for number in 0..20_000 {
        wire.send(&["SET", &format!("key:{number}"), "v"])?;
        wire.send(&["RPUSH", "list", &number.to_string()])?;
        wire.read()?;
        wire.read()?;
    }
    Ok(())
}

fn keys(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    fill(bed)?;
    repeat(bed, stop, &[b"KEYS", b"*"], 1)
}

fn sort(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    fill(bed)?;
    repeat(bed, stop, &[b"SORT", b"list", b"ALPHA"], 1)
}

fn scripts(bed: &Bed, stop: &AtomicBool) -> Result<()> {
    let text: &[u8] = b"for i = 1, 100000 do local x = i * i end return 1";
    repeat(bed, stop, &[b"EVAL", text, b"0"], 1)
}
