//! How many connections to Valkey there are: as few as serve, and none that nobody needs any more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 2] = [
    ("unused_connections_are_closed", unused),
    ("few_sessions_share_a_connection", few),
];

/// An agent keeps them for 30 s; a busy machine takes longer to look.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);

/// Connections that agents have for a store, those of its SORTs included.
fn connections(operator: &mut Wire, prefix: &str) -> Result<usize> {
    let user = format!(" user=flect.{}", prefix.trim_matches(['{', '}']));
    let list = operator.command(&["CLIENT", "LIST"])?.text();
    Ok(list.lines().filter(|line| line.contains(&user)).count())
}

/// Of an agent's many workers a store with few sessions has one, and one with many sessions more.
fn few() -> Result<()> {
    let bed = Bed::builder().workers(6).start()?;
    let mut operator = bed.operator()?;
    let prefix = bed.prefix("store1")?;
    let mut sessions = Vec::new();
    let mut connect = |count: usize| -> Result<usize> {
        while sessions.len() < count {
            let mut session = bed.connect(APP1)?;
            session.command(&["GET", "k"])?;
            sessions.push(session);
        }
        connections(&mut operator, &prefix)
    };
    for (count, expected) in [(16, 1), (17, 2), (90, 6)] {
        let found = connect(count)?;
        ensure!(found == expected, "{count} sessions: {found} connections");
    }
    Ok(())
}

/// A store without sessions holds no connection, and is served as before when one comes again.
fn unused() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut operator = bed.operator()?;
    let prefixes = [bed.prefix("store1")?, bed.prefix("app2")?];
    let mut counts = || -> Result<[usize; 2]> {
        let mut count = |prefix: &String| connections(&mut operator, prefix);
        Ok([count(&prefixes[0])?, count(&prefixes[1])?])
    };
    let mut stays = bed.connect(APP1)?;
    let mut goes = bed.connect("app2")?;
    for app in [&mut stays, &mut goes] {
        for words in [
            &["SADD", "s", "1"][..],
            &["SORT", "s", "BY", "w_*"],
            &["HELLO", "3"],
            &["GET", "k"],
        ] {
            app.command(words)?;
        }
    }
    let before = counts()?;
    ensure!(before.iter().all(|count| *count >= 3), "{before:?}");
    drop(goes);
    wait_until(CLOSED_WITHIN, || Ok(counts()?[1] == 0)).context("connections are left")?;
    // While somebody is there they stay, used or not.
    ensure!(counts()? == [before[0], 0], "one that is in use was closed");
    ensure!(stays.command(&["GET", "k"])?.text() == "(nil)", "GET");
    let told = bed.connect("app2")?.command(&["SCARD", "s"])?.text();
    ensure!(told == "1", "SCARD: {told}");
    Ok(())
}
