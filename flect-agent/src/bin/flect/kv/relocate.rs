//! `flect kv move`: a store on another shard of its cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use flect_agent::placement::{Manner, Moved};
use flect_agent::store::{Slot, Slug};
use serde::Serialize;

use crate::Global;
use crate::moving::{Mover, shard_named};
use crate::operator::{Operator, block_on, slug};
use crate::progress::keys;

/// The arguments of `flect kv move`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Apps stay connected. Keys go one after the other, and scripts, transactions and commands with
several keys wait while those are apart, at most 10 seconds: move what is large when little is
done with it. One very large value occupies both servers until it is over.

With --whole nobody waits longer than for the last bytes, for which Valkey 9 is needed. But when
the other server is too busy to take over in time (`cluster-manual-failover-timeout`), Valkey can
lose writes that it has confirmed.

A slot that several stores share moves with all of them. Interrupted, the same command goes on.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// The shard's primary: its address, or its node id or how that begins
    #[arg(long, value_name = "SHARD")]
    to: String,
    /// Let Valkey 9 move the store as a whole, which may lose writes when servers are very busy
    #[arg(long)]
    whole: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a Slug,
    slot: u16,
    /// Where it was.
    from: String,
    /// Where it is.
    to: String,
    /// None: it was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    manner: Option<Manner>,
    keys: u64,
    seconds: f64,
    resumed: bool,
    /// Other stores that were in the same slot.
    along: Vec<&'a Slug>,
}

/// Moves it, or goes on moving.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let (name, record) = snapshot.get(&args.name)?;
        let slot = Slot::of_store(&record.prefix);
        let mut mover = Mover::new(&operator.admin, &snapshot, args.whole).await?;
        let topology = mover.topology();
        let to = shard_named(topology, &args.to)?.clone();
        let from = topology
            .of(slot)
            .with_context(|| format!("no shard has slot {slot}; see CLUSTER NODES"))?
            .clone();
        let began = Instant::now();
        let moved: Option<Moved> = match from.id == to.id {
            true => None,
            false => Some(mover.carry(slot, &from, &to, args.name.as_str()).await?),
        };
        let along = mover.stores_in(slot).map(|(other, _)| other);
        let shown = Shown {
            name,
            slot: slot.number(),
            from: from.primary.to_string(),
            to: to.primary.to_string(),
            manner: moved.map(|moved| moved.manner),
            keys: moved.map_or(0, |moved| moved.keys),
            seconds: began.elapsed().as_secs_f64(),
            resumed: moved.is_some_and(|moved| moved.resumed),
            along: along.filter(|other| *other != name).collect(),
        };
        crate::output::print(global.json, &shown, text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn text(shown: &Shown<'_>) -> String {
    let Shown { name, to, .. } = shown;
    if shown.manner.is_none() {
        return format!("store {name} is at {to} already");
    }
    let along = match shown.along.as_slice() {
        [] => String::new(),
        others => {
            let names: Vec<&str> = others.iter().map(|other| other.as_str()).collect();
            format!(", and with it {}", names.join(", "))
        }
    };
    format!(
        "store {name} is at {to} now{along}: {} in {:.1} s",
        keys(shown.keys),
        shown.seconds
    )
}
