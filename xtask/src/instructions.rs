//! `cargo xtask instructions`: what a request costs in the agent's own code, in instructions, against what was
//! written down when it was last looked at.
//!
//! The cases are in `flect-agent/instructions`; callgrind counts them, so the numbers are the same on a busy
//! machine and an idle one. What the kernel does for a request is not among them: `cargo xtask bench` measures.
//!
//! Invariant: a case that is missing on either side fails, as one that has become dearer does.

mod baseline;
mod counted;
mod table;

use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::setup::{self, Part};
use baseline::{Baseline, Verdict};
use counted::Count;

const AFTERWARDS: &str = "\
Another compiler, another C library or another processor makes other code of the same source. Where what the
numbers were made with is not what counts now, all are scaled by what redis-protocol's decoders make of it,
and twice as much is borne.

The exit status is 1 when a case has become dearer by more than a tenth, or is new.

  cargo xtask instructions
  cargo xtask instructions --update      # then say in the commit why";

/// The arguments of `cargo xtask instructions`.
#[derive(clap::Args)]
#[command(after_long_help = AFTERWARDS)]
pub struct Args {
    /// Write the counts down as those to compare with from now on
    #[arg(long)]
    update: bool,
    /// Also say how long each case takes by this machine's clock
    #[arg(long)]
    time: bool,
    /// Print tables for BENCHMARKS.md
    #[arg(long)]
    markdown: bool,
}

/// Counts, and compares or writes down.
///
/// # Errors
/// When something cannot be built or counted.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Part::Valgrind])?;
    let folder = build::instructions()?;
    let counts = counted::count(&folder)?;
    let times = match args.time {
        true => counted::time(&folder)?,
        false => Vec::new(),
    };
    if args.update {
        Baseline::of(&counts, counted::made_with()?).save()?;
    }
    let baseline = Baseline::load()?;
    let verdicts = baseline.judge(&counts, &counted::made_with()?);
    if args.markdown {
        print!("{}", table::markdown(&counts, &times, &baseline.made_with));
    } else {
        print!("{}", table::text(&counts, &times, &verdicts));
    }
    let failed = verdicts.iter().any(Verdict::is_failure);
    Ok(ExitCode::from(u8::from(failed)))
}

/// The same as a stage of `cargo xtask test`: how many cases held, and how many did not.
///
/// # Errors
/// As [`run`].
pub fn check() -> Result<(u64, u64)> {
    let counts = counted::count(&build::instructions()?)?;
    let verdicts = Baseline::load()?.judge(&counts, &counted::made_with()?);
    print!("{}", table::text(&counts, &[], &verdicts));
    let failed = verdicts.iter().filter(|it| it.is_failure()).count();
    Ok(((verdicts.len() - failed) as u64, failed as u64))
}

/// The agent's own cases; the others are the limits.
fn is_own(count: &Count) -> bool {
    count.by == "flect"
}
