//! Metrics say what clients did.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::http::{bed, scrape};
use super::text::Scrape;
use super::{Body, limit};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, UNCLAIMED};
use crate::smoke::check;
use crate::tools;

pub const TRIALS: [(&str, Body); 3] = [
    ("metrics_say_what_clients_did", say_what_clients_did),
    ("metrics_are_bounded_by_stores", are_bounded_by_stores),
    ("metrics_are_documented", are_documented),
];

/// Memory limits are measured within seconds.
const MEASURED_WITHIN: Duration = Duration::from_secs(60);

fn say_what_clients_did() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder())?;
    let mut client = bed.connect(APP1)?;
    for number in 0..20 {
        check(&mut client, &format!("SET k{number} v"), "OK")?;
        check(&mut client, &format!("GET k{number}"), "v")?;
    }
    // One that fails, one that is refused, one that blocks, one in a transaction.
    ensure!(
        client.command(&["INCR", "k1"])?.text().contains("integer"),
        "INCR"
    );
    ensure!(
        !client.command(&["SHUTDOWN"])?.text().is_empty(),
        "SHUTDOWN"
    );
    let mut popping = bed.connect(APP1)?;
    popping.send(&["BLPOP", "list", "0"])?;
    let of = |scrape: &Scrape, name: &str, class: &str| {
        scrape.sum(name, &[("store", "store1"), ("class", class)])
    };
    let mut seen = Scrape::default();
    let waited = wait_until(Duration::from_secs(10), || {
        seen = Scrape::parse(&scrape(&socket)?)?;
        let role = [("store", "store1"), ("role", "own")];
        Ok(of(&seen, "flect_store_requests_total", "blocking") >= 1.0
            && seen.sum("flect_store_upstream_connections", &role) >= 1.0)
    });
    waited.with_context(|| format!("{seen:?}"))?;
    let requests = "flect_store_requests_total";
    // The failed INCR is a write as well.
    ensure!(
        of(&seen, requests, "write") == 21.0,
        "writes: {}",
        of(&seen, requests, "write")
    );
    ensure!(
        of(&seen, requests, "read") == 20.0,
        "reads: {}",
        of(&seen, requests, "read")
    );
    ensure!(of(&seen, requests, "blocking") == 1.0, "blocking");
    let failed = [("store", "store1"), ("kind", "failed")];
    ensure!(
        seen.sum("flect_store_errors_total", &failed) == 1.0,
        "failed"
    );
    let rejected = [("store", "store1"), ("kind", "rejected")];
    ensure!(
        seen.sum("flect_store_errors_total", &rejected) >= 1.0,
        "rejected"
    );
    let store = [("store", "store1")];
    ensure!(
        seen.one("flect_store_refused_total", &store)? == 1.0,
        "refused"
    );
    let operator = [("store", "store1"), ("reason", "operator-command")];
    ensure!(
        seen.one("flect_store_refusals_total", &operator)? == 1.0,
        "refused, with its reason"
    );
    let duration = "flect_store_request_duration_seconds";
    let count = of(&seen, &format!("{duration}_count"), "read");
    ensure!(count == 20.0, "{count} durations");
    let last = seen.find(
        "flect_store_request_duration_seconds_bucket",
        &[("store", "store1"), ("class", "read"), ("le", "+Inf")],
    );
    ensure!(
        last.map(|s| s.value).sum::<f64>() == count,
        "buckets do not add up"
    );
    ensure!(
        of(&seen, &format!("{duration}_sum"), "read") > 0.0,
        "no time has passed"
    );
    ensure!(
        seen.one("flect_store_connections", &store)? == 2.0,
        "connections"
    );
    ensure!(
        seen.one("flect_store_received_bytes_total", &store)? > 500.0,
        "bytes"
    );
    ensure!(
        seen.one("flect_store_sent_bytes_total", &store)? > 200.0,
        "bytes"
    );
    let shared = [("store", "store1"), ("role", "shared")];
    ensure!(
        seen.one("flect_store_upstream_connections", &shared)? >= 1.0,
        "shared"
    );
    node(&seen)?;

    // What a neighbour without an app is refused is counted by its reason.
    let mut stranger = bed.connect(UNCLAIMED)?;
    stranger.send_raw(b"PING\r\n")?;
    let _ = stranger.read_to_end()?;
    let seen = Scrape::parse(&scrape(&socket)?)?;
    let identity = seen.one("flect_refusals_total", &[("reason", "identity")])?;
    ensure!(identity >= 1.0, "no refusal is counted");
    Ok(())
}

fn node(seen: &Scrape) -> Result<()> {
    ensure!(seen.one("flect_ready", &[])? == 1.0, "not ready");
    ensure!(
        seen.one("flect_valkey_reachable", &[])? == 1.0,
        "not reachable"
    );
    let workers = seen.one("flect_workers", &[])?;
    ensure!(
        workers >= 1.0 && seen.one("flect_workers_answering", &[])? == workers,
        "workers"
    );
    let hooks: Vec<_> = seen.find("flect_hook_attached", &[]).collect();
    ensure!(
        hooks.len() >= 9 && hooks.iter().all(|hook| hook.value == 1.0),
        "{hooks:?}"
    );
    for map in ["namespaces", "handshakes", "pending", "sockets"] {
        let entries = seen.one("flect_map_entries", &[("map", map)])?;
        let most = seen.one("flect_map_entries_max", &[("map", map)])?;
        ensure!(entries < most, "{map}: {entries} of {most}");
    }
    ensure!(
        seen.one("flect_map_entries", &[("map", "namespaces")])? >= 1.0,
        "namespaces"
    );
    ensure!(
        seen.find("flect_acceleration", &[]).count() == 2,
        "acceleration"
    );
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        ensure!(seen.one(name, &[])? > 1.0, "{name}");
    }
    Ok(())
}

/// Whatever clients send, no further line comes.
fn are_bounded_by_stores() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder())?;
    let mut client = bed.connect(APP1)?;
    let every = [
        "SET a 1",
        "GET a",
        "EVAL return 0",
        "MULTI",
        "EXEC",
        "PUBLISH c m",
        "PING",
        "NOSUCH",
        "LPUSH l 1",
        "BLPOP l 1",
    ];
    let play = |client: &mut crate::wire::Wire| -> Result<()> {
        for line in every {
            let words: Vec<_> = line.split(' ').collect();
            client.command(&words)?;
        }
        Ok(())
    };
    play(&mut client)?;
    let before = Scrape::parse(&scrape(&socket)?)?;
    for number in 0..200 {
        client.command(&[&format!("NOSUCH{number}"), "x"])?;
        client.command(&["SET", &format!("{{other}}:{number}\n\"{number}"), "v"])?;
        client.command(&["CLIENT", "SETNAME", &format!("client{number}")])?;
    }
    let mut more = bed.connect(APP1)?;
    play(&mut more)?;
    let after = Scrape::parse(&scrape(&socket)?)?;
    ensure!(
        before.samples.len() == after.samples.len(),
        "{} samples became {}",
        before.samples.len(),
        after.samples.len()
    );
    let prefix = bed.prefix("store1")?;
    let text = scrape(&socket)?;
    ensure!(!text.contains(&prefix), "a prefix is told");
    ensure!(
        text.contains("store=\"store1\"") && text.contains("store=\"app2\""),
        "{text}"
    );
    Ok(())
}

/// The page lists what a scrape has, no more and no less.
fn are_documented() -> Result<()> {
    let page = tools::workspace().join("docs/monitoring.md");
    let page = fs::read_to_string(page)?;
    let (_, tables) = page.split_once("\n## Metrics\n").context("no metrics")?;
    let rows = tables
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let listed: BTreeSet<&str> = rows
        .flat_map(|row| row.split("`, `"))
        .map(|it| it.trim_matches('`'))
        .collect();
    let (bed, _folder, socket) = bed(Bed::builder())?;
    // What is told only where it is set or measured.
    limit(&bed)?;
    let mut app = bed.connect(APP1)?;
    check(&mut app, "SET a 1", "OK")?;
    ensure!(
        app.command(&["SHUTDOWN"])?.text().starts_with('-'),
        "SHUTDOWN"
    );
    let mut told = BTreeSet::new();
    let waited = wait_until(MEASURED_WITHIN, || {
        let seen = Scrape::parse(&scrape(&socket)?)?;
        let suffix = |name: &str, kind: &str| {
            if kind == "counter" {
                format!("{name}_total")
            } else {
                name.to_owned()
            }
        };
        told = seen
            .families
            .iter()
            .map(|(name, kind)| suffix(name, kind))
            .collect();
        // Every family has values now.
        let with_values = |name: &String| {
            seen.samples
                .iter()
                .any(|sample| sample.name.starts_with(name.as_str()))
        };
        Ok(told.iter().all(with_values))
    });
    waited.context("some family has no value")?;
    let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
    ensure!(
        listed == told,
        "listed, not told: {:?}; told, not listed: {:?}",
        &listed - &told,
        &told - &listed
    );
    Ok(())
}
