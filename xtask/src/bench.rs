//! `cargo xtask bench`: measurements, as tables for people and as JSON for programs.
//!
//! Invariant: every number is a ratio of two measurements of one run, or stands beside one, since machines
//! differ and are noisy.

mod neighbour;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How much slower a store becomes when another one takes all it can get
    Neighbour(neighbour::Args),
}

/// Measures.
///
/// # Errors
/// When a part cannot be started, or a reply is wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Neighbour(args) => neighbour::run(args),
    }
}
