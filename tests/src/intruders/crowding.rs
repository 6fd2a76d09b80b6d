//! One app makes network namespaces without end, in each of which the agent would have to listen.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flect_agent::weakened::Weakness;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::ground::{Answer, Ground, PATIENCE, open};
use super::namespaces::served_here;
use super::scene::{NAMESPACES_SHARE, Scene};
use super::{Attack, By, Falls, NEIGHBOUR, system};
use crate::chaos::maps::Pinned;
use crate::resources::stage::{audited, wait_until};

/// How many it makes: some fill its share, the others are too many.
const MADE: usize = NAMESPACES_SHARE + 24;
/// A namespace is opened at once; this is for a busy machine, and for all of them together.
const TRIED_FOR: Duration = Duration::from_secs(5);
/// Less than a namespace without life is kept where its app has room.
const ROOM_WITHIN: Duration = Duration::from_secs(15);

pub(super) const ATTACKS: [Attack; 1] = [Attack {
    name: "namespaces_without_number",
    by: By::Staged(without_number),
    may_be: &[],
    falls: Falls::Under(&[Weakness::NamespaceShare]),
}];

fn without_number(scene: &Scene) -> Result<Answer> {
    let count =
        || -> Result<usize> { Ok(Pinned::open(&scene.bed.pins(), "NAMESPACES")?.keys()?.len()) };
    let before = count()?;
    let mut app = scene.start("part_crowd", true)?;
    app.answer()?;
    let made = count()? - before;
    let neighbour = scene.intrude("part_fresh_neighbour", true)?;
    ensure!(
        neighbour == Answer::Served(NEIGHBOUR.to_owned()),
        "the neighbour in a fresh namespace: {neighbour}"
    );
    if made > NAMESPACES_SHARE {
        return Ok(Answer::Crossed(format!("listeners in {made} namespaces")));
    }
    let is_told = || {
        let lines = audited(&scene.bed, "namespaces");
        let beyond = |line: &serde_json::Value| line["detail"].to_string().contains("beyond");
        Ok(lines.iter().any(beyond))
    };
    wait_until(is_told)?;
    // When the crowd has gone its place is free at once.
    app.finish()?;
    let gone = Instant::now();
    let served = scene.intrude("root_of_a_container", true)?;
    ensure!(
        matches!(served, Answer::Served(_)) && gone.elapsed() < ROOM_WITHIN,
        "after {:?} the app itself is {served}",
        gone.elapsed()
    );
    Ok(Answer::Refused(format!("listeners in {made} namespaces")))
}

/// A process in each namespace, all at once: each asks until it is served or the time is over.
pub(super) fn crowd(ground: &Ground) -> Result<()> {
    let (ready, waits) = UnixStream::pair()?;
    let (ends, stays) = UnixStream::pair()?;
    let mut children = Vec::new();
    for _ in 0..MADE {
        children.push(system::start_child(|| {
            // However its maker ends.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            system::own_network()?;
            let deadline = Instant::now() + TRIED_FOR;
            while let Answer::Refused(_) = open(ground.valkey())
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(50));
            }
            (&ready).write_all(b"x")?;
            Ok((&stays).read_exact(&mut [0])?)
        })?);
    }
    waits.set_read_timeout(Some(TRIED_FOR + PATIENCE))?;
    (&waits).read_exact(&mut [0; MADE])?;
    println!("{}", Answer::Refused("ready".to_owned()));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    (&ends).write_all(&[0; MADE])?;
    children.into_iter().try_for_each(system::Beside::end)?;
    println!("{}", Answer::Refused("gone".to_owned()));
    Ok(())
}

/// The neighbour, in a network namespace that nobody has seen.
pub(super) fn fresh_neighbour(ground: &Ground) -> Result<()> {
    ground.join(NEIGHBOUR)?;
    system::own_network()?;
    println!("{}", served_here(ground));
    Ok(())
}
