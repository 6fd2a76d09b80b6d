//! What an app is told of its store: settings, logs, statistics, memory and users, beside a busy
//! neighbour.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::pair::{Pair, Side, shown};
use crate::quoting::split;
use crate::scenario;
use crate::smoke::check;
use crate::wire::{Value, Wire};

/// What a private Valkey says word for word.
pub fn told(pair: &Pair) -> Result<()> {
    scenario::check(pair, include_str!("diagnosis.txt"))
}

fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with("cmdstat_"));
    let lines = lines.filter(|line| !line.starts_with("latency_percentiles_"));
    // The one that the app has come through is the store's only one.
    let lines = lines.filter(|line| !line.starts_with("listener") || line.starts_with("listener0"));
    lines
        .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
        .collect()
}

/// Settings in which the two servers of a pair, or a store and its server, have to differ: where they are and
/// what the bed has told them.
const OWN_SETTINGS: [&str; 7] = [
    "bind",
    "dir",
    "enable-debug-command",
    "enable-module-command",
    "port",
    "protected-mode",
    "unixsocket",
];

/// CONFIG GET tells of every setting what a private server would tell.
pub fn settings(pair: &Pair) -> Result<()> {
    let mut told = Vec::new();
    for side in Side::BOTH {
        let reply = pair.connect(side)?.command(&["CONFIG", "GET", "*"])?;
        let texts: Vec<String> = reply.items().iter().map(Value::text).collect();
        let pairs = texts.chunks_exact(2);
        let pairs = pairs.map(|pair| (pair[0].clone(), pair[1].clone()));
        let mut pairs: BTreeMap<String, String> = pairs.collect();
        for own in OWN_SETTINGS {
            if let Some(value) = pairs.get_mut(own) {
                value.clear();
            }
        }
        told.push(pairs);
    }
    let (valkey, store) = (&told[0], &told[1]);
    ensure!(valkey.len() > 200, "{valkey:?}");
    let differs = |name: &&String| valkey.get(*name) != store.get(*name);
    let names: BTreeSet<&String> = valkey.keys().chain(store.keys()).filter(differs).collect();
    let shown: Vec<_> = names
        .iter()
        .map(|name| format!("{name}: {:?}, {:?}", valkey.get(*name), store.get(*name)))
        .collect();
    ensure!(shown.is_empty(), "Valkey, store: {}", shown.join("\n"));
    Ok(())
}

/// What is counted alike on both sides.
const COUNTED: &str = include_str!("counted.txt");

/// INFO's counts after the same conversation are those of a private server.
pub fn counted(pair: &Pair) -> Result<()> {
    let mut told = Vec::new();
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        let before = said(&mut wire, "INFO persistence")?;
        said(&mut wire, "CONFIG RESETSTAT")?;
        for line in COUNTED.lines().filter(|line| !line.starts_with("//")) {
            let words = split(line).context("a conversation's line")?;
            wire.command(&words)?;
        }
        let text = said(&mut wire, "INFO everything")?;
        let number = |text: &str, name: &str| -> Option<i64> {
            let mut lines = text.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().parse().ok()
        };
        let mut lines = Vec::new();
        for name in ["keyspace_hits", "keyspace_misses", "total_error_replies"] {
            lines.push(format!("{name}:{:?}", number(&text, name)));
        }
        let changes = "rdb_changes_since_last_save";
        let changed = Option::zip(number(&text, changes), number(&before, changes));
        lines.push(format!(
            "{changes}:{:?}",
            changed.map(|(now, then)| now - then)
        ));
        for line in text.lines() {
            if line.starts_with("errorstat_") {
                lines.push(line.to_owned());
            } else if let Some(command) = line.strip_prefix("cmdstat_") {
                // How long it took is not the same.
                let fields = command.split([':', ',']);
                let kept: Vec<&str> = fields.filter(|f| !f.starts_with("usec")).collect();
                lines.push(kept.join(" "));
            }
        }
        lines.sort();
        ensure!(lines.len() > 20, "{text}");
        told.push(lines);
    }
    ensure!(
        told[0] == told[1],
        "private: {:#?}\nstore: {:#?}",
        told[0],
        told[1]
    );
    Ok(())
}

/// INFO has every field that a private server has, and nothing of the neighbour.
pub fn info(pair: &Pair) -> Result<()> {
    let mut neighbour = pair.connect(Side::Store)?;
    check(&mut neighbour, "AUTH store2 any", "OK")?;
    for key in 0..50 {
        check(&mut neighbour, &format!("SET key{key} 1 EX 100"), "OK")?;
    }
    let mut texts = Vec::new();
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        check(&mut wire, "SET kept 1", "OK")?;
        check(&mut wire, "SET gone 1 EX 1000", "OK")?;
        check(&mut wire, "SELECT 3", "OK")?;
        check(&mut wire, "SET other 1", "OK")?;
        said(&mut wire, "INCR")?;
        texts.push(said(&mut wire, "INFO everything")?);
    }
    let [private, store] = texts.as_slice() else {
        anyhow::bail!("two sides")
    };
    let (private_names, store_names) = (names(private), names(store));
    let missing: Vec<_> = private_names.difference(&store_names).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}");
    ensure!(!pair.leaks(store.as_bytes()), "{}", shown(store.as_bytes()));
    for line in [
        "role:master",
        "connected_slaves:0",
        "cluster_enabled:0",
        "connected_clients:1",
        "errorstat_ERR:count=1",
        "cmdstat_set:calls=3,",
        "db3:keys=1,expires=0,avg_ttl=0",
    ] {
        ensure!(store.contains(line), "{line}: {store}");
    }
    ensure!(store.contains("db0:keys=2,expires=1,avg_ttl=9"), "{store}");
    for secret in ["/tmp", "executable:/", "cmdstat_scan", "flect"] {
        ensure!(!store.contains(secret), "{secret}: {store}");
    }
    let server_pid = pair.operator(Side::Store).and_then(|mut operator| {
        let reply = operator.command(&["INFO", "server"])?;
        Ok(reply.text())
    })?;
    let fact = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.to_owned())
    };
    for name in ["run_id:", "process_id:"] {
        let (own, server) = (fact(store, name), fact(&server_pid, name));
        ensure!(own.is_some() && own != server, "{name} {own:?}");
    }
    Ok(())
}

/// The slow log has this store's commands, as the app sent them, and its own settings.
pub fn slow(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    check(&mut wire, "CONFIG SET slowlog-log-slower-than 0", "OK")?;
    check(&mut wire, "SLOWLOG RESET", "OK")?;
    let mut neighbour = pair.connect(Side::Store)?;
    check(&mut neighbour, "AUTH store2 any", "OK")?;
    check(
        &mut neighbour,
        "CONFIG GET slowlog-log-slower-than",
        "[slowlog-log-slower-than, 10000]",
    )?;
    // A busy machine may take longer than the default for anything.
    check(
        &mut neighbour,
        "CONFIG SET slowlog-log-slower-than 10000000",
        "OK",
    )?;
    check(&mut neighbour, "SLOWLOG RESET", "OK")?;
    check(&mut neighbour, "SET foreign 1", "OK")?;
    check(&mut neighbour, "SLOWLOG LEN", "0")?;
    check(&mut wire, "CLIENT SETNAME me", "OK")?;
    check(&mut wire, "SET some:key value", "OK")?;
    wire.command(&["EVAL", "return redis.call('get',KEYS[1])", "1", "some:key"])?;
    check(&mut wire, "KEYS some*", "[some:key]")?;
    let long = "x".repeat(200);
    said(&mut wire, &format!("SET some:key {long}"))?;
    let log = said(&mut wire, "SLOWLOG GET -1")?;
    for part in [
        "[SET, some:key, value]".to_owned(),
        "[EVAL, return redis.call('get',KEYS[1]), 1, some:key]".to_owned(),
        "[KEYS, some*]".to_owned(),
        format!("[SET, some:key, {}... (72 more bytes)]", "x".repeat(128)),
        ", me]".to_owned(),
    ] {
        ensure!(log.contains(&part), "{part}: {log}");
    }
    ensure!(
        !log.contains("foreign") && !pair.leaks(log.as_bytes()),
        "{log}"
    );
    // What takes long by itself is found at the default threshold too.
    check(
        &mut wire,
        "CONFIG SET slowlog-log-slower-than 10000 latency-monitor-threshold 10",
        "OK",
    )?;
    check(&mut wire, "SLOWLOG RESET", "OK")?;
    slow_script(&mut wire)?;
    let log = said(&mut wire, "SLOWLOG GET")?;
    ensure!(log.contains("[EVAL, local t"), "{log}");
    let latest = said(&mut wire, "LATENCY LATEST")?;
    ensure!(latest.starts_with("[[command, "), "{latest}");
    check(&mut wire, "CONFIG SET latency-monitor-threshold 0", "OK")
}

fn slow_script(wire: &mut Wire) -> Result<()> {
    // Time stands still in a script, so it counts: well over ten milliseconds on any machine.
    let script = "local t = 0 for i = 1, 20000000 do t = t + i end return 1";
    let reply = wire.command(&["EVAL", script, "0"]).context("EVAL")?;
    ensure!(reply.text() == "1", "{reply:?}");
    Ok(())
}

fn said(wire: &mut Wire, line: &str) -> Result<String> {
    let words: Vec<_> = line.split(' ').collect();
    Ok(wire.command(&words)?.text())
}
