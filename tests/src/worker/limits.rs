//! Connections, commands per second and memory.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flect_agent::metrics::StoreMetrics;
use flect_agent::registry::Limits;

use super::node::{self, Node, app, record};
use super::{ended, said};
use crate::bed::agent::wait_until;
use crate::smoke::check;
use crate::wire::{Wire, encode};

const TOO_MANY: &str = "-ERR max number of clients reached";
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

/// A connection beyond the limit is told so as Valkey tells it, when it begins and when it changes
/// stores.
pub fn connections(node: &mut Node) -> Result<()> {
    let narrow = node.store("narrow")?;
    let wide = node.store("wide")?;
    let limits = Limits {
        connections: Some(2),
        ..Limits::default()
    };
    narrow.follow(&record(&narrow, limits, None));
    let only = app(&[&narrow]);
    let both = app(&[&wide, &narrow]);
    let mut first = node.connect(&only)?;
    check(&mut first, "PING", "PONG")?;
    let mut chosen = node.connect_to(1, &both, |_| {})?;
    check(&mut chosen, "AUTH narrow x", "OK")?;
    for worker in 0..node.workers.len() {
        let mut third = node.connect_to(worker, &only, |_| {})?;
        ensure!(third.read()?.text() == TOO_MANY, "a third");
        ended(&mut third)?;
        let mut third = node.connect_to(worker, &both, |_| {})?;
        check(&mut third, "PING", "PONG")?;
        check(&mut third, "AUTH narrow x", TOO_MANY)?;
        ended(&mut third)?;
    }
    ensure!(StoreMetrics::of(&narrow).refused == 4, "refused");
    // Its own store again is no further connection.
    check(&mut chosen, "AUTH narrow x", "OK")?;
    check(&mut chosen, "RESET", "RESET")?;
    let mut third = node.connect(&only)?;
    check(&mut third, "PING", "PONG")?;
    drop(first);
    wait_until(node::PATIENCE, || Ok(narrow.sessions() == 1))?;
    check(&mut chosen, "AUTH narrow x", "OK")
}

/// Sends `count` PINGs at once and says how long the replies took.
fn pings(wire: &mut Wire, count: usize) -> Result<Duration> {
    let begin = Instant::now();
    let burst: Vec<u8> = (0..count).flat_map(|_| encode(&["PING"])).collect();
    wire.send_raw(&burst)?;
    for _ in 0..count {
        ensure!(wire.read()?.text() == "PONG", "PING");
    }
    Ok(begin.elapsed())
}

/// Commands wait for the store's rate, in pipelines too and whichever worker has the sessions; the
/// neighbours do not wait with them.
pub fn paced(node: &mut Node) -> Result<()> {
    let slow = node.store("slow")?;
    let free = node.store("free")?;
    let limits = Limits {
        commands_per_second: Some(200),
        ..Limits::default()
    };
    slow.follow(&record(&slow, limits, None));
    let paced = app(&[&slow]);
    let mut wires: Vec<Wire> = (0..4)
        .map(|number| node.connect_to(number % 2, &paced, |_| {}))
        .collect::<Result<_>>()?;
    let mut neighbour = node.connect(&app(&[&free]))?;
    let begin = Instant::now();
    let (worst, times) = std::thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> = wires
            .iter_mut()
            .map(|wire| scope.spawn(|| pings(wire, 100)))
            .collect();
        let mut worst = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(1) {
            worst = worst.max(pings(&mut neighbour, 1)?);
        }
        let times = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        Ok((worst, times.collect::<Result<Vec<_>>>()?))
    })?;
    // 400 at 200 a second, of which 20 may come at once.
    let all = begin.elapsed();
    ensure!(all > Duration::from_millis(1850), "400 commands in {all:?}");
    ensure!(all < Duration::from_secs(20), "400 commands in {all:?}");
    let first = times.iter().min().copied().unwrap_or_default();
    ensure!(
        first > all / 2,
        "one session was served in {first:?} of {all:?}"
    );
    ensure!(
        worst < Duration::from_secs(1),
        "a neighbour waited {worst:?}"
    );
    let metrics = StoreMetrics::of(&slow);
    ensure!(
        metrics.requests == 400 && metrics.errors == 0,
        "{metrics:?}"
    );
    ensure!(
        (300..=400).contains(&metrics.delayed),
        "{} delayed",
        metrics.delayed
    );
    ensure!(
        StoreMetrics::of(&free).delayed == 0,
        "a neighbour was delayed"
    );
    // After a pause there is something to spare.
    std::thread::sleep(Duration::from_millis(150));
    let burst = pings(&mut wires[0], 10)?;
    ensure!(
        burst < Duration::from_secs(1),
        "a burst of 10 took {burst:?}"
    );
    // Streamed requests count as well, and a client that goes while it waits is no harm.
    let value = vec![b'x'; 200_000];
    for _ in 0..3 {
        ensure!(
            wires[1].command(&[b"SET".as_slice(), b"k", &value])?.text() == "OK",
            "SET"
        );
    }
    let burst: Vec<u8> = (0..1000).flat_map(|_| encode(&["PING"])).collect();
    wires[0].send_raw(&burst)?;
    drop(wires.remove(0));
    for wire in &mut wires {
        check(wire, "PING", "PONG")?;
    }
    Ok(())
}

/// Who waits under a narrow rate is let go when it is raised or taken away.
pub fn raised(node: &mut Node) -> Result<()> {
    let store = node.store("slow")?;
    let rate = |rate| {
        let limits = Limits {
            commands_per_second: rate,
            ..Limits::default()
        };
        store.follow(&record(&store, limits, None));
    };
    let mut wire = node.connect(&app(&[&store]))?;
    for next in [Some(10_000), None] {
        rate(Some(1));
        let burst: Vec<u8> = (0..500).flat_map(|_| encode(&["PING"])).collect();
        wire.send_raw(&burst)?;
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        rate(next);
        for _ in 0..500 {
            wire.read()?;
        }
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(4), "{next:?}: {took:?}");
    }
    Ok(())
}

/// A full store says what Valkey says at `maxmemory`.
pub fn full_as_valkey(node: &mut Node) -> Result<()> {
    let store = node.store("full")?;
    let private = crate::bed::Bed::builder().direct(true).start()?;
    let mut operator = private.operator()?;
    let mut fill = |full: bool| -> Result<()> {
        store.limits.set_memory_exceeded(full);
        let maxmemory = if full { "1" } else { "0" };
        check(
            &mut operator,
            &format!("CONFIG SET maxmemory {maxmemory}"),
            "OK",
        )
    };
    let mut sides = [
        node.connect(&app(&[&store]))?,
        Wire::connect(private.address())?,
    ];
    const LINES: &[&str] = &[
        "SET k v",
        "RPUSH list a b c",
        "+",
        "SET k w",
        "set k",
        "GET k",
        "LPOP list",
        "LPUSH list d",
        "SETEX k 10 v",
        "NOSUCH x",
        "SORT list STORE other",
        "EVAL_RO return(1) 0",
        "EVAL #!lua\nreturn(1) 0",
        "EVAL #!lua\tflags=no-writes\nreturn(2) 0",
        "EVAL #!lua\tflags=allow-oom\nreturn(3) 0",
        "MULTI",
        "GET k",
        "SET k w",
        "EXEC",
        "MULTI",
        "DISCARD",
        "MULTI",
        "EXEC",
        "MULTI",
        "PING",
        "DISCARD",
        "GET k",
        "-",
        "MULTI",
        "SET k w",
        "GET k",
        "+",
        "EXEC",
        "EXEC",
        "GET k",
        "-",
        "WATCH k",
        "MULTI",
        "SELECT 3",
        "DEL k",
        "GET k",
        "+",
        "EXEC",
        "EXISTS k",
        "DEL list",
        "EXISTS list",
        "PUBLISH news x",
        "SELECT 0",
        "-",
        "SET k w",
        "GET k",
    ];
    for &line in LINES {
        match line {
            "+" | "-" => fill(line == "+")?,
            line => {
                let words: Vec<String> = line.split(' ').map(|w| w.replace('\t', " ")).collect();
                let [store, valkey] = &mut sides;
                let (store, valkey) = (store.command(&words)?, valkey.command(&words)?);
                let same = store.text() == valkey.text();
                ensure!(
                    same,
                    "{line:?}: {} instead of {}",
                    store.text(),
                    valkey.text()
                );
            }
        }
    }
    Ok(())
}

/// What Valkey has no like of: scripts that cannot be judged, requests that stream, and the neighbours.
pub fn full(node: &mut Node) -> Result<()> {
    let store = node.store("full")?;
    let other = node.store("other")?;
    let mut wire = node.connect(&app(&[&store, &other]))?;
    check(&mut wire, "SET k v", "OK")?;
    let sha = wire.command(&["SCRIPT", "LOAD", "return 1"])?.text();
    store.limits.set_memory_exceeded(true);
    let value = vec![b'x'; 300_000];
    let before = StoreMetrics::of(&store);
    ensure!(
        wire.command(&[b"SET".as_slice(), b"k", &value])?.text() == OOM,
        "large"
    );
    ensure!(
        wire.command(&["EVAL", "return 1", "0"])?.text() == OOM,
        "EVAL"
    );
    ensure!(
        wire.command(&["EVALSHA", &sha, "0"])?.text() == OOM,
        "EVALSHA"
    );
    check(&mut wire, &format!("EVALSHA_RO {sha} 0"), "1")?;
    // A large value inside MULTI marks the transaction as well.
    check(&mut wire, "MULTI", "OK")?;
    ensure!(
        wire.command(&[b"SET".as_slice(), b"k", &value])?.text() == OOM,
        "queued"
    );
    ensure!(said(&mut wire, "EXEC")?.starts_with("-EXECABORT"), "EXEC");
    let after = StoreMetrics::of(&store);
    ensure!(
        after.refused - before.refused == 4,
        "{} refused",
        after.refused
    );
    ensure!(after.errors - before.errors == 5, "{} errors", after.errors);
    check(&mut wire, "GET k", "v")?;
    check(&mut wire, "DBSIZE", "1")?;
    check(&mut wire, "AUTH other x", "OK")?;
    check(&mut wire, "SET k v", "OK")?;
    check(&mut wire, "AUTH full x", "OK")?;
    check(&mut wire, "FLUSHDB", "OK")?;
    store.limits.set_memory_exceeded(false);
    check(&mut wire, "SET k w", "OK")
}
