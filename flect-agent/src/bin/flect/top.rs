//! `flect top`: what every store of this node does, live.
//!
//! Rates are differences of two looks at the agent's counters, so the first answer takes one
//! interval. On a terminal it is a view that keeps itself up to date; everywhere else, and with
//! `--once`, a table that is printed once, which pipes and screen readers can take.

mod figures;
mod live;
mod model;
mod plain;
mod sampler;
mod theme;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use crate::Global;
use model::Sort;
use sampler::Sampler;

/// Between two looks unless the command line says otherwise: what people can follow.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// The arguments of `flect top`.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds between two looks, from 0.1; with --json one document a line for each [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval)]
    interval: Option<Duration>,
    /// Print a table once and end, as happens where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// What the stores are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Requests)]
    sort: Sort,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let complaint = || format!("'{text}' is no interval: expected seconds, from 0.1 to 3600");
    let seconds: f64 = text.parse().map_err(|_| complaint())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(complaint()),
    }
}

/// Shows the stores until the user has seen enough.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let interval = args.interval.unwrap_or(INTERVAL_DEFAULT);
    // The first look now, so that a missing agent is an error and not an empty view.
    let mut sampler = Sampler::start(&global.socket)?;
    // Such as Emacs' shell: it is a terminal but cannot move the cursor.
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if global.json {
        let forever = args.interval.is_some() && !args.once;
        plain::json(&mut sampler, interval, args.sort, forever)
    } else if args.once || dumb || !std::io::stdout().is_terminal() {
        plain::table(&mut sampler, interval, args.sort)
    } else {
        live::run(sampler, interval, args.sort, global.color)
    }
}

#[cfg(test)]
mod tests;
