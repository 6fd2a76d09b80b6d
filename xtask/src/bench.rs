//! `cargo xtask bench`: measurements, as tables for people and as JSON for programs.
//!
//! Invariant: every number is a ratio of two measurements of one run, or stands beside one, since machines
//! differ and are noisy.

mod benchmark;
mod cases;
mod goals;
mod load;
mod measure;
mod neighbour;
mod peers;
mod plot;
mod report;
mod rounds;
mod side;
mod statistics;
mod versus;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use flect_tests::child::Role;

/// What this executable plays as a child.
pub const ROLES: [(&str, Role); 1] = [(load::ROLE, load::role)];

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    versus: versus::Args,
}

#[derive(Subcommand)]
enum What {
    /// How much slower a store becomes when another one takes all it can get
    Neighbour(neighbour::Args),
}

/// Measures for a moment, to see that the bench itself works.
///
/// # Errors
/// When it does not.
pub fn smoke() -> Result<()> {
    versus::run(&versus::Args::smoke()).map(drop)
}

/// Measures.
///
/// # Errors
/// When a part cannot be started, or a reply is wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        Some(What::Neighbour(args)) => neighbour::run(args),
        None => versus::run(&args.versus),
    }
}
