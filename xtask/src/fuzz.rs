//! `cargo xtask fuzz`: bytes that an engine makes up, to the parts that read bytes of others.
//!
//! The targets are in `flect-agent/fuzz/src`; `cargo test` replays the committed inputs without the engine.
//!
//! Invariant: progress goes to stderr, what was found to stdout; the status is 1 when a target failed.

pub mod compiler;
mod engine;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use flect_tests::tools;

use engine::{Engine, Outcome};

const AFTERWARDS: &str = "\
The targets share the time. The corpus grows in target/fuzz/corpus/TARGET and begins with the committed
one; --keep makes the committed one anew from it, smallest inputs first. An input that fails is made
short and written to target/fuzz/findings. Put it into flect-agent/fuzz/regressions/TARGET.txt with the
fix: `cargo test -p flect-fuzz` replays it from then on.

The exit status is 0 when everything held, 1 when something did not.

  cargo xtask fuzz --minutes 60
  cargo xtask fuzz --target replies --target exec --seed 7
  cargo xtask fuzz --target replies --input target/fuzz/findings/replies-1f2e";

/// The arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(after_long_help = AFTERWARDS)]
pub struct Args {
    /// How long to look, all targets together
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Only this target; may be given more than once
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// The engine's seed [default: by the clock]
    #[arg(long, value_name = "S")]
    seed: Option<u32>,
    /// Print the targets
    #[arg(long)]
    list: bool,
    /// Run the one target with this input alone
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Instead of fuzzing, commit the smallest inputs that reach all that the grown corpus reaches
    #[arg(long, conflicts_with_all = ["list", "input", "seed", "minutes"])]
    keep: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

/// Fuzzes.
///
/// # Errors
/// When the engine does not build or run, or a name is no target's.
pub fn run(args: &Args) -> Result<ExitCode> {
    let engine = Engine::new(compiler::build()?)?;
    let all = engine.targets()?;
    if args.list {
        for (name, about) in &all {
            println!("{name:<10} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    for name in &args.targets {
        let known = all.iter().any(|(known, _)| known == name);
        ensure!(known, "there is no target {name}; --list names them");
    }
    let chosen: Vec<String> = all
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| args.targets.is_empty() || args.targets.contains(name))
        .collect();
    if let Some(input) = &args.input {
        ensure!(chosen.len() == 1, "--input needs one --target");
        return engine.replay(&chosen[0], input);
    }
    if args.keep {
        for target in &chosen {
            println!("{target}: {} inputs", engine.keep(target)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let seed = args.seed.unwrap_or_else(seed_by_the_clock);
    let time = Duration::from_secs(args.minutes * 60);
    let outcomes = share(&engine, &chosen, time, seed)?;
    if args.json {
        let outcomes: Vec<_> = outcomes.iter().map(Outcome::json).collect();
        let all = serde_json::json!({"seed": seed, "targets": outcomes});
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for outcome in &outcomes {
            println!("{outcome}");
        }
        println!("seed {seed}");
    }
    let failed = outcomes.iter().any(|outcome| outcome.finding.is_some());
    Ok(ExitCode::from(u8::from(failed)))
}

/// A short look at every target, as `cargo xtask test` takes it: how many held and how many did not.
///
/// # Errors
/// When the engine does not build or run.
pub fn look(time: Duration) -> Result<(u64, u64)> {
    let engine = Engine::new(compiler::build()?)?;
    let names: Vec<String> = engine.targets()?.into_iter().map(|it| it.0).collect();
    let outcomes = share(&engine, &names, time, seed_by_the_clock())?;
    let failed = outcomes.iter().filter(|it| it.finding.is_some()).count();
    for outcome in &outcomes {
        println!("{outcome}");
    }
    Ok(((outcomes.len() - failed) as u64, failed as u64))
}

fn share(engine: &Engine, names: &[String], time: Duration, seed: u32) -> Result<Vec<Outcome>> {
    let each = time / u32::try_from(names.len().max(1))?;
    names
        .iter()
        .map(|name| {
            eprintln!("fuzz: {name}, {} s", each.as_secs().max(1));
            engine.fuzz(name, each, seed)
        })
        .collect()
}

/// The folder of what grows and what was found.
fn folder() -> PathBuf {
    tools::target().join("fuzz")
}

/// Seeds are typed again, so they are short; the engine takes 0 for none.
fn seed_by_the_clock() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().subsec_nanos().max(1)
}
