//! The audit log: a line for every reason, few lines for many events, and nothing in them that an app made
//! up. Limits that need an attack of their own are looked for by the attacks' trials.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};

use super::stage::{self, audited, expect_audit, told};
use crate::bed::{APP1, Bed, UNCLAIMED};
use crate::wire::Wire;

/// A word that must not get into the log, in any place where an app can put one.
const SECRET: &str = "mumblety-peg";

/// Events of one kind.
const MANY: u64 = 1000;

/// Everything that is told without an attack.
pub fn reasons() -> Result<()> {
    let bed = stage::bed("", |b| b)?;
    told(&bed, tell_all(&bed))
}

fn tell_all(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect(APP1)?;
    let prefix = bed.prefix("store1")?;

    operator_commands(&mut wire)?;
    expect_audit(bed, "operator-command", "store1")?;

    for words in [
        vec!["AUTH", SECRET],
        vec!["AUTH", SECRET, SECRET],
        vec!["HELLO", "3", "AUTH", SECRET, SECRET],
    ] {
        wire.command(&words)?;
    }
    expect_audit(bed, "authentication", "store1")?;

    let got = wire
        .command(&["ECHO", &format!("{prefix}:{SECRET}")])?
        .text();
    ensure!(got.starts_with("-ERR the agent withheld"), "{got}");
    expect_audit(bed, "integrity", "store1")?;

    let patterns: Vec<String> = (0..4097).map(|n| format!("{SECRET}*{n}")).collect();
    let words: Vec<&str> = ["PSUBSCRIBE"]
        .into_iter()
        .chain(patterns.iter().map(String::as_str))
        .collect();
    let got = bed.connect(APP1)?.command(&words)?.text();
    ensure!(got.starts_with("-ERR"), "{got}");
    stage::wait_until(|| Ok(!audited(bed, "patterns").is_empty()))?;
    ensure!(
        audited(bed, "patterns")[0]["store"] == "store1",
        "the patterns' store"
    );

    let mut stranger = bed.connect(UNCLAIMED)?;
    let got = stranger.command(&["GET", SECRET])?.text();
    ensure!(got.starts_with('-'), "{got}");
    stage::wait_until(|| Ok(!audited(bed, "identity").is_empty()))?;
    let cgroup = audited(bed, "identity")[0]["cgroup"].to_string();
    ensure!(cgroup.contains(UNCLAIMED), "{cgroup}");

    // An app's process asks for what is the operator's.
    let flect = bed.flect()?;
    let mut inside = bed.command(APP1, flect.get_program())?;
    inside.args(flect.get_args()).arg("status");
    ensure!(!inside.output()?.status.success(), "an app sees the node");
    stage::wait_until(|| Ok(!audited(bed, "control-socket").is_empty()))?;
    ensure!(
        audited(bed, "control-socket")[0]["app"] == APP1,
        "the tenant's app"
    );

    limited(bed)?;
    expect_audit(bed, "rate", "store1")?;
    expect_audit(bed, "memory", "store1")?;

    bed.operator()?.command(&["DEL", "flect:{registry}:meta"])?;
    stage::wait_until(|| Ok(!audited(bed, "registry").is_empty()))?;

    bed.stop_agent()?;
    let lines = stage::lines(&bed.agent_log());
    let told: u64 = audited(bed, "operator-command")
        .iter()
        .filter_map(|line| line["count"].as_u64())
        .sum();
    ensure!(told == MANY, "{told} of {MANY} events are told");
    let count = audited(bed, "operator-command").len();
    ensure!(count < 20, "{count} lines for the same");
    for line in &lines {
        let text = line.to_string();
        ensure!(!text.contains(SECRET), "{text}");
        ensure!(!text.contains(&prefix), "{text}");
        let fields: BTreeSet<&str> = line
            .as_object()
            .context("no object")?
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "time", "reason", "app", "store", "cgroup", "detail", "count",
        ];
        ensure!(fields == BTreeSet::from(expected), "{text}");
    }
    Ok(())
}

fn operator_commands(wire: &mut Wire) -> Result<()> {
    for _ in 0..MANY {
        let got = wire.command(&["SHUTDOWN", SECRET])?.text();
        ensure!(got.starts_with('-'), "{got}");
    }
    Ok(())
}

/// A rate that is met and memory that is full.
fn limited(bed: &Bed) -> Result<()> {
    let mut wire = bed.connect(APP1)?;
    let set = |words: &[&str]| -> Result<()> {
        let output = bed
            .flect()?
            .args(["kv", "set", "store1"])
            .args(words)
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    set(&["--rate", "50"])?;
    stage::wait_until(|| {
        for _ in 0..20 {
            wire.send(&["PING"])?;
        }
        for _ in 0..20 {
            wire.read()?;
        }
        Ok(!audited(bed, "rate").is_empty())
    })?;
    set(&["--rate", "none", "--max-memory", "1"])?;
    stage::wait_until(|| {
        Ok(wire
            .command(&["SET", SECRET, SECRET])?
            .text()
            .starts_with("-OOM"))
    })?;
    set(&["--max-memory", "none"])
}

/// A file of its own: made for its owner alone, refused where others may use it, and continued.
pub fn file() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let path = bed.folder().join("audit.log");
    let mut config = fs::OpenOptions::new()
        .append(true)
        .open(bed.config_path())?;
    writeln!(config, "\n[agent.audit]\nfile = \"{}\"", path.display())?;
    drop(config);
    let run = || {
        bed.start_agent()?;
        for count in 1..=2 {
            let mut wire = bed.connect(APP1)?;
            let got = wire.command(&["REPLICAOF", "NO", "ONE"])?.text();
            ensure!(got.starts_with('-'), "{got}");
            let lines = || Ok::<_, anyhow::Error>(stage::lines(&fs::read_to_string(&path)?));
            stage::wait_until(|| Ok(lines()?.len() == count))?;
            ensure!(lines()?[0]["detail"] == "replicaof", "{:?}", lines()?);
            ensure!(
                stage::lines(&bed.agent_log()).is_empty(),
                "it is in the agent's log as well"
            );
            bed.stop_agent()?;
            if count == 1 {
                bed.start_agent()?;
            }
        }
        let mode = fs::metadata(&path)?.mode() & 0o777;
        ensure!(mode == 0o600, "{mode:o}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        let error = bed.start_agent().err().context("the agent starts")?;
        ensure!(format!("{error:#}").contains("chmod 600"), "{error:#}");
        Ok(())
    };
    told(&bed, run())
}
