//! Some restarts of each kind, and who may take over.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use super::{Report, Settings, Way, restart, run, state};
use crate::bed::agent::wait_until;
use crate::bed::supervisor::Supervisor;
use crate::bed::{APP1, Acceleration, Bed, Builder, NEIGHBOUR};
use crate::smoke::check;
use crate::tools::Programs;

type Body = fn() -> Result<()>;

/// A user that this machine does not have.
const STRANGER: u32 = 62_000;
/// Longer than anything that is waited for takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const TRIALS: [(&str, Body); 8] = [
    ("an_upgrade_is_not_noticed", an_upgrade_is_not_noticed),
    (
        "a_supervised_restart_is_not_noticed",
        a_supervised_restart_is_not_noticed,
    ),
    ("a_killed_agent_is_soon_back", a_killed_agent_is_soon_back),
    ("nobody_else_takes_over", nobody_else_takes_over),
    (
        "a_successor_that_fails_changes_nothing",
        a_successor_that_fails_changes_nothing,
    ),
    ("a_stop_leaves_nothing", a_stop_leaves_nothing),
    ("sessions_go_on_as_they_were", state::go_on_as_they_were),
    ("sessions_are_judged_anew", state::are_judged_anew),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let trial = |(name, body): (&str, Body)| {
        Trial::test(format!("restarts::{name}"), move || {
            body().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    TRIALS.into_iter().map(trial).collect()
}

/// Without the self-test of acceleration, which takes longer than everything else at a start.
pub(super) fn builder() -> Builder {
    Bed::builder()
        .acceleration(Acceleration::Off)
        .agent_keys("drain_seconds = 1")
}

fn restarts(way: Way, count: usize) -> Result<Report> {
    let settings = Settings {
        way,
        count,
        calm: Duration::from_millis(100),
    };
    run(builder(), &settings, |_| {})
}

/// Nothing is refused, nothing fails, and no connection without state on the server ends.
fn unnoticed(way: Way) -> Result<()> {
    let report = restarts(way, 2)?;
    let tally = &report.tally;
    ensure!(
        (tally.refused, tally.failed, tally.ended) == (0, 0, 0),
        "{}\n{}",
        report.text(),
        report.log
    );
    Ok(())
}

fn an_upgrade_is_not_noticed() -> Result<()> {
    unnoticed(Way::Upgraded)
}

fn a_supervised_restart_is_not_noticed() -> Result<()> {
    unnoticed(Way::Supervised)
}

/// Refused until another is there, which reuses what is pinned.
fn a_killed_agent_is_soon_back() -> Result<()> {
    let bed = builder().start()?;
    let pins = || -> Result<Vec<_>> {
        let mut names: Vec<_> = std::fs::read_dir(bed.pins().join("v3"))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = pins()?;
    let mut wire = bed.connect(APP1)?;
    check(&mut wire, "SET a 1", "OK")?;
    bed.kill_agent()?;
    ensure!(wire.command(&["GET", "a"]).is_err(), "who answers?");
    let refused = bed.connect(APP1).err().context("who listens?")?;
    ensure!(
        refused.kind() == std::io::ErrorKind::ConnectionRefused,
        "{refused}"
    );
    bed.spawn_agent_with("")?;
    bed.wait_until_ready_again(1)?;
    check(&mut bed.connect(APP1)?, "GET a", "1")?;
    ensure!(pins()? == before, "{:?} after {before:?}", pins()?);
    Ok(())
}

/// A process of an app, and another user, get no listening socket and no session.
fn nobody_else_takes_over() -> Result<()> {
    let bed = builder().start()?;
    let mut wire = bed.connect(APP1)?;
    check(&mut wire, "SET a 1", "OK")?;
    let agent = Programs::beside_current()?.agent;
    // The build's folder, and the bed's configuration, may be closed to other users.
    let folder = tempfile::tempdir()?;
    let (copy, config) = (
        folder.path().join("flect-agent"),
        folder.path().join("agent.toml"),
    );
    std::fs::copy(&agent, &copy)?;
    std::fs::copy(bed.config_path(), &config)?;
    for path in [folder.path(), &copy, &config] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode)?;
    }
    let upgrade = || {
        let mut command = Command::new(&copy);
        command.arg("upgrade").arg("--config").arg(&config);
        command.stdin(Stdio::null());
        command
    };
    let mut tenant = upgrade();
    bed.place(NEIGHBOUR, &mut tenant)?;
    let mut stranger = upgrade();
    stranger.uid(STRANGER).gid(STRANGER);
    for (mut command, why) in [
        (tenant, "outside of apps and containers, may take over"),
        (stranger, "Permission denied"),
    ] {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{said}");
    }
    check(&mut wire, "GET a", "1")?;
    check(&mut bed.connect(APP1)?, "GET a", "1")
}

/// The predecessor serves on, and another successor can take over.
fn a_successor_that_fails_changes_nothing() -> Result<()> {
    let bed = builder().start()?;
    let mut wire = bed.connect(APP1)?;
    check(&mut wire, "SET a 1", "OK")?;
    let good = std::fs::read_to_string(bed.config_path())?;
    // An address that nobody can listen at: found out after the listeners have come.
    let bad = format!("{good}\n[explicit]\nlisten = [\"192.0.2.1:6380\"]\n");
    std::fs::write(bed.config_path(), bad)?;
    let mut successor = bed.spawn_successor()?;
    wait_until(PATIENCE, || Ok(successor.ended().is_some()))?;
    ensure!(successor.ended().is_some_and(|status| !status.success()));
    wait_until(PATIENCE, || {
        Ok(bed.agent_log().contains("nothing was handed over"))
    })?;
    check(&mut wire, "GET a", "1")?;
    check(&mut bed.connect(APP1)?, "GET a", "1")?;
    // One that has told the hooks what to do already: other ports, and a port of its own that is somebody else's.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let line = |name: &str, text: &str| -> Result<String> {
        let found = text.lines().find(|line| line.starts_with(name));
        found.map(str::to_owned).context("no such line")
    };
    let bad = good
        .replace(&line("ports = ", &good)?, "ports = [1]")
        .replace(
            &line("listen_port = ", &good)?,
            &format!("listen_port = {}", taken.local_addr()?.port()),
        );
    std::fs::write(bed.config_path(), bad)?;
    let mut successor = bed.spawn_successor()?;
    wait_until(PATIENCE, || Ok(successor.ended().is_some()))?;
    ensure!(successor.ended().is_some_and(|status| !status.success()));
    check(&mut bed.connect(APP1)?, "GET a", "1")?;
    let log = bed.agent_log();
    ensure!(log.contains("told again what the running agent"), "{log}");
    std::fs::write(bed.config_path(), good)?;
    bed.upgrade_agent()?;
    check(&mut wire, "GET a", "1")
}

/// What the supervisor keeps goes with it, and an agent without one keeps nothing.
fn a_stop_leaves_nothing() -> Result<()> {
    let bed = builder().agent_later().start()?;
    let supervisor = Supervisor::start(&bed)?;
    supervisor.launch(&bed)?;
    bed.wait_until_ready_again(0)?;
    let mut wire = bed.connect(APP1)?;
    check(&mut wire, "SET a 1", "OK")?;
    ensure!(
        supervisor.kept().get("l") == Some(&2),
        "{:?}",
        supervisor.kept()
    );
    restart(&bed, Way::Supervised, Some(&supervisor))?;
    check(&mut wire, "GET a", "1")?;
    // What was given back is not kept any longer, so that the end of a session reaches its client.
    let kept = supervisor.kept();
    ensure!(
        kept.get("l") == Some(&2) && !kept.contains_key("s") && !kept.contains_key("m"),
        "{kept:?}"
    );
    bed.stop_agent()?;
    ensure!(
        supervisor.kept().get("s") == Some(&1),
        "{:?}",
        supervisor.kept()
    );
    supervisor.forget();
    ensure!(wire.command(&["GET", "a"]).is_err(), "who answers?");
    ensure!(bed.connect(APP1).is_err(), "who listens?");
    Ok(())
}
