//! `flect`, the users' command: one file per command.
//!
//! Invariant: stdout has the answer and nothing else (with `--json` one JSON document); progress,
//! notes and errors go to stderr.

mod app;
mod aside;
mod check;
mod commands;
mod completions;
mod dev;
mod doctor;
mod env;
mod examples;
mod explain;
mod failure;
mod kv;
mod man;
mod moving;
mod node;
mod operator;
mod output;
mod progress;
mod run;
mod status;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

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
#[command(next_help_heading = "Global options")]
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
    /// Run a command inside its app, with the URLs of the stores in its flect.toml.
    ///
    /// Each `[[kv]]` gives the command the variable BINDING_URL. What the environment sets already
    /// stays as it is, then comes `.env.local` beside flect.toml, then flect; where those two set
    /// everything, no agent is needed. flect becomes the command: signals, exit code and terminal are
    /// its own. Exit codes of flect itself: 125 when it failed, 126 when the command cannot be
    /// executed, 127 when there is no such command.
    Run(run::Args),
    /// Develop without a node: a private Valkey with the stores of flect.toml, and a command.
    ///
    /// Needs neither root nor eBPF, only a valkey-server. Variables are as with `flect run`. Data, tokens
    /// and logs are kept in `.flect` beside flect.toml, which git ignores. Everything stops with the
    /// command, or with Ctrl-C. Exit codes are those of `flect run`; a command ended by a signal gives
    /// 128 and the signal's number.
    Dev(dev::Args),
    /// Check a flect.toml.
    Check(check::Args),
    /// Tell what the agent would do with a command, and why.
    Explain(explain::Args),
    /// List all commands of Valkey with what the agent does with them.
    Commands(commands::Args),
    /// Print the completions for a shell.
    Completions(completions::Args),
    /// Write the manual pages.
    Man(man::Args),
    /// Look at everything that flect needs, and say what to do where it is missing.
    Doctor(doctor::Args),
    /// Show whether the agent of this node serves, with what, and whom.
    Status(status::Args),
    /// Show what every store of this node does, live.
    Top(top::Args),
}

impl Command {
    /// Does it talk to the Valkey as the operator?
    fn works_on_environment(&self) -> bool {
        matches!(
            self,
            Self::Kv(_) | Self::Env(_) | Self::Doctor(_) | Self::Check(_) | Self::Explain(_)
        )
    }
}

/// The tree of commands, with examples.
fn tree() -> clap::Command {
    examples::add(Cli::command())
}

/// A reader that has seen enough (`flect kv list | head`) ends flect quietly, as it ends other
/// commands; Rust would have writing to it fail instead. Sockets are written with MSG_NOSIGNAL.
#[expect(unsafe_code, reason = "no library offers to restore SIGPIPE")]
fn end_with_reader() {
    // SAFETY: no other thread runs yet, and the default action needs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

fn main() -> ExitCode {
    end_with_reader();
    let matches = tree().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    output::set_colors(cli.global.color);
    let global = &cli.global;
    if cli.command.works_on_environment() {
        aside::step(&global.socket);
    }
    let result = match &cli.command {
        Command::Kv(args) => kv::run(global, args),
        Command::Env(args) => env::run(global, args),
        Command::Run(args) => run::run(global, args),
        Command::Dev(args) => dev::run(global, args),
        Command::Check(args) => check::run(global, args),
        Command::Explain(args) => explain::run(global, args),
        Command::Commands(args) => commands::run(global, args),
        Command::Completions(args) => completions::run(global, args),
        Command::Man(args) => man::run(global, args),
        Command::Doctor(args) => doctor::run(global, args),
        Command::Status(args) => status::run(global, args),
        Command::Top(args) => top::run(global, args),
    };
    result.unwrap_or_else(|error| Failure::report(&error, global.json))
}
