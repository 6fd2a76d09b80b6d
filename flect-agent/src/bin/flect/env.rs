//! `flect env`: environments, each one shared Valkey.

mod add;
mod list;
mod rebalance;
mod set;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use flect_agent::config::environments::Folders;
use serde_json::json;

use crate::Global;

/// The arguments of `flect env`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the environments that are known here.
    #[command(visible_alias = "ls")]
    List,
    /// Choose the environment for the commands that follow.
    Use(UseArgs),
    /// Show the environment: server, memory, stores.
    Show(UseArgsOptional),
    /// Set memory and eviction of the environment, for all its stores together.
    Set(set::Args),
    /// Move stores between the shards of a cluster until none has much more than the others.
    Rebalance(rebalance::Args),
    /// Make an environment known to this user.
    Add(Box<add::Args>),
    /// Forget an environment that this user has added. Nothing happens to its Valkey.
    Remove(UseArgs),
}

#[derive(clap::Args)]
struct UseArgs {
    /// The environment
    name: String,
}

#[derive(clap::Args)]
struct UseArgsOptional {
    /// The environment [default: the chosen one]
    name: Option<String>,
}

/// Runs a subcommand.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List => list::run(global),
        Command::Use(args) => select(global, &args.name),
        Command::Show(args) => show::run(global, args.name.as_deref()),
        Command::Set(args) => set::run(global, args),
        Command::Rebalance(args) => rebalance::run(global, args),
        Command::Add(args) => add::run(global, args),
        Command::Remove(args) => add::remove(global, &args.name),
    }
}

fn select(global: &Global, name: &str) -> anyhow::Result<ExitCode> {
    Folders::from_env().select(name)?;
    let shown = json!({ "selected": name });
    crate::output::print(global.json, &shown, |_| {
        format!("environment {name} from now on")
    })?;
    Ok(ExitCode::SUCCESS)
}
