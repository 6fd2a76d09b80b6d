//! `flect explain`: what the agent would do with a command, and why.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use flect_agent::explain::{self, Argument, Explanation, Place};
use flect_agent::store::{Prefix, Slug};

use crate::Global;
use crate::operator::{Operator, block_on, slug};
use crate::output::{ERROR, FAINT, GOOD, HEAD};

/// The prefix of no store in particular, as the documentation has it.
const EXAMPLE: &str = "{k7m2x}";

/// The arguments of `flect explain`.
#[derive(clap::Args)]
pub struct Args {
    /// The store, to see its own prefix; asks the environment [default: an example]
    #[arg(long, value_name = "NAME", value_parser = slug)]
    store: Option<Slug>,
    /// The selected database
    #[arg(long, value_name = "N", default_value_t = 0)]
    database: u32,
    /// A command and its arguments, or all of it in one word as redis-cli takes it
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Explains; touches no server unless a store is named.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let prefix = match &args.store {
        None => Prefix::parse(EXAMPLE)?,
        Some(slug) => block_on(async {
            let mut operator = Operator::connect(global).await?;
            let snapshot = operator.admin.registry().snapshot().await?;
            Ok(snapshot.get(slug)?.1.prefix.clone())
        })?,
    };
    let place = Place {
        prefix,
        database: args.database,
    };
    let words: Vec<Vec<u8>> = args
        .command
        .iter()
        .map(|word| word.clone().into_vec())
        .collect();
    let explained = match words.as_slice() {
        [line] => explain::line(line, &place)?,
        words => explain::words(words, &place),
    };
    let explained = explained.context("there is no command in an empty line")?;
    crate::output::print(global.json, &explained, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(explained: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{HEAD}{}{HEAD:#}  {}: {}\n",
        if explained.command.is_empty() {
            "?"
        } else {
            &explained.command
        },
        explained.policy,
        explained.reason
    );
    let mut row = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:<11} {text}");
        }
    };
    let sent: Vec<String> = explained.sent.iter().map(argument).collect();
    row("to Valkey", &sent.join(" "));
    if let Some(error) = &explained.error {
        row("error", &format!("{ERROR}{error}{ERROR:#}"));
    } else {
        row("reply", &explained.reply);
    }
    if let Some(example) = &explained.example {
        row("", &format!("{} becomes {}", example.server, example.app));
    }
    let connection = match explained.connection_reason.as_str() {
        "" => explained.connection.to_owned(),
        reason => format!("{}: {reason}", explained.connection),
    };
    row("connection", &connection);
    for (number, right) in explained.rights.iter().enumerate() {
        row(if number == 0 { "rights" } else { "" }, right);
    }
    for (number, note) in explained.notes.iter().enumerate() {
        let name = if number == 0 { "note" } else { "" };
        row(name, &format!("{FAINT}{note}{FAINT:#}"));
    }
    out
}

/// An argument as redis-cli would quote it, what was added in colour.
fn argument(argument: &Argument) -> String {
    let added = String::from_utf8_lossy(&argument.added);
    let own = String::from_utf8_lossy(&argument.own);
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\'';
    if (added.is_empty() && own.is_empty()) || !added.chars().chain(own.chars()).all(plain) {
        let escaped = |text: &str| text.escape_debug().to_string();
        return format!("\"{GOOD}{}{GOOD:#}{}\"", escaped(&added), escaped(&own));
    }
    format!("{GOOD}{added}{GOOD:#}{own}")
}
