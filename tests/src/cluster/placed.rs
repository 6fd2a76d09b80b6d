//! `flect kv move` and `flect env rebalance`, while apps work and keep ledgers.

use std::process::Output;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::Own;
use super::moves::{Ledger, NEVER_DEAD_MS, STORES, Work, check, keep_ledger};
use super::town::Town;
use crate::bed::Bed;
use crate::tools::FURTHER_VALKEYS;

pub const BODIES: [(&str, Own); 4] = [
    ("stores_move_under_load", stores_move),
    ("stores_move_as_a_whole", as_a_whole),
    ("rebalance_spreads_stores", rebalance),
    ("one_server_has_no_shards", no_shards),
];

/// Keys of each store besides the ledgers.
const KEYS: usize = 2_000;

fn flect(bed: &Bed, words: &[&str]) -> Result<Output> {
    let mut command = bed.flect()?;
    command.args(words).output().context("starting flect")
}

/// What it answers with `--json`.
fn told(bed: &Bed, words: &[&str]) -> Result<Value> {
    let output = flect(bed, &[words, &["--json"]].concat())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "flect {words:?}: {error}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What it complains of.
fn complaint(bed: &Bed, words: &[&str]) -> Result<String> {
    let output = flect(bed, words)?;
    ensure!(!output.status.success(), "flect {words:?} was done");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs while each store's client keeps a ledger, which is checked, and no connection may have ended.
fn under_load(town: &Town, list: &str, body: impl FnOnce(&Work) -> Result<()>) -> Result<()> {
    let work = Work::default();
    let ledgers = thread::scope(|scope| -> Result<Vec<Ledger>> {
        let work = &work;
        let clients =
            STORES.map(|store| scope.spawn(move || keep_ledger(town, store, list, 1, false, work)));
        let done = body(work);
        work.ends.store(true, Ordering::Relaxed);
        let joined: Result<Vec<_>, _> = clients.into_iter().map(|it| it.join()).collect();
        done?;
        joined.map_err(|_| anyhow!("a client panicked"))
    })?;
    for (store, ledger) in STORES.into_iter().zip(&ledgers) {
        check(town, store, list, ledger).with_context(|| store)?;
        let ended = ledger.ended;
        ensure!(ended == 0, "{store}: {ended} connections ended");
        ensure!(!ledger.confirmed.is_empty(), "{store}: no work was done");
    }
    Ok(())
}

fn is_whole(town: &Town, store: &str) -> Result<()> {
    let mut wire = town.connect(store)?;
    let count = wire.command(&["DBSIZE"])?.text();
    // The ledger is one more.
    let expect = (KEYS + 1).to_string();
    ensure!(count == expect, "{store}: {count} keys, not {expect}");
    let told = wire.command(&["FCALL", "f", "0"])?.text();
    ensure!(told == "there", "{store}: FCALL: {told}");
    Ok(())
}

fn stores_move() -> Result<()> {
    let town = Town::new(FURTHER_VALKEYS[0], NEVER_DEAD_MS)?;
    for store in STORES {
        town.fill(store, KEYS, &"x".repeat(100))?;
    }
    under_load(&town, "ledger", |work| {
        for round in 0..3 {
            for store in STORES {
                let served = work.served.load(Ordering::Relaxed);
                let from = town.owner(town.slot(store)?)?;
                let to = (from + 1 + round % 2) % 3;
                let place = match round {
                    0 => town.nodes[to].id[..12].to_owned(),
                    _ => town.nodes[to].address(),
                };
                let told = told(&town.bed, &["kv", "move", store, "--to", &place])?;
                ensure!(told["manner"] == "key-by-key", "{told}");
                ensure!(told["resumed"] == false, "{told}");
                ensure!(told["to"] == town.nodes[to].address(), "{told}");
                ensure!(told["keys"].as_u64() >= Some(KEYS as u64), "{told}");
                ensure!(told["along"] == serde_json::json!([]), "{told}");
                town.until("the new shard has it", || {
                    Ok(town.owner(town.slot(store)?)? == to)
                })?;
                town.until("clients are served", || {
                    Ok(work.served.load(Ordering::Relaxed) > served)
                })?;
            }
        }
        Ok(())
    })?;
    for store in STORES {
        is_whole(&town, store)?;
    }
    begun_by_others(&town)?;
    let place = town.nodes[0].address();
    told(&town.bed, &["kv", "move", "store1", "--to", &place])?;
    let again = told(&town.bed, &["kv", "move", "store1", "--to", &place])?;
    ensure!(again["manner"].is_null(), "{again}");
    let wrong = complaint(&town.bed, &["kv", "move", "store1", "--to", "10.0.0.1:1"])?;
    ensure!(
        wrong.contains("no primary of this cluster") && wrong.contains(&place),
        "{wrong}"
    );
    let elsewhere = town.nodes[1].address();
    let words = ["kv", "move", "store1", "--to", &elsewhere, "--whole"];
    let wrong = complaint(&town.bed, &words)?;
    ensure!(wrong.contains("only Valkey 9"), "{wrong}");
    let wrong = complaint(&town.bed, &["kv", "move", "nobodys", "--to", &place])?;
    ensure!(wrong.contains("nobodys"), "{wrong}");
    Ok(())
}

/// By the servers themselves, where somebody wants it. Writes under way may be lost, so there are none.
fn as_a_whole() -> Result<()> {
    let town = Town::new(FURTHER_VALKEYS[1], NEVER_DEAD_MS)?;
    town.fill("store1", KEYS, &"x".repeat(100))?;
    town.connect("store1")?.command(&["RPUSH", "ledger", "1"])?;
    let to = (town.owner(town.slot("store1")?)? + 1) % 3;
    let place = town.nodes[to].address();
    let words = ["kv", "move", "store1", "--to", &place, "--whole"];
    let mut done = None;
    town.until("the servers are not too busy", || {
        let told = told(&town.bed, &words);
        let too_busy = told
            .as_ref()
            .is_err_and(|error| format!("{error:#}").contains("Unpaused before migration"));
        if !too_busy {
            done = Some(told);
        }
        Ok(done.is_some())
    })?;
    let told = done.context("it was moved")??;
    // What came through after all is there already.
    ensure!(
        told["manner"] == "whole" || told["manner"].is_null(),
        "{told}"
    );
    ensure!(town.owner(town.slot("store1")?)? == to, "{told}");
    is_whole(&town, "store1")
}

/// A move that was cut off in the middle is gone on with, and not led astray.
fn begun_by_others(town: &Town) -> Result<()> {
    let slot = town.slot("store2")?;
    let from = town.owner(slot)?;
    let (source, target) = (&town.nodes[from], &town.nodes[(from + 1) % 3]);
    let other = town.nodes[(from + 2) % 3].address();
    let number = slot.to_string();
    target.order(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source.id])?;
    source.order(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target.id])?;
    let mut wire = source.wire()?;
    let some = wire.command(&["CLUSTER", "GETKEYSINSLOT", &number, "20"])?;
    let port = target.port.number().to_string();
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    let names: Vec<String> = some.items().iter().map(|name| name.text()).collect();
    words.extend(names.iter().map(String::as_str));
    ensure!(wire.command(&words)?.text() == "OK", "MIGRATE");
    let wrong = complaint(&town.bed, &["kv", "move", "store2", "--to", &other])?;
    ensure!(
        wrong.contains("on its way") && wrong.contains(&target.id),
        "{wrong}"
    );
    let told = told(
        &town.bed,
        &["kv", "move", "store2", "--to", &target.address()],
    )?;
    ensure!(told["resumed"] == true, "{told}");
    ensure!(told["manner"] == "key-by-key", "{told}");
    is_whole(town, "store2")
}

fn rebalance() -> Result<()> {
    let town = Town::new(FURTHER_VALKEYS[1], NEVER_DEAD_MS)?;
    let place = town.nodes[0].address();
    for (store, bytes) in STORES.into_iter().zip([1_000, 900, 800]) {
        town.fill(store, KEYS, &"x".repeat(bytes))?;
        told(&town.bed, &["kv", "move", store, "--to", &place])?;
    }
    let owners = || -> Result<Vec<usize>> {
        let owners = STORES
            .into_iter()
            .map(|store| town.owner(town.slot(store)?));
        let mut owners: Vec<usize> = owners.collect::<Result<_>>()?;
        owners.sort_unstable();
        Ok(owners)
    };
    town.until("all are there", || Ok(owners()? == [0, 0, 0]))?;
    let planned = told(&town.bed, &["env", "rebalance", "--dry-run"])?;
    ensure!(
        planned["moves"].as_array().map(Vec::len) == Some(2),
        "{planned}"
    );
    ensure!(planned["moves"][0]["done"] == false, "{planned}");
    ensure!(owners()? == [0, 0, 0], "it was a plan");
    under_load(&town, "ledger", |_| {
        let done = told(&town.bed, &["env", "rebalance", "--max-moves", "1"])?;
        ensure!(done["moves"].as_array().map(Vec::len) == Some(1), "{done}");
        let done = told(&town.bed, &["env", "rebalance"])?;
        ensure!(done["moves"].as_array().map(Vec::len) == Some(1), "{done}");
        ensure!(done["moves"][0]["done"] == true, "{done}");
        Ok(())
    })?;
    town.until("each has its own", || Ok(owners()? == [0, 1, 2]))?;
    let even = told(&town.bed, &["env", "rebalance", "--by", "keys"])?;
    ensure!(even["moves"] == serde_json::json!([]), "{even}");
    for store in STORES {
        is_whole(&town, store)?;
    }
    // What the servers do not count is said to be so.
    let wrong = complaint(
        &town.bed,
        &["env", "rebalance", "--by", "cpu", "--seconds", "1"],
    )?;
    ensure!(wrong.contains("cluster-slot-stats-enabled"), "{wrong}");
    for node in &town.nodes {
        node.order(&["CONFIG", "SET", "cluster-slot-stats-enabled", "yes"])?;
    }
    under_load(&town, "second", |_| {
        for by in ["cpu", "traffic"] {
            let words = [
                "env",
                "rebalance",
                "--dry-run",
                "--by",
                by,
                "--seconds",
                "1",
            ];
            let told = told(&town.bed, &words)?;
            let shards = told["shards"].as_array().context("shards")?;
            ensure!(shards.len() == 3, "{told}");
            let busy = shards.iter().filter(|it| it["before"].as_u64() > Some(0));
            ensure!(busy.count() == 3, "{told}");
        }
        Ok(())
    })
}

/// Where there are no shards, that is said.
fn no_shards() -> Result<()> {
    let bed = Bed::builder().start()?;
    for words in [
        &["kv", "move", "app2", "--to", "x"][..],
        &["env", "rebalance"],
    ] {
        let wrong = complaint(&bed, words)?;
        ensure!(wrong.contains("one server"), "{words:?}: {wrong}");
    }
    Ok(())
}
