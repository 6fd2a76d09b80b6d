//! Slots that move, primaries that die and nodes that are replaced, while clients keep a ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::Own;
use super::town::Town;
use crate::tools::FURTHER_VALKEYS;
use crate::wire::Wire;

pub const BODIES: [(&str, Own); 2] = [
    ("slots_move_under_load", slots_move),
    ("primaries_die_and_nodes_are_replaced", primaries_die),
];

/// The stores: each has clients and a slot.
pub(super) const STORES: [&str; 3] = ["store1", "store2", "store3"];
/// Keys of a store besides the ledgers, so that a slot takes some time to move.
const KEYS: usize = 300;
/// Requests of one pipeline.
const PIPELINE: u64 = 8;
/// Between two tries of a client that was disconnected.
const RETRY: Duration = Duration::from_millis(10);

/// Where nobody dies, a busy machine must not make a node look dead.
pub(super) const NEVER_DEAD_MS: u32 = 30_000;
const DEAD_AFTER_MS: u32 = 1500;

/// How long a planned failover may take before it is asked for again (`CLUSTER_MF_TIMEOUT`).
const ELECTION: Duration = Duration::from_secs(6);

/// What a client knows when it ends.
#[derive(Default)]
pub(super) struct Ledger {
    pub confirmed: Vec<u64>,
    /// How often its connection ended, and what it was told that it must not be.
    pub ended: u64,
    wrong: Vec<String>,
}

/// When clients end, and what they have done.
#[derive(Default)]
pub(super) struct Work {
    pub ends: AtomicBool,
    pub served: AtomicU64,
}

/// Pushes one number after the other, so many at a time, and never the same one twice. With `waits` only those
/// count that a replica had when the client was told.
pub(super) fn keep_ledger(
    town: &Town,
    store: &str,
    list: &str,
    at_once: u64,
    waits: bool,
    work: &Work,
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut wire: Option<Wire> = None;
    let mut next = 1;
    while !work.ends.load(Ordering::Relaxed) {
        let numbers: Vec<u64> = (next..next + at_once).collect();
        next += at_once;
        let mut push = || -> Result<Vec<String>> {
            if wire.is_none() {
                wire = Some(town.connect(store)?);
            }
            let wire = wire.as_mut().context("just connected")?;
            for number in &numbers {
                wire.send(&["RPUSH", list, &number.to_string()])?;
            }
            let told: Result<Vec<String>, _> = numbers
                .iter()
                .map(|_| wire.read().map(|value| value.text()))
                .collect();
            let told = told?;
            if waits {
                ensure!(
                    wire.command(&["WAIT", "1", "500"])?.text() == "1",
                    "not replicated"
                );
            }
            Ok(told)
        };
        match push() {
            Ok(told) => {
                for (number, told) in numbers.iter().zip(told) {
                    if told.parse::<u64>().is_ok() {
                        ledger.confirmed.push(*number);
                    } else {
                        ledger.wrong.push(told);
                    }
                }
                work.served.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                ledger.ended += 1;
                wire = None;
                thread::sleep(RETRY);
            }
        }
    }
    ledger
}

/// Nothing twice, nothing in another order, nothing lost that was confirmed, nobody told of slots.
pub(super) fn check(town: &Town, store: &str, list: &str, ledger: &Ledger) -> Result<()> {
    ensure!(
        ledger.wrong.is_empty(),
        "told: {:?}",
        &ledger.wrong[..ledger.wrong.len().min(5)]
    );
    let stored = town.connect(store)?.command(&["LRANGE", list, "0", "-1"])?;
    let stored: Vec<u64> = stored
        .items()
        .iter()
        .filter_map(|item| item.text().parse().ok())
        .collect();
    let disorder = stored.windows(2).find(|pair| pair[0] >= pair[1]);
    ensure!(
        disorder.is_none(),
        "twice or in another order: {disorder:?}"
    );
    let confirmed = &ledger.confirmed;
    let lost: Vec<_> = confirmed
        .iter()
        .filter(|number| stored.binary_search(number).is_err())
        .collect();
    ensure!(
        lost.is_empty(),
        "lost {} of {}, {:?} first",
        lost.len(),
        confirmed.len(),
        &lost[..lost.len().min(20)]
    );
    Ok(())
}

fn slots_move() -> Result<()> {
    let town = Town::new(FURTHER_VALKEYS[0], NEVER_DEAD_MS)?;
    for store in STORES {
        town.fill(store, KEYS, store)?;
    }
    let work = Work::default();
    let (town, work) = (&town, &work);
    let (single, piped) = thread::scope(|scope| -> Result<_> {
        let start = |list: &'static str, at_once| {
            STORES.map(|store| {
                scope.spawn(move || keep_ledger(town, store, list, at_once, false, work))
            })
        };
        let (single, piped) = (start("single", 1), start("piped", PIPELINE));
        let counter = scope.spawn(move || count_keys(town, work));
        let moves = || -> Result<()> {
            let mut served = 0;
            for round in 1..=6 {
                for store in STORES {
                    let slot = town.slot(store)?;
                    let to = (town.owner(slot)? + round % 2 + 1) % 3;
                    town.move_slot(slot, to)
                        .with_context(|| format!("moving {store}"))?;
                }
                // Every round goes on when clients have been served again.
                town.until("clients are served", || {
                    Ok(work.served.load(Ordering::Relaxed) > served + 100)
                })?;
                served = work.served.load(Ordering::Relaxed);
            }
            Ok(())
        };
        let moved = moves();
        work.ends.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a client panicked");
        let join = |clients: [thread::ScopedJoinHandle<'_, Ledger>; 3]| -> Result<Vec<Ledger>> {
            let joined = clients.into_iter().map(|it| it.join().map_err(panicked));
            joined.collect()
        };
        let ledgers = (join(single)?, join(piped)?);
        let counted = counter.join().map_err(panicked)?;
        moved?;
        counted.context("DBSIZE")?;
        Ok(ledgers)
    })?;
    for ((store, single), piped) in STORES.into_iter().zip(&single).zip(&piped) {
        check(town, store, "single", single).with_context(|| format!("{store}, one by one"))?;
        check(town, store, "piped", piped).with_context(|| format!("{store}, pipelines"))?;
        eprintln!(
            "{store}: one by one {} confirmed, {} connections ended; pipelines {} confirmed, {} ended",
            single.confirmed.len(),
            single.ended,
            piped.confirmed.len(),
            piped.ended
        );
        // One request at a time is never disturbed: it is answered, wherever its slot is.
        ensure!(
            single.ended == 0,
            "{store}: {} connections ended",
            single.ended
        );
        let mut wire = town.connect(store)?;
        ensure!(wire.command(&["GET", "k7"])?.text() == store, "isolation");
        let told = wire.command(&["FCALL", "f", "0"])?.text();
        ensure!(told == "there", "{store}: FCALL after moves: {told}");
    }
    Ok(())
}

/// A store that is on its way is counted whole or not yet.
fn count_keys(town: &Town, work: &Work) -> Result<()> {
    let mut wire = town.connect("store1")?;
    while !work.ends.load(Ordering::Relaxed) {
        let told = wire.command(&["EVAL", "return 1", "0"])?.text();
        ensure!(told == "1", "EVAL: {told}");
        let told = wire.command(&["DBSIZE"])?.text();
        let count: usize = told.parse().with_context(|| told.clone())?;
        // The ledgers' two lists come while it counts.
        ensure!((KEYS..=KEYS + 2).contains(&count), "{count} keys");
        thread::sleep(RETRY);
    }
    Ok(())
}

fn primaries_die() -> Result<()> {
    let mut town = Town::new(FURTHER_VALKEYS[0], DEAD_AFTER_MS)?;
    let slot = town.slot("store1")?;
    let work = Work::default();
    let first = town.owner(slot)?;
    let ledgers = thread::scope(|scope| -> Result<Vec<Ledger>> {
        let (town, work) = (&town, &work);
        let clients: Vec<_> = STORES
            .map(|store| scope.spawn(move || keep_ledger(town, store, "list", 1, true, work)))
            .into_iter()
            .collect();
        let dies = || -> Result<()> {
            let more = |count: u64| {
                let before = work.served.load(Ordering::Relaxed);
                town.until("clients are served", || {
                    Ok(work.served.load(Ordering::Relaxed) >= before + count)
                })
            };
            more(50)?;
            town.kill(first)?;
            town.until("a replica takes its place", || {
                Ok(town.owner(slot)? != first)
            })?;
            town.until("the store is served", || {
                Ok(town.connect("store1")?.command(&["SET", "k", "v"])?.text() == "OK")
            })
        };
        let died = dies();
        work.ends.store(true, Ordering::Relaxed);
        let joined = clients.into_iter().map(|client| client.join());
        let joined: Result<Vec<_>, _> = joined.collect();
        died?;
        joined.map_err(|_| anyhow!("a client panicked"))
    })?;
    for (store, ledger) in STORES.into_iter().zip(&ledgers) {
        check(&town, store, "list", ledger).with_context(|| store)?;
    }
    // Another node comes for the dead one, and has its turn as primary.
    let second = town.owner(slot)?;
    let node = town.start_node(6)?;
    town.nodes.push(node);
    town.meet(&town.nodes[6])?;
    let id = town.nodes[second].id.clone();
    town.until("the new node follows", || {
        let mut wire = town.nodes[6].wire()?;
        let _ = wire.command(&["CLUSTER", "REPLICATE", &id])?;
        let told = wire.command(&["INFO", "replication"])?.text();
        Ok(told.contains("master_link_status:up"))
    })?;
    town.until("the others know it", || {
        let told = town.nodes[second].wire()?.command(&["CLUSTER", "NODES"])?;
        Ok(told
            .text()
            .lines()
            .any(|line| line.contains(&town.nodes[6].id) && line.contains("slave")))
    })?;
    let mut asked: Option<Instant> = None;
    town.until("the new node is primary", || {
        // Primaries give one vote in twice their timeout, and an election that was lost is not held again.
        if asked.is_none_or(|at| at.elapsed() > ELECTION) {
            town.nodes[6].order(&["CLUSTER", "FAILOVER"])?;
            asked = Some(Instant::now());
        }
        Ok(town.owner(slot)? == 6)
    })?;
    town.until("the store is served there", || {
        let told = town
            .connect("store1")?
            .command(&["SET", "k", "new"])?
            .text();
        ensure!(told == "OK", "{told}");
        let key = format!("{}:k", town.bed.prefix("store1")?);
        Ok(town.nodes[6].wire()?.command(&["GET", &key])?.text() == "new")
    })?;
    Ok(())
}
