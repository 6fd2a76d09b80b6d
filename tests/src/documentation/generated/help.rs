//! `docs/cli.md` from what the programs say with `--help`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tools::Programs;

const HEAD: &str = "\
# The commands `flect` and `flect-agent`

What `--help` says, command by command. This page is made from the programs and compared with them
by a test; [flect-toml.md](flect-toml.md) and [agent-toml.md](agent-toml.md) describe the files.
";

/// The page.
///
/// # Errors
/// When a program does not answer.
pub fn page() -> Result<String> {
    let programs = Programs::beside_current()?;
    let mut page = HEAD.to_owned();
    for (name, program) in [("flect", &programs.flect), ("flect-agent", &programs.agent)] {
        section(&mut page, program, &[name.to_owned()])?;
    }
    Ok(page)
}

/// The help of one command and of those below it.
fn section(page: &mut String, program: &Path, words: &[String]) -> Result<()> {
    let output = Command::new(program)
        .args(&words[1..])
        .arg("--help")
        // The width of a page; clap asks the terminal otherwise.
        .env("COLUMNS", "96")
        .env_remove("FLECT_ENV")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    ensure!(output.status.success(), "{} --help fails", words.join(" "));
    let text = String::from_utf8(output.stdout).context("help is UTF-8")?;
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "\n## {}\n\n<!-- not output -->\n```text\n{}\n```\n",
        words.join(" "),
        lines.join("\n")
    );
    for name in subcommands(&lines) {
        let below: Vec<String> = words.iter().cloned().chain([name]).collect();
        section(page, program, &below)?;
    }
    Ok(())
}

/// The names in the list of commands: two blanks deep, `help` left out.
fn subcommands(lines: &[&str]) -> Vec<String> {
    let list = lines
        .iter()
        .skip_while(|line| **line != "Commands:")
        .skip(1);
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    names.collect()
}
