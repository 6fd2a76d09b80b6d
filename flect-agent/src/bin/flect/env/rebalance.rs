//! `flect env rebalance`: stores move until no shard of a cluster has much more than the others.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use flect_agent::placement::{Load, Measure, Step, loads, open_slots, plan, sums};
use flect_agent::reach::{Link, Shard};
use flect_agent::registry::Snapshot;
use flect_agent::store::{Prefix, Slot, Slug};
use flect_agent::usage::{Effort, Survey};
use serde::Serialize;

use crate::Global;
use crate::moving::Mover;
use crate::operator::{Operator, block_on};
use crate::output::{size, table};
use crate::progress::{Progress, count, keys};

/// The arguments of `flect env rebalance`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The shard that has most gives stores to the one that has least, one after the other, until all
are within the tolerance; few moves count for more than the last per cent. What a store asks of
its shard is measured first: bytes from a sample of its keys, keys as Valkey counts them, CPU
time and traffic over some seconds, for which Valkey needs `cluster-slot-stats-enabled yes`.
Slots without stores stay where they are.

Each store moves as `flect kv move` does it: apps stay connected. Interrupted, the same command
ends the move that was begun, measures again and goes on.")]
pub struct Args {
    /// Show what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// What shards should have equally much of
    #[arg(long, value_enum, default_value_t = By::Memory)]
    by: By,
    /// How much a shard may have above the mean, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = percent)]
    tolerance: f64,
    /// How long CPU time and traffic are measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Move at most so many slots
    #[arg(long, value_name = "N")]
    max_moves: Option<usize>,
    /// Let Valkey 9 move stores as a whole, which may lose writes when servers are very busy
    #[arg(long)]
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum By {
    /// Bytes of keys and values
    Memory,
    /// Keys
    Keys,
    /// The servers' CPU time
    Cpu,
    /// Bytes of requests and replies
    Traffic,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(value) if (0.0..=1000.0).contains(&value) => Ok(value),
        _ => Err("expected a number of 0 or more".to_owned()),
    }
}

#[derive(Serialize)]
struct Shown {
    environment: String,
    by: By,
    dry_run: bool,
    /// Slots that an earlier command had left on their way, and that were brought there first.
    resumed: u64,
    shards: Vec<ShownShard>,
    moves: Vec<ShownMove>,
}

#[derive(Serialize)]
struct ShownShard {
    id: String,
    address: String,
    /// What its stores had of what was measured.
    before: u64,
    /// What they have with all moves.
    after: u64,
}

#[derive(Serialize)]
struct ShownMove {
    slot: u16,
    stores: Vec<Slug>,
    from: String,
    to: String,
    weight: u64,
    done: bool,
}

/// Keys of each store that are measured: a store is placed well by a rough idea of its size.
const MEASURED_MIN: u64 = 100;

/// Measures, plans and moves.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let mut mover = Mover::new(&operator.admin, &snapshot, args.whole).await?;
        let link = operator.admin.connection();
        let resumed = match args.dry_run {
            true => 0,
            false => finish(&link, &mut mover).await?,
        };
        let shards: Vec<Shard> = mover.topology().all_shards().cloned().collect();
        let loads = measure(&link, &snapshot, &shards, args).await?;
        let mut steps = plan(shards.len(), &loads, args.tolerance / 100.0);
        steps.truncate(args.max_moves.unwrap_or(usize::MAX));
        let address = |shard: usize| shards[shard].primary.to_string();
        let mut moves = Vec::new();
        for (number, step) in (1..).zip(&steps) {
            let slot = Slot::new(step.slot).context("a slot of the cluster")?;
            let stores = mover
                .stores_in(slot)
                .map(|(name, _)| name.clone())
                .collect();
            if !args.dry_run {
                let what = format!("{number} of {}", steps.len());
                let (from, to) = (&shards[step.from], &shards[step.to]);
                mover.carry(slot, from, to, &what).await?;
            }
            moves.push(ShownMove {
                slot: step.slot,
                stores,
                from: address(step.from),
                to: address(step.to),
                weight: step.weight,
                done: !args.dry_run,
            });
        }
        let before = sums(shards.len(), &loads);
        let after = sums(shards.len(), &moved(&loads, &steps));
        let shards = shards.iter().zip(before.into_iter().zip(after));
        let shown = Shown {
            environment: operator.environment.clone(),
            by: args.by,
            dry_run: args.dry_run,
            resumed,
            shards: shards
                .map(|(shard, (before, after))| ShownShard {
                    id: shard.id.clone(),
                    address: shard.primary.to_string(),
                    before,
                    after,
                })
                .collect(),
            moves,
        };
        crate::output::print(global.json, &shown, text)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Brings slots where they are on their way to: how many.
async fn finish(link: &Link, mover: &mut Mover<'_>) -> anyhow::Result<u64> {
    let shards: Vec<Shard> = mover.topology().all_shards().cloned().collect();
    let mut finished = 0;
    for from in &shards {
        let question = redis::cmd("CLUSTER").arg("NODES").to_owned();
        let told = link.of_node(&from.primary).send(&question).await?;
        let told: String = redis::from_redis_value(told)?;
        for (slot, id) in open_slots(&told) {
            let is_here = mover.topology().of(slot).is_some_and(|it| it.id == from.id);
            let to = shards.iter().find(|shard| shard.id == id);
            if let Some(to) = to.filter(|_| is_here && mover.stores_in(slot).next().is_some()) {
                mover.carry(slot, from, to, "what was begun").await?;
                finished += 1;
            }
        }
    }
    Ok(finished)
}

/// What each slot with stores asks of its shard.
async fn measure(
    link: &Link,
    snapshot: &Snapshot,
    shards: &[Shard],
    args: &Args,
) -> anyhow::Result<Vec<Load>> {
    let period = Duration::from_secs(args.seconds);
    let measure = match args.by {
        By::Memory => return bytes(link, snapshot, shards).await,
        By::Keys => Measure::Keys,
        By::Cpu => Measure::Cpu(period),
        By::Traffic => Measure::Traffic(period),
    };
    let told = loads(link, shards, measure).await?;
    let Some(mut loads) = told else {
        bail!(
            "Valkey does not count that: CONFIG SET cluster-slot-stats-enabled yes on every node, or --by memory"
        );
    };
    let slots: HashSet<u16> = snapshot
        .stores
        .values()
        .map(|record| Slot::of_store(&record.prefix).number())
        .collect();
    loads.retain(|load| slots.contains(&load.slot));
    Ok(loads)
}

/// The same in bytes, from samples.
async fn bytes(link: &Link, snapshot: &Snapshot, shards: &[Shard]) -> anyhow::Result<Vec<Load>> {
    let effort = Effort {
        names_max: None,
        error_max: 0.1,
        measured_min: MEASURED_MIN,
        names_per_second: None,
    };
    let records = snapshot.stores.values();
    let prefixes: Vec<Prefix> = records.map(|record| record.prefix.clone()).collect();
    let mut connection = link.clone();
    let mut survey = Survey::begin(&mut connection, &prefixes, effort).await?;
    let bar = Progress::new("surveying");
    while let Some(progress) = survey.step(&mut connection).await? {
        bar.set(progress.fraction, format!("{} found", keys(progress.found)));
    }
    bar.finish();
    let topology = link.topology().context("the cluster was just seen")?;
    let mut weights: BTreeMap<u16, u64> = BTreeMap::new();
    for (prefix, usage) in &survey.told() {
        let weight = weights.entry(Slot::of_store(prefix).number()).or_default();
        // A count of bytes: far below what a float cannot hold.
        *weight += usage.memory_bytes.value as u64;
    }
    let placed = weights.into_iter().filter_map(|(slot, weight)| {
        let owner = topology.of(Slot::new(slot)?)?;
        let shard = shards.iter().position(|shard| shard.id == owner.id)?;
        Some(Load {
            slot,
            shard,
            weight,
        })
    });
    Ok(placed.collect())
}

fn moved(loads: &[Load], steps: &[Step]) -> Vec<Load> {
    let after = |load: &Load| {
        let step = steps.iter().find(|step| step.slot == load.slot);
        Load {
            shard: step.map_or(load.shard, |step| step.to),
            ..*load
        }
    };
    loads.iter().map(after).collect()
}

fn text(shown: &Shown) -> String {
    let amount = |weight: u64| match shown.by {
        By::Memory => size(weight),
        By::Keys => keys(weight),
        By::Cpu => format!("{:.3} s", weight as f64 / 1e6),
        By::Traffic => size(weight),
    };
    let mut rows = vec![["shard", "before", "after"].map(str::to_owned).to_vec()];
    for shard in &shown.shards {
        rows.push(vec![
            shard.address.clone(),
            amount(shard.before),
            amount(shard.after),
        ]);
    }
    let mut text = table(&rows);
    text.push('\n');
    if shown.resumed > 0 {
        text.push_str(&format!("ended what was begun: {} slots\n", shown.resumed));
    }
    for step in &shown.moves {
        let names: Vec<&str> = step.stores.iter().map(Slug::as_str).collect();
        let word = if step.done { "moved" } else { "would move" };
        text.push_str(&format!(
            "{word} {} ({}) from {} to {}\n",
            names.join(", "),
            amount(step.weight),
            step.from,
            step.to
        ));
    }
    text.push_str(&match (shown.moves.len(), shown.dry_run) {
        (0, _) => "nothing to move".to_owned(),
        (moves, true) => format!("{} to move; without --dry-run they do", slots(moves)),
        (moves, false) => format!("{} moved", slots(moves)),
    });
    text
}

fn slots(number: usize) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} slot{plural}", count(number as u64))
}
