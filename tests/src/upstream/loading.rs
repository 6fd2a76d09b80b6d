//! A server that was started again and loads its data: apps hear that from itself, at once, though its users
//! are gone until the agent makes them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 1] = [("loading_is_told_by_the_server", loading)];

/// Keys that take the server a millisecond each, unless it is told otherwise: half a minute in all.
const KEYS: &str = "30000";

/// What a client that waits for an answer must not have to wait: agents look after their users each half second.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// What apps ask, each line on a connection of its own; several requests are set apart by `;`.
const LINES: &[&str] = &[
    "PING",
    "GET a",
    "SET a 2",
    "GET a;SET a 2;GET a",
    "HELLO 3;GET a",
    "SELECT 1;GET a",
    "MULTI;GET a;EXEC",
    "MULTI;DBSIZE;EXEC",
    "WATCH a;GET a;UNWATCH",
    "BLPOP l 1",
    "KEYS *",
    "SCAN 0",
    "DBSIZE",
    "RANDOMKEY",
    "FLUSHDB",
    "SORT l BY w_*",
    "EVAL return{1} 0",
    "EVALSHA 6b1bf486c81ceb7edf3c093f4c48582e38c0e791 0",
    "FCALL f 0",
    "SPUBLISH c x",
    "OBJECT ENCODING a",
    "DUMP a",
    "CLIENT SETNAME x;CLIENT GETNAME;GET a",
];

/// The replies to a line's requests, in one text.
fn ask(wire: &mut Wire, line: &str) -> Result<String> {
    let mut told = Vec::new();
    for request in line.split(';') {
        let words: Vec<_> = request.split(' ').collect();
        let reply = wire.command(&words).with_context(|| request.to_owned())?;
        // HELLO tells of connections and versions.
        if words[0] != "HELLO" {
            told.push(reply.to_string());
        }
    }
    Ok(told.join("; "))
}

fn is_loading(bed: &Bed) -> Result<bool> {
    let told = bed.operator()?.command(&["INFO", "persistence"])?.text();
    Ok(told.contains("loading:1\r"))
}

fn loading() -> Result<()> {
    let bed = Bed::builder()
        .valkey_option("--key-load-delay", "1000")
        // Clients are served each time that so much is read.
        .valkey_option("--loading-process-events-interval-bytes", "1024")
        .start()?;
    let library = "#!lua name=l\nredis.register_function('f', function() return 'there' end)";
    let mut app = bed.connect(APP1)?;
    ensure!(app.command(&["SET", "a", "1"])?.text() == "OK", "SET");
    let loaded = app.command(&["FUNCTION", "LOAD", library])?.text();
    ensure!(loaded == "l", "{loaded}");
    let mut calm = bed.connect(APP1)?;
    ensure!(calm.command(&["GET", "a"])?.text() == "1", "GET");
    let mut operator = bed.operator()?;
    for line in [&["DEBUG", "POPULATE", KEYS][..], &["SAVE"]] {
        let told = operator.command(line)?.text();
        ensure!(told == "OK", "{line:?}: {told}");
    }
    bed.kill_valkey()?;
    bed.start_valkey()?;
    // A session that had nothing under way does not notice more than that.
    let begun = Instant::now();
    let told = calm.command(&["GET", "a"])?.text();
    ensure!(told.starts_with("-LOADING "), "a session goes on: {told}");
    ensure!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
    let mut differing = Vec::new();
    for line in LINES {
        let own = ask(&mut bed.operator()?, line)?;
        let begun = Instant::now();
        let mediated = ask(&mut bed.connect(APP1)?, line).context("an app's connection")?;
        ensure!(
            begun.elapsed() < TOLD_WITHIN,
            "{line}: {:?}",
            begun.elapsed()
        );
        if own != mediated {
            differing.push(format!("{line}: {mediated} where the server says {own}"));
        }
    }
    ensure!(is_loading(&bed)?, "it has loaded too soon for this trial");
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    // An agent that starts now has nothing to know its stores by, and waits; so do connects.
    bed.kill_agent()?;
    bed.spawn_agent_with("A=1")?;
    wait_until(TOLD_WITHIN * 4, || {
        Ok(bed.agent_log().contains("is loading the dataset"))
    })
    .with_context(|| bed.agent_log())?;
    ensure!(is_loading(&bed)?, "it has loaded too soon for this trial");
    let quick = bed
        .operator()?
        .command(&["CONFIG", "SET", "key-load-delay", "0"])?;
    ensure!(quick.text() == "OK", "{quick}");
    bed.wait_until_ready()?;
    let mut app = bed.connect(APP1)?;
    ensure!(app.command(&["GET", "a"])?.text() == "1", "it is loaded");
    ensure!(
        app.command(&["FCALL", "f", "0"])?.text() == "there",
        "FCALL"
    );
    Ok(())
}
