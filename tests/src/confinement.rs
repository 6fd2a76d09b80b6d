//! What the kernel says of a running agent's rights: what it has given up is gone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flect_agent::confinement::KEPT;
use libtest_mimic::{Failed, Trial};

use crate::bed::{APP1, Bed};

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    vec![Trial::test("confinement::rights_are_given_up", || {
        rights_are_given_up().map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

/// The sets of proc_pid_status(5) that say what a thread may do or could come to do.
const SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

fn rights_are_given_up() -> Result<()> {
    let bed = Bed::builder().start()?;
    // What is asserted below is of an agent that serves.
    let mut client = bed.connect(APP1)?;
    ensure!(
        client.command(&["SET", "k", "v"])?.text() == "OK",
        "it serves"
    );
    let process = Path::new("/proc").join(bed.agent_pid()?.to_string());

    let limits = fs::read_to_string(process.join("limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file"));
    let core: Vec<_> = core
        .context("no limit of core files")?
        .split_whitespace()
        .collect();
    ensure!(
        core[4..6] == ["0", "0"],
        "it may leave core dumps: {core:?}"
    );

    let mut workers = 0;
    for task in fs::read_dir(process.join("task"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        let status = fs::read_to_string(task.join("status"))?;
        let is_worker = name.starts_with("worker-");
        workers += usize::from(is_worker);
        let most = if is_worker { 0 } else { KEPT.bits() };
        for set in SETS {
            let held = u64::from_str_radix(field(&status, set)?, 16)?;
            ensure!(held & !most == 0, "{name} {set} {held:x}, at most {most:x}");
        }
        // No set-user-ID program gives anything back.
        let bounds = u64::from_str_radix(field(&status, "CapBnd")?, 16)?;
        ensure!(bounds & !KEPT.bits() == 0, "{name} could get {bounds:x}");
        ensure!(
            field(&status, "NoNewPrivs")? == "1",
            "{name}: new privileges"
        );
        ensure!(
            field(&status, "Seccomp")? == "2",
            "{name}: no filter of system calls"
        );
        let filters: usize = field(&status, "Seccomp_filters")?.parse()?;
        let least = 1 + usize::from(is_worker);
        ensure!(filters >= least, "{name}: {filters} filters, not {least}");
    }
    ensure!(workers > 0, "no worker was looked at");
    Ok(())
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value
        .with_context(|| format!("status has no {name}"))?
        .trim())
}
