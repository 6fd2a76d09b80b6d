//! `cargo xtask bench neighbour`: one store attacks, another one's requests are timed.
//!
//! Invariant: each attack is compared with the quiet before it, in the same run and at the same agent;
//! the neighbour checks each of its replies meanwhile. Two apps that share a Valkey without an agent have the same
//! done to them: what a machine's processors and Valkey's one thread make of an attack is no doing of an agent.

mod attacks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use flect_tests::bed::{Bed, cleanup};
use flect_tests::tools::Programs;
use flect_tests::witness::Witness;
use serde::Serialize;

use crate::build;
use crate::sandbox::{Accel, need_root};
use crate::setup::{self, Part};
use attacks::ATTACKS;

/// How many times longer the neighbour's 99th percentile may become, under any attack but those that keep
/// the server itself busy (large values, scripts, KEYS, SORT): Valkey carries out one command at a time,
/// so those cost what one such command costs. Where the same attack costs more without an agent, that is the measure.
const FACTOR_STATED: f64 = 10.0;

/// The arguments of `cargo xtask bench neighbour`.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds for each quiet and each attack
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of quiet and attack, of which the median factor counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only attacks whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// End with exit code 1 when a factor is above what is stated
    #[arg(long)]
    check: bool,
    /// Measure the programs in this folder instead of building optimised ones
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Hand bytes over past TCP (sk_msg): as the kernel allows, always, or never
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
}

/// What one attack does to the neighbour.
#[derive(Serialize)]
struct Row {
    attack: &'static str,
    /// It keeps the server itself busy.
    server_bound: bool,
    /// The median of the rounds' factors: a shared machine has its own moments.
    p99_factor: f64,
    /// The median where both share a Valkey without an agent; none where it would do what an agent refuses.
    alone_p99_factor: Option<f64>,
    within: bool,
    rounds: Vec<Round>,
    alone: Vec<Round>,
}

/// Quiet, then attacked.
#[derive(Serialize)]
struct Round {
    quiet: Times,
    attacked: Times,
    p99_factor: f64,
}

impl Round {
    fn new(quiet: Times, attacked: Times) -> Self {
        Self {
            p99_factor: f64::from(attacked.p99_us) / f64::from(quiet.p99_us.max(1)),
            quiet,
            attacked,
        }
    }

    fn measure(bed: &Bed, attack: &attacks::Attack, seconds: u64) -> Result<Self> {
        let quiet = watch(bed, seconds)?;
        let attacked = during(bed, attack, seconds);
        let attacked = attacked.with_context(|| format!("under the attack '{}'", attack.name))?;
        Ok(Self::new(quiet, attacked))
    }
}

/// From the least factor to the greatest.
fn sorted(mut rounds: Vec<Round>) -> Vec<Round> {
    rounds.sort_by(|a, b| a.p99_factor.total_cmp(&b.p99_factor));
    rounds
}

/// The one in the middle, of at least one.
fn median(rounds: &[Round]) -> &Round {
    &rounds[rounds.len() / 2]
}

impl Row {
    /// From at least one round with an agent.
    fn new(attack: &attacks::Attack, rounds: Vec<Round>, alone: Vec<Round>) -> Self {
        let (rounds, alone) = (sorted(rounds), sorted(alone));
        let p99_factor = median(&rounds).p99_factor;
        let alone_p99_factor = (!alone.is_empty()).then(|| median(&alone).p99_factor);
        let stated = alone_p99_factor.unwrap_or(0.0).max(FACTOR_STATED);
        Self {
            attack: attack.name,
            server_bound: attack.server_bound,
            p99_factor,
            alone_p99_factor,
            within: attack.server_bound || p99_factor <= stated,
            rounds,
            alone,
        }
    }
}

/// How long requests took.
#[derive(Clone, Copy, Serialize)]
struct Times {
    requests: usize,
    p50_us: u32,
    p99_us: u32,
    max_us: u32,
}

/// Measures and prints.
///
/// # Errors
/// When a part cannot be started, or the neighbour is not served.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("bench", "everything it makes is removed at the end")?;
    setup::ensure(&[Part::Bpf, Part::Valkey])?;
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => build::programs()?,
    };
    cleanup::end_on_signals()?;
    let bed = Bed::builder()
        .programs(programs)
        .acceleration(args.accel.into())
        .start()?;
    let alone = Bed::builder().direct(true).start()?;
    let mut rows = Vec::new();
    for attack in ATTACKS
        .iter()
        .filter(|attack| attack.name.contains(&args.only))
    {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            with.push(Round::measure(&bed, attack, args.seconds)?);
            if !attack.refused {
                without.push(Round::measure(&alone, attack, args.seconds)?);
            }
        }
        let row = Row::new(attack, with, without);
        if !args.json {
            print(&row, rows.is_empty());
        }
        rows.push(row);
    }
    if args.json {
        let all = serde_json::json!({ "factor_stated": FACTOR_STATED, "rows": rows });
        println!("{all:#}");
    }
    let failed = args.check && rows.iter().any(|row| !row.within);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(row: &Row, first: bool) {
    if first {
        println!(
            "{:<26} {:>10} {:>10} {:>8} {:>13} {:>11} {:>14} {:>8}",
            "attack", "quiet p99", "p99", "factor", "all factors", "max", "without agent", "stated"
        );
    }
    let stated = if row.server_bound {
        "-".to_owned()
    } else {
        format!("{FACTOR_STATED:.0}")
    };
    let without = row.alone_p99_factor.map(|factor| format!("{factor:.1}"));
    let middle = median(&row.rounds);
    let factor = |round: Option<&Round>| round.map_or(0.0, |round| round.p99_factor);
    let (least, most) = (factor(row.rounds.first()), factor(row.rounds.last()));
    let longest = row.rounds.iter().map(|round| round.attacked.max_us).max();
    println!(
        "{:<26} {:>7} us {:>7} us {:>8.1} {:>13} {:>8} us {:>14} {:>8}{}",
        row.attack,
        middle.quiet.p99_us,
        middle.attacked.p99_us,
        row.p99_factor,
        format!("{least:.1} to {most:.1}"),
        longest.unwrap_or(0),
        without.unwrap_or("-".to_owned()),
        stated,
        if row.within { "" } else { "  ABOVE" }
    );
}

/// The neighbour for some seconds.
fn watch(bed: &Bed, seconds: u64) -> Result<Times> {
    let mut witness = Witness::start(bed)?;
    thread::sleep(Duration::from_secs(seconds));
    Ok(times(witness.end()?))
}

/// The same under attack.
fn during(bed: &Bed, attack: &attacks::Attack, seconds: u64) -> Result<Times> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..attack.threads)
            .map(|_| scope.spawn(|| (attack.run)(bed, &stop)))
            .collect();
        let times = watch(bed, seconds);
        stop.store(true, Ordering::Relaxed);
        for attacker in attackers {
            attacker.join().expect("no panic")?;
        }
        times
    })
}

fn times(mut times_us: Vec<u32>) -> Times {
    times_us.sort_unstable();
    let at = |share: usize| {
        let index = times_us.len() * share / 100;
        let last = times_us.len().saturating_sub(1);
        times_us.get(index.min(last)).copied().unwrap_or(0)
    };
    Times {
        requests: times_us.len(),
        p50_us: at(50),
        p99_us: at(99),
        max_us: at(100),
    }
}
