//! What is counted for a store is what its clients did.

use anyhow::{Context, Result, ensure};
use flect_agent::metrics::StoreMetrics;

use super::node::{self, Node, app};
use super::said;
use crate::bed::agent::wait_until;
use crate::smoke::check;
use crate::wire::encode;

/// Requests, errors, refusals, bytes, latencies, commands and keys, over both workers.
pub fn add_up(node: &mut Node) -> Result<()> {
    let store = node.store("counted")?;
    let quiet = node.store("quiet")?;
    let app_of = app(&[&store]);
    let (mut sent, mut got) = (0, 0);
    let rounds = 3200;
    for worker in 0..node.workers.len() {
        let mut wire = node.connect_to(worker, &app_of, |_| {})?;
        let burst: Vec<u8> = (0..rounds)
            .flat_map(|number| {
                let cold = format!("cold:{number}");
                [encode(&["INCR", "hot"]), encode(&["SET", &cold, "1"])].concat()
            })
            .collect();
        sent += burst.len() as u64;
        wire.send_raw(&burst)?;
        for _ in 0..2 * rounds {
            got += wire.read_bytes()?.len() as u64;
        }
        for (line, reply) in [
            ("SET text abc", "OK"),
            ("INCR text", "-ERR value is not an integer or out of range"),
            ("SELECT 99", "-ERR DB index is out of range"),
            ("MULTI", "OK"),
            ("SAVE", ""),
            (
                "EXEC",
                "-EXECABORT Transaction discarded because of previous errors.",
            ),
            ("SAVE", ""),
            ("NOSUCH", ""),
            ("DBSIZE", ""),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            sent += encode(&words).len() as u64;
            wire.send(&words)?;
            let bytes = wire.read_bytes()?;
            got += bytes.len() as u64;
            let text = String::from_utf8_lossy(&bytes);
            ensure!(
                reply.is_empty() || text[1..].contains(reply.trim_start_matches('-')),
                "{line}: {text}"
            );
        }
        let value = vec![b'x'; 500_000];
        let request = encode(&[b"SET".as_slice(), b"large", &value]);
        sent += request.len() as u64;
        wire.send_raw(&request)?;
        got += wire.read_bytes()?.len() as u64;
    }
    // The client may have the last bytes before they are counted.
    let waited = wait_until(node::PATIENCE, || {
        Ok(StoreMetrics::of(&store).bytes_out == got)
    });
    let metrics = StoreMetrics::of(&store);
    waited.with_context(|| format!("{} out, {got} received", metrics.bytes_out))?;
    let workers = node.workers.len() as u64;
    ensure!(
        metrics.requests == workers * (2 * rounds + 10),
        "{} requests",
        metrics.requests
    );
    // INCR, SELECT, SAVE queued, EXEC, SAVE and NOSUCH.
    ensure!(metrics.errors == workers * 6, "{} errors", metrics.errors);
    ensure!(
        metrics.refused == workers * 2,
        "{} refused",
        metrics.refused
    );
    ensure!(
        metrics.bytes_in == sent,
        "{} in, {sent} sent",
        metrics.bytes_in
    );
    let count = |name: &str| {
        let found = metrics.commands.iter().find(|command| command.name == name);
        found.map_or(0, |command| command.count)
    };
    ensure!(
        count("incr") == workers * (rounds + 1),
        "{} INCR",
        count("incr")
    );
    ensure!(
        count("set") == workers * (rounds + 2),
        "{} SET",
        count("set")
    );
    ensure!(count("save") == workers * 2, "{} SAVE", count("save"));
    // What was carried out at once by the agent has no latency: SELECT, SAVE alone, NOSUCH.
    let latency = &metrics.latency_us;
    ensure!(
        latency.count == workers * (2 * rounds + 7),
        "{} latencies",
        latency.count
    );
    ensure!(
        0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max,
        "{latency:?}"
    );
    let hottest = metrics.keys.first().context("no key")?;
    let half = workers * rounds;
    ensure!(hottest.key == "hot", "{hottest:?}");
    ensure!((half / 2..half * 2).contains(&hottest.count), "{hottest:?}");
    let nothing = StoreMetrics::of(&quiet);
    ensure!(
        nothing.requests == 0 && nothing.keys.is_empty(),
        "{nothing:?}"
    );
    ensure!(
        node.workers.iter().all(|worker| worker.upstreams() > 0),
        "upstreams"
    );

    // A command that waits for others is counted, but its latency is theirs.
    let before = latency.count;
    let mut popping = node.connect(&app_of)?;
    popping.send(&["BLPOP", "list", "0"])?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut pushing = node.connect_to(1, &app_of, |_| {})?;
    check(&mut pushing, "RPUSH list 1", "1")?;
    ensure!(popping.read()?.text() == "[list, 1]", "BLPOP");
    let after = StoreMetrics::of(&store);
    ensure!(
        after.latency_us.count == before + 1,
        "{:?}",
        after.latency_us
    );
    ensure!(
        !said(&mut pushing, "AUTH secret-password")?.is_empty(),
        "AUTH"
    );
    for command in StoreMetrics::of(&store).keys {
        ensure!(!command.key.contains("secret"), "{command:?}");
    }
    Ok(())
}
