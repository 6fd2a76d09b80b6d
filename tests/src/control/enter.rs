//! Entering an app, as `flect run` does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::{Client, NOBODY};
use super::second::{Options, Second};
use super::socket::code;
use super::{Body, flect};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, UNCLAIMED};

pub const BODIES: [(&str, Body); 3] = [
    ("permitted_users_enter", permitted_users_enter),
    ("apps_cannot_leave_themselves", apps_cannot_leave),
    ("explicit_mode_has_nothing_to_enter", nothing_to_enter),
];

fn enter(app: &str) -> Value {
    json!({ "op": "enter", "app": app })
}

fn run_folder(bed: &Bed) -> Result<std::path::PathBuf> {
    let app = bed.cgroup(APP1)?;
    let managed = app.parent().and_then(Path::parent);
    Ok(managed.context("the managed root")?.join("flect.run"))
}

/// How many run cgroups an app has.
fn groups(bed: &Bed, app: &str) -> Result<usize> {
    let folder = run_folder(bed)?.join(app);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    Ok(entries.filter(|e| e.path().is_dir()).count())
}

fn permitted_users_enter() -> Result<()> {
    let bed = Bed::builder().users(&["nobody"]).start()?;
    let mut user = Client::start(&bed.socket(), NOBODY, |_| Ok(()))?;
    let before = user.cgroup()?;
    let reply = user.ask(&enter("app2"))?;
    ensure!(code(&reply) == "denied", "{reply}");
    ensure!(user.cgroup()? == before, "moved all the same");

    let reply = user.ask(&enter(APP1))?;
    ensure!(reply["ok"]["default"] == "store1", "{reply}");
    ensure!(
        reply["ok"]["address"] == bed.address().to_string(),
        "{reply}"
    );
    let inside = user.cgroup()?;
    ensure!(inside.contains("/flect.run/app1/"), "{inside}");
    let pong = user.ping(bed.address())?;
    ensure!(pong == "PONG", "{pong}");
    let reply = user.ask(&json!({ "op": "apps" }))?;
    ensure!(reply["ok"]["current"] == APP1, "{reply}");

    // Once more changes nothing, and another app that does not name it stays closed.
    let reply = user.ask(&enter(APP1))?;
    ensure!(code(&reply) == "ok" && user.cgroup()? == inside, "{reply}");
    let reply = user.ask(&enter("app2"))?;
    ensure!(
        code(&reply) == "denied" && user.cgroup()? == inside,
        "{reply}"
    );
    let reply = user.ask(&json!({ "op": "status" }))?;
    ensure!(code(&reply) == "denied", "{reply}");

    let mut root = Client::start(&bed.socket(), 0, |_| Ok(()))?;
    let reply = root.ask(&enter("app2"))?;
    ensure!(code(&reply) == "ok", "{reply}");
    ensure!(
        root.cgroup()?.contains("/flect.run/app2/"),
        "root stays outside"
    );
    // Root in an app is that app: it came by being the operator, which it is no more.
    let reply = root.ask(&enter(APP1))?;
    ensure!(code(&reply) == "denied", "{reply}");

    // The cgroups outlive the agent, and go with the last process.
    ensure!(
        groups(&bed, APP1)? == 1 && groups(&bed, "app2")? == 1,
        "cgroups"
    );
    bed.kill_agent()?;
    bed.start_agent()?;
    let pong = user.ping(bed.address())?;
    ensure!(pong == "PONG", "after the agent's restart: {pong}");
    drop(user);
    drop(root);
    wait_until(Duration::from_secs(20), || {
        Ok(fs::read_dir(run_folder(&bed)?)?
            .flatten()
            .all(|e| !e.path().is_dir()))
    })
    .context("empty cgroups stay")?;
    Ok(())
}

fn apps_cannot_leave() -> Result<()> {
    let bed = Bed::builder().users(&["nobody"]).start()?;
    for (place, uid) in [
        ("app2", 0),
        ("app2", NOBODY),
        (UNCLAIMED, 0),
        (UNCLAIMED, NOBODY),
    ] {
        let mut tenant = Client::start(&bed.socket(), uid, |command| bed.place(place, command))?;
        let before = tenant.cgroup()?;
        let reply = tenant.ask(&enter(APP1))?;
        ensure!(code(&reply) == "denied", "{place} as {uid}: {reply}");
        ensure!(tenant.cgroup()? == before, "{place} as {uid} was moved");
    }
    // Into itself: that is where it is, so it is not moved out of its limits.
    let mut tenant = Client::start(&bed.socket(), 0, |c| bed.place("app2/deep", c))?;
    let before = tenant.cgroup()?;
    let reply = tenant.ask(&enter("app2"))?;
    ensure!(reply["ok"]["name"] == "app2", "{reply}");
    ensure!(tenant.cgroup()? == before, "an app was moved into itself");
    ensure!(groups(&bed, "app2")? == 0, "a cgroup was made");
    // Nor by a cgroup that it makes by that name below its own.
    let below = "app2/flect.run/app1/1";
    let mut liar = Client::start(&bed.socket(), 0, |c| bed.place(below, c))?;
    let reply = liar.ask(&json!({ "op": "apps" }))?;
    ensure!(reply["ok"]["current"] == "app2", "{reply}");
    // An app that is not in the configuration any more leads nowhere.
    let gone = run_folder(&bed)?.join("gone/1");
    fs::create_dir_all(&gone)?;
    let mut lost = Client::start(&bed.socket(), 0, |c| crate::bed::place::in_cgroup(c, &gone))?;
    let refused = lost.ping(bed.address())?;
    ensure!(refused.starts_with("-DENIED no app"), "{refused}");
    Ok(())
}

fn nothing_to_enter() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let tail = "[[app]]\nname = \"app1\"\ncgroups = [\"/app1\"]\nstores = [\"store1\"]\n";
    let second = Second::start(
        &bed,
        &Options {
            tail: tail.to_owned(),
            ..Options::default()
        },
    )?;
    let mut root = Client::start(&second.socket(), 0, |_| Ok(()))?;
    let reply = root.ask(&enter(APP1))?;
    ensure!(code(&reply) == "failed", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("explicit listener"), "{reply}");
    let reply = root.ask(&json!({ "op": "apps" }))?;
    ensure!(reply["ok"]["mode"] == "explicit", "{reply}");
    ensure!(
        reply["ok"]["address"] == second.address().to_string(),
        "{reply}"
    );
    ensure!(
        flect(&bed, &["kv", "list"]).is_ok(),
        "flect kv needs no agent"
    );
    Ok(())
}
