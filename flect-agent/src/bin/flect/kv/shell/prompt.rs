//! The interactive prompt.

use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use flect_agent::store::Slug;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use super::assist::Assist;
use super::path::DataPath;
use super::session::{Answer, Session};
use super::show::Look;
use super::{is_exit, print, words};

/// Lines that are kept.
const HISTORY_LINES: usize = 2000;

/// Reads commands until the user leaves.
pub fn run(path: &DataPath, name: &Slug, look: Look) -> anyhow::Result<ExitCode> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Assist, DefaultHistory> = Editor::with_config(config)?;
    let colors = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    editor.set_helper(Some(Assist::new(path.docs.clone(), colors)));
    let history = history_file();
    if let Some(file) = &history {
        // A history that cannot be read is one that begins today.
        let _ = editor.load_history(file);
    }
    let mut session = Session::open(path)?;
    loop {
        let line = match editor.readline(&prompt(name, &session)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("the terminal"),
        };
        let Some(words) = words::split(&line) else {
            eprintln!("Invalid argument(s): quotes are not closed");
            continue;
        };
        let Some(first) = words.first() else { continue };
        if !is_secret(&words) {
            editor.add_history_entry(line.as_str())?;
            if let Some(file) = &history {
                // Written line by line, so that two shells at once keep both their lines.
                let _ = editor.append_history(file);
            }
        }
        if is_exit(first) {
            break;
        }
        if first.eq_ignore_ascii_case(b"clear") {
            editor.clear_screen()?;
            continue;
        }
        if first.eq_ignore_ascii_case(b"help") {
            let topic: Vec<&str> = line.split_whitespace().skip(1).collect();
            if let Some(assist) = editor.helper() {
                println!("{}", assist.help(&topic));
            }
            continue;
        }
        if let Err(error) = one(path, &mut session, &words, look) {
            eprintln!("{error:#}");
            session = session.reopen(path)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As valkey-cli has it: `name[3](TX)> `.
fn prompt(name: &Slug, session: &Session) -> String {
    let database = match session.database {
        0 => String::new(),
        database => format!("[{database}]"),
    };
    let transaction = if session.transaction { "(TX)" } else { "" };
    format!("{name}{database}{transaction}> ")
}

/// Carries out one command; Ctrl-C ends it with its connection, as nothing else can end a command
/// that waits.
fn one(
    path: &DataPath,
    session: &mut Session,
    words: &[Vec<u8>],
    look: Look,
) -> anyhow::Result<()> {
    // What was pressed before is not meant for this command.
    path.take_interrupt();
    session.send(words)?;
    let mut told = false;
    while session.waits() {
        match session.read(path)? {
            Answer::Reply(value) | Answer::Push(value) => {
                print(&value, look)?;
                if session.streaming && !told && std::io::stderr().is_terminal() {
                    told = true;
                    eprintln!("Reading messages... (press Ctrl-C to quit)");
                }
            }
            Answer::Interrupted => {
                eprintln!();
                *session = session.reopen(path)?;
                return Ok(());
            }
            Answer::Closed => anyhow::bail!("the store closed the connection; connected again"),
        }
    }
    Ok(())
}

/// Lines with passwords are not kept.
fn is_secret(words: &[Vec<u8>]) -> bool {
    let is = |at: usize, word: &str| {
        words
            .get(at)
            .is_some_and(|other| other.eq_ignore_ascii_case(word.as_bytes()))
    };
    let has = |word: &str| (1..words.len()).any(|at| is(at, word));
    is(0, "auth")
        || (is(0, "hello") && has("auth"))
        || (is(0, "migrate") && (has("auth") || has("auth2")))
        || (is(0, "acl") && (is(1, "setuser") || is(1, "deluser")))
        || (is(0, "config") && is(1, "set"))
}

/// The user's own file, which nobody else may read; `None` where there is no place for it.
fn history_file() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let folder = match std::env::var_os("FLECT_CONFIG_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let strategy = etcetera::base_strategy::choose_base_strategy().ok()?;
            let state = strategy.state_dir().unwrap_or_else(|| strategy.data_dir());
            state.join("flect")
        }
    };
    std::fs::create_dir_all(&folder).ok()?;
    let file = folder.join("kv-shell-history");
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&file);
    opened.is_ok().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_kept() {
        let secret = |line| is_secret(&words::split(line).unwrap());
        for line in [
            "AUTH x",
            "hello 3 AUTH u p",
            "acl setuser x >p",
            "MIGRATE h 1 k 0 1 AUTH p",
        ] {
            assert!(secret(line), "{line}");
        }
        for line in ["GET auth", "HELLO 3", "CONFIG GET maxmemory", "SET auth x"] {
            assert!(!secret(line), "{line}");
        }
    }
}
