//! `cargo xtask restarts`: agents that follow each other while clients are at work.
//!
//! Invariant: what happens goes to stderr, what was counted to stdout; the status is 1 when a connect was
//! refused or a request failed that should not.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use flect_tests::bed::{Bed, cleanup};
use flect_tests::restarts::{self, Settings};
use flect_tests::tools::Programs;

use crate::build;
use crate::sandbox::need_root;
use crate::setup::{self, Part};

const AFTERWARDS: &str = "\
Clients count, one request at a time and in pipelines, in transactions, with a connection for each request,
and one subscribes. What ends without an answer is looked up on the server and tried again; what was carried
out and not answered is a failure.

The exit status is 0 when no connect was refused and no request failed. With `--by kill` both are expected.

  cargo xtask restarts --count 100
  cargo xtask restarts --count 100 --by restart";

/// The arguments of `cargo xtask restarts`.
#[derive(clap::Args)]
#[command(after_long_help = AFTERWARDS)]
pub struct Args {
    /// How often
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// How an agent is followed by another
    #[arg(long, value_enum, default_value_t = Way::Upgrade)]
    by: Way,
    /// Work between two of them, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200)]
    calm: u64,
    /// The folder of the agent to test [default: it is built with optimisation]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<std::path::PathBuf>,
}

/// [`restarts::Way`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// `flect-agent upgrade`
    Upgrade,
    /// As `systemctl restart`: SIGTERM, and the supervisor keeps descriptors
    Restart,
    /// SIGKILL, and nobody keeps anything
    Kill,
}

/// Restarts.
///
/// # Errors
/// When the bed cannot be made or an agent does not come up.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("restarts", "everything it makes is removed at the end")?;
    setup::ensure(&[Part::Valkey])?;
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => build::programs()?,
    };
    cleanup::end_on_signals()?;
    let way = match args.by {
        Way::Upgrade => restarts::Way::Upgraded,
        Way::Restart => restarts::Way::Supervised,
        Way::Kill => restarts::Way::Killed,
    };
    let settings = Settings {
        way,
        count: args.count,
        calm: Duration::from_millis(args.calm),
    };
    let builder = Bed::builder()
        .programs(programs)
        .agent_keys("drain_seconds = 2");
    let report = restarts::run(builder, &settings, |line| {
        eprintln!("restarts: {way}: {line}");
    })?;
    println!("{way}: {}", report.text());
    let seen = report.tally.refused > 0 || report.tally.failed > 0;
    Ok(ExitCode::from(u8::from(seen && args.by != Way::Kill)))
}
