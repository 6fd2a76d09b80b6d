//! `flect`, the users' command: one file per command.
//!
//! Invariant: stdout has the answer and nothing else (with `--json` one JSON document); progress,
//! notes and errors go to stderr.

mod doctor;
mod env;
mod failure;
mod kv;
mod node;
mod operator;
mod output;
mod status;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    no environment or no agent can be reached
  4    there is no such store or app

Environment variables:
  FLECT_ENV         the environment to work on, unless --env names one
  FLECT_CONFIG_DIR  the folder of environments.toml, instead of /etc/flect and ~/.config/flect
  NO_COLOR          no colours";

/// Key-value stores on a shared Valkey.
#[derive(Parser)]
#[command(name = "flect", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args)]
pub struct Global {
    /// The environment to work on [default: FLECT_ENV, then `flect env use`, then the only one]
    #[arg(long, global = true, value_name = "NAME")]
    pub env: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Colours: when stdout is a terminal and NO_COLOR is not set, always, or never
    #[arg(long, global = true, value_enum, default_value_t = clap::ColorChoice::Auto)]
    pub color: clap::ColorChoice,
    /// The control socket of this node's agent
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/flect/agent.sock"
    )]
    pub socket: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Make, list, look into and remove stores.
    Kv(kv::Args),
    /// List, choose and set up environments.
    Env(env::Args),
    /// Look at everything that flect needs, and say what to do where it is missing.
    Doctor(doctor::Args),
    /// Show whether the agent of this node serves, with what, and whom.
    Status(status::Args),
    /// Show what every store of this node does, live.
    Top(top::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::set_colors(cli.global.color);
    let global = &cli.global;
    let result = match &cli.command {
        Command::Kv(args) => kv::run(global, args),
        Command::Env(args) => env::run(global, args),
        Command::Doctor(args) => doctor::run(global, args),
        Command::Status(args) => status::run(global, args),
        Command::Top(args) => top::run(global, args),
    };
    result.unwrap_or_else(|error| Failure::report(&error, global.json))
}
