//! A server that is there and does not do what it is asked: apps hear its own words, and it is used again as
//! soon as it does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Body;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 1] = [("refusals_are_the_servers_own", refusals)];

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
    // While it stands still, so does the app, and then it has its answer.
    let mut slow = bed.operator()?;
    slow.send(&["DEBUG", "SLEEP", "1.2"])?;
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    same(&mut app, &mut direct, "GET a", "1")?;
    ensure!(begun.elapsed() > Duration::from_secs(1), "it was not slow");
    // The same session all the while, and the agent has not lost its way.
    same(&mut app, &mut direct, "SET a 4", "OK")?;
    bed.wait_until_ready()
}
