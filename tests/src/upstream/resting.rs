//! Connections to Valkey that nobody needs any more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};

pub const BODIES: [(&str, Body); 1] = [("unused_connections_are_closed", unused)];

/// An agent keeps them for 30 s; a busy machine takes longer to look.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);

/// A store without sessions holds no connection, and is served as before when one comes again.
fn unused() -> Result<()> {
    let bed = Bed::builder().start()?;
    let mut operator = bed.operator()?;
    let users = [bed.prefix("store1")?, bed.prefix("app2")?]
        .map(|prefix| format!(" user=flect.{}", prefix.trim_matches(['{', '}'])));
    let mut counts = || -> Result<[usize; 2]> {
        let list = operator.command(&["CLIENT", "LIST"])?.text();
        // The user of SORT, too.
        let count = |user: &String| list.lines().filter(|line| line.contains(user)).count();
        Ok([count(&users[0]), count(&users[1])])
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
