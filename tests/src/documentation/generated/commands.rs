//! `docs/commands.md` from what `flect commands --json` says.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools::Programs;

const HEAD: &str = "\
# What each command does in a store

Every command of Valkey 8.0, 8.1 and 9.1, as `flect commands` tells it. This page is made from the
program and compared with it by a test. `flect explain COMMAND ARGS...` tells the same of one
request, with the request that Valkey gets.

| policy | meaning |
| --- | --- |
| rewrite | names get the prefix, the server carries it out, names in the reply lose the prefix |
| scoped | it is about all keys, channels or databases: the agent gives it the meaning that it has in the store |
| local | the agent answers |
| operator | refused with `NOPERM` and the reason |

Sessions of a store share connections to the server; where 'own' stands, a session has one of its own
while the command needs it. A command that the server does not know gets the server's own error.
Commands of modules are refused.
";

/// The policies in the page's order.
const POLICIES: [&str; 4] = ["rewrite", "scoped", "local", "operator"];

/// The page.
///
/// # Errors
/// When `flect` does not answer, or answers otherwise.
pub fn page() -> Result<String> {
    let output = Command::new(Programs::beside_current()?.flect)
        .args(["commands", "--json"])
        .stdin(Stdio::null())
        .output()
        .context("starting flect")?;
    ensure!(output.status.success(), "flect commands --json fails");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let mut page = HEAD.to_owned();
    for policy in POLICIES {
        let members = all.iter().filter(|command| command["policy"] == policy);
        section(&mut page, policy, &members.collect::<Vec<_>>())?;
    }
    Ok(page)
}

fn section(page: &mut String, policy: &str, members: &[&Value]) -> Result<()> {
    ensure!(!members.is_empty(), "no command has the policy {policy}");
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {policy}\n\n{} commands.\n\n", members.len());
    let answered = policy == "rewrite" || policy == "scoped";
    page.push_str(if answered {
        "| command | since | why and how | reply | connection |\n| --- | --- | --- | --- | --- |\n"
    } else {
        "| command | since | why and how |\n| --- | --- | --- |\n"
    });
    for command in members {
        let text = |field: &str| command[field].as_str().context("text").map(cell);
        let since = match text("since")? {
            // The oldest server that is supported.
            oldest if oldest == "8.0" => String::new(),
            other => other,
        };
        let _ = write!(
            page,
            "| {} | {since} | {} |",
            text("command")?,
            text("reason")?
        );
        if answered {
            let own = match command["own_connection"].as_bool() {
                Some(true) => "own",
                _ => "",
            };
            let _ = write!(page, " {} | {own} |", reply(&text("reply")?));
        }
        page.push('\n');
    }
    Ok(())
}

/// What most commands have in common need not be said of each.
fn reply(text: &str) -> &str {
    if text.starts_with("unchanged") {
        ""
    } else {
        text
    }
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
