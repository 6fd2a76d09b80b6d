//! What the daemon does with names that would leave, what it tells of that, and a module that comes while
//! it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::smoke::check;
use crate::worker::module_path;

/// The server is looked at every two seconds.
const LEARNT_WITHIN: Duration = Duration::from_secs(20);

/// What a trial does.
type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let bodies: [(&str, Body); 2] = [
        ("what_is_withheld_is_told", told),
        ("a_module_comes_while_the_agent_runs", modules),
    ];
    let trial = |(name, body): (&str, Body)| {
        Trial::test(format!("integrity::{name}"), move || {
            body().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    bodies.into_iter().map(trial).collect()
}

fn told() -> Result<()> {
    let bed = Bed::builder().start()?;
    let prefix = bed.prefix("store1")?;
    let secret = format!("{prefix}:whisper");
    let mut wire = bed.connect(APP1)?;
    for _ in 0..3 {
        let reply = wire.command(&["ECHO", &secret])?.text();
        ensure!(reply.starts_with("-ERR the agent withheld"), "{reply}");
    }
    check(&mut wire, "PING", "PONG")?;
    let said = |args: &[&str]| -> Result<String> {
        let output = bed.flect()?.args(args).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let store = &bed.status()?["stores"][0];
    ensure!(
        store["name"] != "store1" || store["integrity_violations"] == 3,
        "{store}"
    );
    let status = said(&["status"])?;
    ensure!(status.contains("INTEGRITY: 3 replies withheld"), "{status}");
    let doctor = said(&["doctor"])?;
    ensure!(
        doctor.contains("replies were withheld: 3 of store1"),
        "{doctor}"
    );
    let log = bed.agent_log();
    ensure!(
        log.matches("integrity: what would have left").count() == 1,
        "not told once: {log}"
    );
    ensure!(!log.contains("whisper"), "the log tells the reply: {log}");
    // Switched off, and said to be.
    bed.stop_agent()?;
    let text = fs::read_to_string(bed.config_path())?;
    fs::write(
        bed.config_path(),
        text.replace("[agent]\n", "[agent]\nintegrity = false\n"),
    )?;
    bed.start_agent()?;
    let mut wire = bed.connect(APP1)?;
    check(&mut wire, &format!("ECHO {secret}"), &secret)?;
    let doctor = said(&["doctor"])?;
    ensure!(doctor.contains("replies are not searched"), "{doctor}");
    Ok(())
}

fn modules() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut wire = bed.connect(APP1)?;
    let mut operator = bed.operator()?;
    let unknown = |reply: &str| reply.starts_with("-ERR unknown command");
    let reply = wire.command(&["trial.set", "k", "v"])?.text();
    ensure!(unknown(&reply), "{reply}");
    let path = module_path()?.display().to_string();
    check(&mut operator, &format!("MODULE LOAD {path}"), "OK")?;
    wait_until(LEARNT_WITHIN, || {
        Ok(wire.command(&["trial.set", "k", "v"])?.text() == "OK")
    })
    .context("not learnt")?;
    check(&mut wire, "trial.get k", "v")?;
    let commands = &bed.status()?["commands"];
    ensure!(
        commands["learnt"].to_string().contains("trial.get"),
        "{commands}"
    );
    let refused = commands["refused"].to_string();
    ensure!(
        refused.contains("trial.move") && refused.contains("not declared"),
        "{refused}"
    );
    let log = bed.agent_log();
    ensure!(log.contains("trial.box|get, trial.count"), "{log}");
    // Not unloaded again: that ends the server where a user's rights name one of the module's commands
    // (an assertion in ACLRecomputeCommandBitsFromCommandRulesAllUsers, acl.c).
    check(&mut wire, "GET k", "v")
}
