//! The control socket: who may ask for what, and that nobody keeps others out.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::{Client, NOBODY};
use super::{Body, expect};
use crate::bed::{APP1, Bed, UNCLAIMED};

pub const BODIES: [(&str, Body); 4] = [
    ("requests_are_judged_by_who_asks", requests_are_judged),
    ("operators_are_named", operators_are_named),
    ("hostile_clients_block_nobody", hostile_clients),
    ("metrics_are_counted", metrics_are_counted),
];

/// The code of an error reply, or `ok`.
pub fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or("ok")
}

fn requests_are_judged() -> Result<()> {
    let bed = Bed::builder().users(&["nobody"]).start()?;
    let (status, metrics, apps) = (
        json!({ "op": "status" }),
        json!({ "op": "metrics" }),
        json!({ "op": "apps" }),
    );
    let names = |reply: &Value| -> Vec<String> {
        let apps = reply["ok"]["apps"].as_array().cloned().unwrap_or_default();
        apps.iter()
            .filter_map(|app| app["name"].as_str().map(str::to_owned))
            .collect()
    };
    let mut root = Client::start(&bed.socket(), 0, |_| Ok(()))?;
    let reply = root.ask(&status)?;
    ensure!(reply["ok"]["environment"] == "default", "{reply}");
    ensure!(code(&root.ask(&metrics)?) == "ok", "metrics for root");
    let reply = root.ask(&apps)?;
    ensure!(names(&reply) == ["app1", "app2", "neighbour"], "{reply}");
    ensure!(reply["ok"]["current"].is_null(), "{reply}");
    ensure!(
        reply["ok"]["address"] == bed.address().to_string(),
        "{reply}"
    );

    let mut nobody = Client::start(&bed.socket(), NOBODY, |_| Ok(()))?;
    ensure!(code(&nobody.ask(&status)?) == "denied", "status for nobody");
    ensure!(
        code(&nobody.ask(&metrics)?) == "denied",
        "metrics for nobody"
    );
    let reply = nobody.ask(&apps)?;
    ensure!(names(&reply) == [APP1], "{reply}");
    let expected = json!({
        "name": "app1", "default": "store1", "stores": ["store1"], "missing": [], "tokens": [], "state": "ready"
    });
    ensure!(reply["ok"]["apps"][0] == expected, "{reply}");
    let mut other = Client::start(&bed.socket(), 12_345, |_| Ok(()))?;
    ensure!(names(&other.ask(&apps)?).is_empty(), "apps for somebody");

    // Root inside of an app is the app, and sees itself.
    let mut tenant = Client::start(&bed.socket(), 0, |command| bed.place("app2", command))?;
    ensure!(code(&tenant.ask(&status)?) == "denied", "status for an app");
    let reply = tenant.ask(&apps)?;
    ensure!(
        names(&reply) == ["app2"] && reply["ok"]["current"] == "app2",
        "{reply}"
    );
    let mut unclaimed = Client::start(&bed.socket(), 0, |c| bed.place(UNCLAIMED, c))?;
    ensure!(
        code(&unclaimed.ask(&status)?) == "denied",
        "status for the unclaimed"
    );
    ensure!(
        names(&unclaimed.ask(&apps)?).is_empty(),
        "apps for the unclaimed"
    );

    for (request, expected) in [
        (json!({ "op": "no-such" }), "invalid"),
        (json!({}), "invalid"),
        (json!([1]), "invalid"),
        (json!({ "op": "enter" }), "invalid"),
        (json!({ "op": "enter", "app": "no-such" }), "unknown"),
    ] {
        let reply = root.ask(&request)?;
        ensure!(code(&reply) == expected, "{request}: {reply}");
    }
    Ok(())
}

fn operators_are_named() -> Result<()> {
    let keys = format!("operators = [\"{NOBODY}\", \"@no-such-group\", \"@4242\"]");
    let bed = Bed::builder().agent_keys(&keys).start()?;
    let status = json!({ "op": "status" });
    let mut nobody = Client::start(&bed.socket(), NOBODY, |_| Ok(()))?;
    ensure!(code(&nobody.ask(&status)?) == "ok", "an operator by number");
    // A client's group is its user's number here.
    let mut grouped = Client::start(&bed.socket(), 4242, |_| Ok(()))?;
    ensure!(code(&grouped.ask(&status)?) == "ok", "an operator by group");
    let mut other = Client::start(&bed.socket(), 4243, |_| Ok(()))?;
    ensure!(code(&other.ask(&status)?) == "denied", "somebody else");
    let mut inside = Client::start(&bed.socket(), NOBODY, |c| bed.place(APP1, c))?;
    ensure!(
        code(&inside.ask(&status)?) == "denied",
        "an operator in an app"
    );
    ensure!(bed.agent_log().contains("no-such-group"), "no warning");
    Ok(())
}

fn hostile_clients() -> Result<()> {
    let bed = Bed::builder().start()?;
    // Lines without end, silence, and replies that nobody reads, more than one user may have.
    let mut all = Vec::new();
    for number in 0..200 {
        let mut stream = UnixStream::connect(bed.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let bytes = match number % 3 {
            0 => vec![b'x'; 100_000],
            1 => b"{\"op\":\"status\"}\n".repeat(100),
            _ => Vec::new(),
        };
        stream.set_write_timeout(Some(Duration::from_millis(10)))?;
        // The agent may have closed it already.
        let _ = stream.write_all(&bytes);
        all.push(stream);
    }
    let mut line = String::new();
    match BufReader::new(&mut all[0]).read_line(&mut line) {
        Ok(_) => ensure!(line.contains("invalid"), "{line}"),
        // Closed with bytes of the endless line unread: the answer may be lost with them.
        Err(error) => ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}"),
    }
    // Another user is served meanwhile.
    let mut nobody = Client::start(&bed.socket(), NOBODY, |_| Ok(()))?;
    let reply = nobody.ask(&json!({ "op": "apps" }))?;
    ensure!(code(&reply) == "ok", "{reply}");
    // The last ones were turned away.
    let mut last = all.pop().context("just made")?;
    let ended = match last.read(&mut [0; 10]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    ensure!(ended, "one user has 200 connections");
    drop(all);
    drop(last);
    super::soon("root again", || Ok(bed.status().is_ok()))
}

fn metrics_are_counted() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut wire = bed.connect(APP1)?;
    for number in 0..10 {
        expect(&mut wire, &format!("SET user:{number} x"), "OK")?;
    }
    let unclaimed = super::said(&mut bed.connect(UNCLAIMED)?, "PING");
    ensure!(unclaimed.starts_with("-DENIED no app"), "{unclaimed}");
    let mut root = Client::start(&bed.socket(), 0, |_| Ok(()))?;
    let reply = root.ask(&json!({ "op": "metrics" }))?;
    let metrics = &reply["ok"];
    let store = metrics["stores"]
        .as_array()
        .and_then(|stores| stores.iter().find(|store| store["name"] == "store1"))
        .with_context(|| format!("no store1: {reply}"))?;
    ensure!(
        store["requests"] == 10 && store["apps"] == json!([APP1]),
        "{store}"
    );
    ensure!(
        store["sessions"] == 1 && store["commands"][0]["name"] == "set",
        "{store}"
    );
    ensure!(metrics["node"]["sessions"] == 1, "{metrics}");
    ensure!(
        metrics["node"]["rss_bytes"].as_u64() > Some(1 << 20),
        "{metrics}"
    );
    let refusal = &metrics["refusals"][0];
    let cgroup = refusal["cgroup"].as_str().unwrap_or_default();
    ensure!(cgroup.ends_with("/unclaimed"), "{refusal}");
    ensure!(
        refusal["reason"]
            .as_str()
            .is_some_and(|r| r.starts_with("no app")),
        "{refusal}"
    );
    Ok(())
}
