//! Another configuration on SIGHUP: what it changes, and whom it leaves alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Body;
use super::http::{bed, scrape};
use super::supervised::Supervisor;
use super::text::Scrape;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, UNCLAIMED};
use crate::smoke::{check, output};
use crate::wire::Wire;

/// The trials of this module.
pub const TRIALS: [(&str, Body); 6] = [
    (
        "reload_changes_apps_and_leaves_others",
        changes_apps_and_leaves_others,
    ),
    (
        "reload_keeps_what_held_when_it_is_invalid",
        keeps_what_held_when_it_is_invalid,
    ),
    (
        "reload_names_what_needs_a_restart",
        names_what_needs_a_restart,
    ),
    ("reload_changes_credentials", changes_credentials),
    (
        "reload_changes_limits_and_operators",
        changes_limits_and_operators,
    ),
    (
        "reload_is_told_to_the_supervisor",
        is_told_to_the_supervisor,
    ),
];

/// A configuration is taken at once; on a busy machine Valkey may take its time.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Sends SIGHUP and waits until the agent says how it went.
pub fn reload(bed: &Bed) -> Result<Value> {
    let before = bed.status()?["config"].clone();
    hang_up(bed)?;
    let mut now = Value::Null;
    wait_until(TAKEN_WITHIN, || {
        now = bed.status()?["config"].clone();
        Ok(now != before)
    })?;
    Ok(now)
}

fn hang_up(bed: &Bed) -> Result<()> {
    let pid = i32::try_from(bed.agent_pid()?).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no process id")?, Signal::HUP)?;
    Ok(())
}

/// Changes the configuration file.
pub fn edit(bed: &Bed, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(bed.config_path())?;
    fs::write(bed.config_path(), change(text))?;
    Ok(())
}

/// An app more, as text.
fn app(bed: &Bed, name: &str, cgroup: &str, stores: &str) -> Result<String> {
    let group = bed.cgroup(cgroup)?;
    let below = group.strip_prefix(crate::bed::cgroups::mount()?)?;
    Ok(format!(
        "\n[[app]]\nname = \"{name}\"\ncgroups = [\"/{}\"]\nstores = {stores}\n",
        below.display()
    ))
}

/// The configuration without an app.
fn without(text: &str, name: &str) -> String {
    let mut parts = text.split("\n[[app]]\n");
    let head = parts.next().unwrap_or_default().to_owned();
    let named = format!("name = \"{name}\"\n");
    let kept = parts.filter(|part| !part.starts_with(&named));
    kept.fold(head, |text, part| text + "\n[[app]]\n" + part)
}

fn is_closed(wire: &mut Wire) -> bool {
    wire.command(&["PING"]).is_err()
}

fn changes_apps_and_leaves_others() -> Result<()> {
    let bed = Bed::builder().start()?;
    let (mut one, mut two) = (bed.connect(APP1)?, bed.connect("app2")?);
    // What a session that begins anew would not have.
    for line in ["SET a 1", "MULTI", "SET a 2"] {
        one.command(&line.split(' ').collect::<Vec<_>>())?;
    }
    check(&mut two, "SET b 1", "OK")?;
    let refused = bed.connect(UNCLAIMED)?.command(&["PING"])?;
    ensure!(
        refused.text().contains("no app of this node claims"),
        "{refused}"
    );

    // One more app with a store of its own.
    let late = app(&bed, "late", UNCLAIMED, "[\"late\"]")?;
    edit(&bed, |text| text + &late)?;
    let config = reload(&bed)?;
    ensure!(
        config["error"].is_null() && config["ignored"] == serde_json::json!([]),
        "{config}"
    );
    check(&mut bed.connect(UNCLAIMED)?, "SET c 1", "OK")?;
    check(&mut two, "GET b", "1")?;

    // app1 gets app2's store besides, app2 goes.
    edit(&bed, |text| {
        without(&text, "app2").replace("stores = [\"store1\"]", "stores = [\"store1\", \"app2\"]")
    })?;
    let config = reload(&bed)?;
    ensure!(config["error"].is_null(), "{config}");
    ensure!(
        is_closed(&mut two),
        "the session of an app that is gone goes on"
    );
    let refused = bed.connect("app2")?.command(&["PING"])?;
    ensure!(
        refused.text().contains("no app of this node claims"),
        "{refused}"
    );
    let mut more = bed.connect(APP1)?;
    check(&mut more, "AUTH app2 x", "OK")?;
    check(&mut more, "GET b", "1")?;
    // It has been there all the time, with its transaction.
    check(&mut one, "EXEC", "[OK]")?;
    check(&mut one, "GET a", "2")?;

    // An app that loses a store loses its sessions, in whatever store they are.
    edit(&bed, |text| {
        text.replace("stores = [\"store1\", \"app2\"]", "stores = [\"store1\"]")
    })?;
    reload(&bed)?;
    ensure!(
        is_closed(&mut more) && is_closed(&mut one),
        "sessions with a store too many"
    );
    let mut again = bed.connect(APP1)?;
    check(&mut again, "GET a", "2")?;
    let answer = again.command(&["AUTH", "app2", "x"])?;
    ensure!(answer.text().contains("WRONGPASS"), "{answer}");
    // Nothing was lost for those who were left alone.
    check(&mut bed.connect(UNCLAIMED)?, "GET c", "1")
}

fn keeps_what_held_when_it_is_invalid() -> Result<()> {
    let (bed, _folder, socket) = bed(Bed::builder())?;
    let mut client = bed.connect(APP1)?;
    check(&mut client, "SET a 1", "OK")?;
    let good = fs::read_to_string(bed.config_path())?;
    edit(&bed, |text| text.replace("workers =", "wrokers ="))?;
    let config = reload(&bed)?;
    let error = config["error"].as_str().context("no error")?;
    ensure!(
        error.contains("wrokers") && error.contains("line"),
        "{error}"
    );
    ensure!(
        bed.agent_log().contains("the configuration is not taken"),
        "not logged"
    );
    let said = output(bed.flect()?.arg("status"))?;
    ensure!(said.contains("NOT TAKEN, the one before holds: "), "{said}");
    ensure!(
        Scrape::parse(&scrape(&socket)?)?.one("flect_config_taken", &[])? == 0.0,
        "taken"
    );
    check(&mut client, "GET a", "1")?;
    check(&mut bed.connect(APP1)?, "GET a", "1")?;

    // Valid, but its password is not: all of it is left, the app that would be new as well.
    let password = bed.folder().join("wrong.password");
    fs::write(&password, "wrong")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let late = app(&bed, "late", UNCLAIMED, "[\"late\"]")?;
    let line = format!(
        "user = \"nobody\"\npassword_file = \"{}\"",
        password.display()
    );
    fs::write(
        bed.config_path(),
        good.replace("user = \"default\"", &line) + &late,
    )?;
    let config = reload(&bed)?;
    let error = config["error"].as_str().context("no error")?;
    ensure!(error.contains("authentication failed"), "{error}");
    let refused = bed.connect(UNCLAIMED)?.command(&["PING"])?;
    ensure!(
        refused.text().contains("no app of this node claims"),
        "{refused}"
    );
    check(&mut client, "GET a", "1")?;

    fs::write(bed.config_path(), &good)?;
    let config = reload(&bed)?;
    ensure!(config["error"].is_null(), "{config}");
    ensure!(
        Scrape::parse(&scrape(&socket)?)?.one("flect_config_taken", &[])? == 1.0,
        "not taken"
    );
    check(&mut client, "GET a", "1")
}

fn names_what_needs_a_restart() -> Result<()> {
    let bed = Bed::builder().workers(1).start()?;
    let mut client = bed.connect(APP1)?;
    edit(&bed, |text| {
        text.replace("workers = 1", "workers = 2")
            .replace("status_page = \"off\"", "status_page = \"127.0.0.1:1\"")
    })?;
    let config = reload(&bed)?;
    let ignored = serde_json::json!(["agent.workers", "agent.status_page"]);
    ensure!(
        config["error"].is_null() && config["ignored"] == ignored,
        "{config}"
    );
    ensure!(
        bed.agent_log().contains("agent.workers, agent.status_page"),
        "{}",
        bed.agent_log()
    );
    let said = output(bed.flect()?.arg("status"))?;
    ensure!(
        said.contains("next start on: agent.workers, agent.status_page"),
        "{said}"
    );
    ensure!(bed.status()?["workers"] == 1, "{}", bed.status()?);
    check(&mut client, "PING", "PONG")
}

/// The operator's user and password are exchanged, and the old ones are used no more.
fn changes_credentials() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut client = bed.connect(APP1)?;
    check(&mut client, "SET a 1", "OK")?;
    let mut operator = bed.operator()?;
    let password = bed.folder().join("operator.password");
    let mut exchange = |secret: &str| -> Result<()> {
        let rule = format!(">{secret}");
        check(
            &mut operator,
            &format!("ACL SETUSER second on resetpass {rule} ~* &* +@all"),
            "OK",
        )?;
        fs::write(&password, secret)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        Ok(())
    };
    exchange("first-secret")?;
    let line = format!(
        "user = \"second\"\npassword_file = \"{}\"",
        password.display()
    );
    edit(&bed, |text| text.replace("user = \"default\"", &line))?;
    let config = reload(&bed)?;
    ensure!(config["error"].is_null(), "{config}");
    let mut operator = bed.operator()?;
    let own = operator.command(&["CLIENT", "ID"])?.text();
    let mut users = |name: &str| -> Result<usize> {
        let list = operator.command(&["CLIENT", "LIST"])?.text();
        let lines = list.lines().filter(|line| {
            line.contains(&format!(" user={name} ")) && !line.starts_with(&format!("id={own} "))
        });
        Ok(lines.count())
    };
    // The keeper's and the one that hears of changes; what the old ones were used for is over.
    wait_until(TAKEN_WITHIN, || Ok(users("second")? >= 2))?;
    // The bed's first operator connection is the default user's too.
    wait_until(TAKEN_WITHIN, || Ok(users("default")? <= 1))?;
    output(bed.flect()?.args(["kv", "create", "fresh"]))?;

    // The same file holds another password.
    exchange("second-secret")?;
    let config = reload(&bed)?;
    ensure!(config["error"].is_null(), "{config}");
    check(
        &mut bed.operator()?,
        "CLIENT KILL USER second SKIPME yes",
        "2",
    )
    .or_else(|_| Ok::<_, anyhow::Error>(()))?;
    wait_until(TAKEN_WITHIN, || Ok(bed.status()?["ready"] == true))?;
    // What the keeper does still works: it follows the registry.
    output(
        bed.flect()?
            .args(["kv", "set", "store1", "--max-connections", "1"]),
    )?;
    wait_until(TAKEN_WITHIN, || {
        let answer = bed.connect(APP1)?.command(&["PING"]);
        Ok(answer.is_ok_and(|answer| answer.text().contains("max number of clients")))
    })?;
    check(&mut client, "GET a", "1")
}

fn changes_limits_and_operators() -> Result<()> {
    let bed = Bed::builder()
        .agent_keys("operators = [\"12345\"]")
        .start()?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = bed.connect(APP1)?;
        check(&mut client, "PING", "PONG")?;
        clients.push(client);
    }
    let as_nobody = |bed: &Bed| -> Result<bool> {
        let mut flect = std::process::Command::new("setpriv");
        let own = bed.flect()?;
        flect.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        flect
            .arg(own.get_program())
            .args(own.get_args())
            .arg("status");
        Ok(flect.output()?.status.success())
    };
    ensure!(!as_nobody(&bed)?, "nobody is an operator");
    edit(&bed, |text| {
        text.replace("operators = [\"12345\"]", "operators = [\"65534\"]")
            + "\n[limits]\nconnections = 3\n"
    })?;
    let config = reload(&bed)?;
    ensure!(
        config["error"].is_null() && config["ignored"] == serde_json::json!([]),
        "{config}"
    );
    ensure!(as_nobody(&bed)?, "the new operator is none");
    let refused = bed.connect(APP1)?.command(&["PING"])?;
    ensure!(
        refused.text().contains("max number of clients"),
        "{refused}"
    );
    for client in &mut clients {
        check(client, "PING", "PONG")?;
    }
    Ok(())
}

fn is_told_to_the_supervisor() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let mut supervisor = Supervisor::of(&bed, "")?;
    supervisor.expect("READY", |line| line == "READY=1")?;
    hang_up(&bed)?;
    supervisor.expect("RELOADING", |line| line == "RELOADING=1")?;
    supervisor.expect("the time", |line| line.starts_with("MONOTONIC_USEC="))?;
    supervisor.expect("READY", |line| line == "READY=1")?;
    edit(&bed, |text| text + "nonsense")?;
    hang_up(&bed)?;
    supervisor.expect("RELOADING", |line| line == "RELOADING=1")?;
    supervisor.expect("READY", |line| line == "READY=1")?;
    supervisor.expect("a status", |line| {
        line.starts_with("STATUS=the configuration is not taken")
    })?;
    Ok(())
}
