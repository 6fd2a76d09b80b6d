//! A server that is there and does not do what it is asked: apps hear its own words, and it is used again as
//! soon as it does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 2] = [
    ("refusals_are_the_servers_own", refusals),
    ("loading_is_told_and_waited_for", loading),
];

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a line to both and wants the same words.
fn same(app: &mut Wire, direct: &mut Wire, line: &str, begins: &str) -> Result<()> {
    let words: Vec<_> = line.split(' ').collect();
    let (mediated, own) = (app.command(&words)?.text(), direct.command(&words)?.text());
    ensure!(
        mediated == own && own.starts_with(begins),
        "{line}: {mediated} where the server says {own}"
    );
    Ok(())
}

fn refusals() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut app = bed.connect(APP1)?;
    let (mut operator, mut direct) = (bed.operator()?, bed.operator()?);
    let mut set = |line: &str| -> Result<()> {
        let told = operator.command(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(told.text() == "OK", "{line}: {told}");
        Ok(())
    };
    for _ in 0..2 {
        same(&mut app, &mut direct, "SET a 1", "OK")?;
        set("CONFIG SET maxmemory 1")?;
        same(&mut app, &mut direct, "SET a 2", "-OOM ")?;
        same(&mut app, &mut direct, "GET a", "1")?;
        set("CONFIG SET maxmemory 0")?;
        // Nobody listens there: it stays a replica without a primary.
        set("REPLICAOF 127.0.0.1 1")?;
        same(&mut app, &mut direct, "SET a 3", "-READONLY ")?;
        same(&mut app, &mut direct, "GET a", "1")?;
        set("REPLICAOF NO ONE")?;
    }
    // The same session all the while, and the agent has not lost its way.
    same(&mut app, &mut direct, "SET a 4", "OK")?;
    bed.wait_until_ready()
}

/// A server that reads its data again after a restart answers LOADING, and then serves.
fn loading() -> Result<()> {
    // 2,000 keys at a millisecond each, and a look at clients every few of them.
    let bed = Bed::builder()
        .valkey_option("--appendonly", "yes")
        .valkey_option("--key-load-delay", "1000")
        .valkey_option("--loading-process-events-interval-bytes", "1024")
        .start()?;
    let mut app = bed.connect(APP1)?;
    for number in 0..2_000 {
        app.send(&["SET", &format!("k{number}"), "v"])?;
    }
    for _ in 0..2_000 {
        ensure!(app.read()?.text() == "OK", "SET");
    }
    bed.kill_valkey()?;
    bed.start_valkey()?;
    let mut heard = Vec::new();
    wait_until(PATIENCE, || {
        let answer = bed.connect(APP1)?.command(&["GET", "k1999"]);
        let answer = answer.map_or_else(|error| format!("({error})"), |reply| reply.text());
        let served = answer == "v";
        if heard.last() != Some(&answer) {
            heard.push(answer);
        }
        Ok(served)
    })
    .with_context(|| format!("{heard:?}; {}", bed.agent_log()))?;
    // Once it is served, nothing is missing.
    ensure!(!heard.iter().any(|it| it == "(nil)"), "{heard:?}");
    ensure!(
        heard.iter().any(|it| it.starts_with("-LOADING ")),
        "nobody heard that it is loading: {heard:?}"
    );
    Ok(())
}
