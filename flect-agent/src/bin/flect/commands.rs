//! `flect commands`: the command table, with the policy of each and why.

use std::process::ExitCode;

use clap::ValueEnum;
use flect_agent::commands::{self, Placement, Policy};
use flect_agent::explain::{name, policy_name, reason, reply_words};
use serde::Serialize;

use crate::Global;
use crate::output::table;

/// The arguments of `flect commands`.
#[derive(clap::Args)]
pub struct Args {
    /// Only commands with this policy
    #[arg(long, value_enum, value_name = "POLICY")]
    policy: Option<Chosen>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chosen {
    /// Names get the prefix, the server answers
    Rewrite,
    /// The agent carries it out for one store
    Scoped,
    /// The agent answers
    Local,
    /// Refused
    Operator,
}

impl Chosen {
    fn is(self, policy: Policy) -> bool {
        matches!(
            (self, policy),
            (Self::Rewrite, Policy::Rewrite)
                | (Self::Scoped, Policy::Scoped(_))
                | (Self::Local, Policy::Local(_))
                | (Self::Operator, Policy::Operator(_))
        )
    }
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    command: String,
    policy: &'static str,
    reason: &'static str,
    /// What becomes of names in its reply.
    reply: &'static str,
    /// Whether a session needs a connection of its own for it.
    own_connection: bool,
    /// The oldest Valkey that has it, of those that are supported.
    since: String,
}

/// Lists the commands; containers without a meaning of their own are left out.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let rows: Vec<Row> = commands::all()
        .iter()
        .filter(|command| !command.container || command.accepts(1))
        .filter(|command| args.policy.is_none_or(|chosen| chosen.is(command.policy)))
        .map(|command| Row {
            command: name(command),
            policy: policy_name(command.policy),
            reason: reason(command, command.policy),
            reply: match command.policy {
                Policy::Rewrite | Policy::Scoped(_) => reply_words(command.reply),
                Policy::Local(_) => "the agent's own",
                Policy::Operator(_) => "an error",
            },
            own_connection: command.policy == Policy::Rewrite
                && command.placement != Placement::Shared,
            since: format!("{}.{}", command.since.major, command.since.minor),
        })
        .collect();
    crate::output::print(global.json, &rows, |rows| {
        let head = ["COMMAND", "POLICY", "WHY"].map(str::to_owned).to_vec();
        let line = |row: &Row| vec![row.command.clone(), row.policy.into(), row.reason.into()];
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(line)).collect();
        table(&lines)
    })?;
    Ok(ExitCode::SUCCESS)
}
