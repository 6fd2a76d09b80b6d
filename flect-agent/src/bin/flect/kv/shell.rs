//! `flect kv shell`: a prompt inside a store.
//!
//! Everything goes the way of an app's connection: the agent's own worker runs inside this process
//! and has one end of a socket pair for its client. So the store looks exactly as apps see it, and no
//! agent is needed.

mod assist;
mod docs;
mod path;
mod prompt;
mod session;
mod show;
mod words;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use flect_agent::resp::value::Value;
use flect_agent::store::Slug;

use crate::Global;
use crate::failure::Failure;
use crate::operator::slug;
use path::DataPath;
use session::{Answer, Session};
use show::{Look, show};

/// The arguments of `flect kv shell`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  flect kv shell my-cache                      a prompt, with history and completion
  flect kv shell my-cache -- GET user:1        one command; exit code 1 when it fails
  echo 'SET a 1' | flect kv shell my-cache     one command a line

With --json each reply is one JSON document a line; bytes that are no text become {\"hex\": \"...\"}.
At the prompt: exit or Ctrl-D to leave, help COMMAND for what it does, Ctrl-C to end what waits.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// Print bytes as they are, as is usual in a pipe
    #[arg(long, conflicts_with = "no_raw")]
    raw: bool,
    /// Print types and numbers in a pipe too, as on a terminal
    #[arg(long)]
    no_raw: bool,
    /// One command, instead of a prompt
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// Runs one command, the lines of stdin, or a prompt.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let look = match (global.json, args.raw, args.no_raw) {
        (true, _, _) => Look::Json,
        (_, true, _) => Look::Raw,
        (_, _, true) => Look::Terminal,
        _ if std::io::stdout().is_terminal() => Look::Terminal,
        _ => Look::Raw,
    };
    let prompt = args.command.is_empty() && std::io::stdin().is_terminal();
    let path = DataPath::start(global.env.clone(), args.name.clone(), prompt)?;
    if prompt {
        return prompt::run(&path, &args.name, look);
    }
    let mut session = Session::open(&path)?;
    if args.command.is_empty() {
        return lines(&path, &mut session, look);
    }
    use std::os::unix::ffi::OsStrExt;
    let words: Vec<_> = args.command.iter().map(|word| word.as_bytes()).collect();
    let failed = carry_out(&path, &mut session, &words, look)?;
    Ok(exit(failed))
}

fn exit(failed: bool) -> ExitCode {
    if failed {
        ExitCode::from(Failure::Failed.code())
    } else {
        ExitCode::SUCCESS
    }
}

/// Every line of stdin is a command. All are carried out; the exit code tells of the last one, as
/// that of a shell script does.
fn lines(path: &DataPath, session: &mut Session, look: Look) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("stdin")?;
        let words =
            words::split(&line).with_context(|| format!("quotes are not closed: {line}"))?;
        let Some(first) = words.first() else { continue };
        if is_exit(first) {
            break;
        }
        failed = carry_out(path, session, &words, look)?;
    }
    Ok(exit(failed))
}

fn is_exit(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"exit") || word.eq_ignore_ascii_case(b"quit")
}

/// Sends a command and prints its replies as they come; whether it failed.
fn carry_out<W: AsRef<[u8]>>(
    path: &DataPath,
    session: &mut Session,
    words: &[W],
    look: Look,
) -> anyhow::Result<bool> {
    session.send(words)?;
    let mut failed = false;
    while session.waits() {
        match session.read(path)? {
            Answer::Reply(value) | Answer::Push(value) => {
                failed |= matches!(value, Value::Error(_));
                print(&value, look)?;
            }
            Answer::Interrupted => break,
            Answer::Closed => anyhow::bail!("the store closed the connection"),
        }
    }
    Ok(failed)
}

fn print(value: &Value, look: Look) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&show(value, look))?;
    stdout.flush()?;
    Ok(())
}
