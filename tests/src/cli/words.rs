//! Commands that only print: explain, commands, completions, the manual.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Body;
use super::project::{Ended, Project, TWO};
use crate::bed::{APP1, Bed};
use crate::smoke::check;

pub const TRIALS: &[(&str, Body)] = &[
    ("explain_says_what_is_sent", explain),
    ("commands_are_listed", commands),
    ("completions_and_manual", printed),
];

/// What is explained is what Valkey gets: looked at with MONITOR.
fn explain() -> Result<()> {
    let project = Project::new(TWO)?;
    let said = |args: &[&str]| Ended::of(&mut project.flect(&[&["explain"], args].concat()));
    said(&["SET", "a", "b"])?.expect(0, "SET {k7m2x}:a b")?;
    said(&["SET a b"])?.expect(0, "SET {k7m2x}:a b")?;
    said(&["FLUSHDB"])?.expect(0, "scoped")?;
    said(&["--database", "2", "GET", "a"])?.expect(0, "GET {k7m2x}/2:a")?;
    said(&["REPLICAOF", "NO", "ONE"])?.expect(0, "NOPERM REPLICAOF is not available in a store")?;
    said(&["NOPE"])?.expect(0, "unknown command 'NOPE'")?;
    said(&["GET"])?.expect(0, "wrong number of arguments for 'get' command")?;
    said(&["GET 'a"])?.expect(1, "unbalanced quotes")?;
    said(&["--store", "store1", "GET", "a"])?.expect(3, "no environment is known here")?;
    let coloured = Ended::of(&mut project.flect(&["--color", "always", "explain", "GET", "a"]))?;
    ensure!(
        coloured.stdout.contains("\u{1b}[32m{k7m2x}:\u{1b}[0ma"),
        "{coloured:?}"
    );

    let bed = Bed::builder().start()?;
    let prefix = bed.prefix("store1")?;
    let mut monitor = bed.operator()?;
    let mut app = bed.connect(APP1)?;
    check(&mut app, "PING", "PONG")?;
    ensure!(monitor.command(&["MONITOR"])?.text() == "OK", "MONITOR");
    for command in [
        "SET user:1 Ada EX 60",
        "MSET a 1 b 2",
        "KEYS u*",
        "SORT t BY w_* GET #",
        "PUBLISH news x",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let args = [
            &["--json", "explain", "--store", "store1"],
            words.as_slice(),
        ]
        .concat();
        let explained: Value = Ended::of(bed.flect()?.args(args))?.expect(0, "")?.json()?;
        let sent: Vec<String> = explained["sent"]
            .as_array()
            .context("nothing is sent")?
            .iter()
            .map(|argument| {
                let text = |part: &str| argument[part].as_str().unwrap_or_default().to_owned();
                format!("\"{}{}\"", text("added"), text("own"))
            })
            .collect();
        let sent = sent.join(" ");
        ensure!(sent.contains(&prefix), "{sent}");
        app.command(&words)?;
        let mut seen = String::new();
        while !seen.ends_with(&sent) {
            seen = monitor
                .read()
                .with_context(|| format!("Valkey never got {sent}"))?
                .text();
        }
    }
    Ok(())
}

fn commands() -> Result<()> {
    let project = Project::new(TWO)?;
    let list = |args: &[&str]| -> Result<Vec<Value>> {
        let shown = Ended::of(&mut project.flect(&[&["commands", "--json"], args].concat()))?;
        let shown = shown.expect(0, "")?.json()?;
        Ok(shown.as_array().context("no list")?.clone())
    };
    let all = list(&[])?;
    let mut parts = 0;
    for policy in ["rewrite", "scoped", "local", "operator"] {
        let some = list(&["--policy", policy])?;
        ensure!(some.iter().all(|one| one["policy"] == policy), "{policy}");
        ensure!(
            some.iter()
                .all(|one| one["reason"].as_str().is_some_and(|r| r.len() > 10)),
            "{policy}"
        );
        parts += some.len();
    }
    ensure!(
        parts == all.len() && parts > 300,
        "{parts} of {}",
        all.len()
    );
    Ended::of(&mut project.flect(&["commands"]))?.expect(0, "XGROUP CREATE")?;
    Ok(())
}

fn printed() -> Result<()> {
    let project = Project::new(TWO)?;
    for shell in ["bash", "zsh", "fish"] {
        let script =
            Ended::of(&mut project.flect(&["completions", shell]))?.expect(0, "explain")?;
        ensure!(script.stdout.contains("print-env"), "{shell}");
    }
    let script = Ended::of(&mut project.flect(&["completions", "bash"]))?.stdout;
    let path = project.write("flect.bash", &script)?;
    let complete = format!(
        "source '{}'; COMP_WORDS=(flect kv cr); COMP_CWORD=2; _flect flect cr kv; echo ${{COMPREPLY[@]}}",
        path.display()
    );
    let mut bash = std::process::Command::new("bash");
    // Machines for tests may have no bash.
    if let Ok(output) = bash.args(["--norc", "-c", &complete]).output() {
        let completed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(completed.trim() == "create", "{completed} {output:?}");
    }
    Ended::of(&mut project.flect(&["man"]))?.expect(0, ".TH flect 1")?;
    Ended::of(&mut project.flect(&["man", "--out", "man1"]))?.expect(0, "")?;
    for page in ["flect.1", "flect-run.1", "flect-kv-create.1"] {
        let text = fs::read_to_string(project.path().join("man1").join(page)).context(page)?;
        ensure!(text.contains(".SH NAME"), "{page}");
    }
    let run = fs::read_to_string(project.path().join("man1/flect-run.1"))?;
    ensure!(run.contains("flect run"), "no example in {run}");
    Ended::of(&mut project.flect(&["run", "--help"]))?.expect(0, "flect run -- node server.js")?;
    Ok(())
}
