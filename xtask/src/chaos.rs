//! `cargo xtask chaos`: faults while clients of several stores keep an exact ledger.
//!
//! Invariant: the plan goes to stderr as it is carried out, what was found to stdout; the status is 1
//! when the promise was broken.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flect_tests::bed::{Bed, cleanup};
use flect_tests::chaos::{self, Report, Settings, plan::KINDS, relay::Mode};
use flect_tests::tools::{self, Programs};

use crate::build;
use crate::sandbox::need_root;
use crate::setup::{self, Part};

const AFTERWARDS: &str = "\
The clients write, count, queue, move amounts in transactions, publish and run scripts in two stores,
while a third is emptied again and again. One fault comes after the other, each kind once before any comes
twice; after each, every client must be served again. At the end Valkey's data is compared with what was
acknowledged, and the agent must hold no more than before.

The same seed gives the same faults in the same order; what clients are doing just then is not fixed. The
exit status is 0 when the promise was kept, 1 when it was broken.

  cargo xtask chaos --minutes 10
  cargo xtask chaos --minutes 2 --seed 7 --only NoMemory,Garbage";

/// The arguments of `cargo xtask chaos`.
#[derive(clap::Args)]
#[command(after_long_help = AFTERWARDS)]
pub struct Args {
    /// For how long faults begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    minutes: u64,
    /// The seed of the plan [default: by the clock]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only these kinds, such as AgentKilled,Garbage [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// The folder of the agent to test [default: it is built with optimisation]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<std::path::PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Injects faults.
///
/// # Errors
/// When the bed cannot be made, a fault cannot be carried out, or a kind is unknown.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("chaos", "everything it makes is removed at the end")?;
    let kinds = kinds(&args.only)?;
    setup::ensure(&[Part::Valkey])?;
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => build::programs()?,
    };
    cleanup::end_on_signals()?;
    let seed = args.seed.unwrap_or_else(chaos::seed_by_the_clock);
    eprintln!("chaos: seed {seed}, {} min", args.minutes);
    let settings = Settings {
        seed,
        time: Duration::from_secs(args.minutes * 60),
        kinds,
        mode: Mode::Pass,
        stays: None,
    };
    let builder = Bed::builder().programs(programs);
    let report = chaos::run(builder, &settings, |fault| eprintln!("chaos: {fault}"))
        .with_context(|| format!("seed {seed}"))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json(&report, seed))?);
    } else {
        println!("{}", report.text());
    }
    let broken = !report.violations.is_empty();
    if broken {
        let path = chaos::artefact(seed);
        fs::create_dir_all(tools::artefacts())?;
        fs::write(&path, report.text())?;
        eprintln!(
            "chaos: the promise was BROKEN, seed {seed}; {}",
            path.display()
        );
    } else {
        eprintln!("chaos: the promise was kept, seed {seed}");
    }
    Ok(ExitCode::from(u8::from(broken)))
}

fn kinds(only: &[String]) -> Result<Vec<chaos::plan::Kind>> {
    let all = KINDS.map(|(kind, _)| kind);
    if only.is_empty() {
        return Ok(all.to_vec());
    }
    only.iter()
        .map(|name| {
            let found = all.iter().find(|kind| format!("{kind:?}") == *name);
            let Some(found) = found else {
                bail!("no kind {name}; there are {all:?}");
            };
            Ok(*found)
        })
        .collect()
}

fn json(report: &Report, seed: u64) -> serde_json::Value {
    let faults: serde_json::Map<_, _> = report
        .faults
        .iter()
        .map(|(kind, (count, time))| {
            let entry = serde_json::json!({"count": count, "seconds": time.as_secs_f64()});
            (kind.clone(), entry)
        })
        .collect();
    serde_json::json!({
        "seed": seed,
        "violations": report.violations,
        "plan": report.plan,
        "events": report.events,
        "faults": faults,
        "counts": report.tallies,
        "held": report.held,
    })
}
