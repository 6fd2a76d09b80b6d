//! What a session keeps when it goes on in another agent, and when it may not go on.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::trials::builder;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, NEIGHBOUR};
use crate::smoke::check;
use crate::wire::encode;

/// Longer than anything that is waited for takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Protocol, database, name, id, what was received and not taken: nothing is lost. What has state on the server
/// is waited for, or ends.
pub(super) fn go_on_as_they_were() -> Result<()> {
    let bed = builder()
        .agent_keys("drain_seconds = 5")
        .stores(2)
        .workers(2)
        .start()?;
    let mut plain = bed.connect(APP1)?;
    plain.command(&["HELLO", "3", "SETNAME", "ada"])?;
    check(&mut plain, "SELECT 3", "OK")?;
    check(&mut plain, "SET a 3", "OK")?;
    let line = |text: String, key: &str| -> String {
        // In RESP3 it is a verbatim string.
        let text = text.trim_start_matches("txt:");
        let part = text.split(' ').find(|part| part.starts_with(key));
        part.unwrap_or_default().to_owned()
    };
    let before = plain.command(&["CLIENT", "INFO"])?.text();
    let mut other = bed.connect(APP1)?;
    check(&mut other, "AUTH store2 any", "OK")?;
    check(&mut other, "SET b 2", "OK")?;
    let mut muted = bed.connect(APP1)?;
    muted.send_raw(&encode(&["CLIENT", "REPLY", "OFF"]))?;
    muted.send_raw(&encode(&["SET", "muted", "1"]))?;
    // Half of a request, and a request that is streamed: its beginning is with the server already.
    let mut half = bed.connect(APP1)?;
    check(&mut half, "PING", "PONG")?;
    let request = encode(&["SET", "half", "whole"]);
    half.send_raw(&request[..20])?;
    let mut large = bed.connect(APP1)?;
    let value = "x".repeat(400_000);
    let whole = encode(&["SET", "large", &value]);
    large.send_raw(&whole[..200_000])?;
    let mut queued = bed.connect(APP1)?;
    check(&mut queued, "MULTI", "OK")?;
    check(&mut queued, "SET q 1", "QUEUED")?;
    let mut listens = bed.connect(APP1)?;
    listens.command(&["SUBSCRIBE", "news"])?;
    let mut operator = bed.connect(APP1)?;
    wait_until(PATIENCE, || {
        let said = operator.command(&["GET", "muted"])?.text() == "1";
        Ok(said
            && operator
                .command(&["CLIENT", "LIST"])?
                .text()
                .contains("qbuf=20"))
    })?;
    let successor = bed.spawn_successor()?;
    let ready = bed.times_ready();
    // The predecessor's end is waited for below.
    let predecessor = bed.swap_agent(successor)?;
    bed.wait_until_ready_again(ready)?;
    check(&mut queued, "EXEC", "[OK]")?;
    large.send_raw(&whole[200_000..])?;
    ensure!(large.read()?.text() == "OK");
    half.send_raw(&request[20..])?;
    ensure!(half.read()?.text() == "OK");
    predecessor(PATIENCE)?;
    check(&mut plain, "GET a", "3")?;
    let after = plain.command(&["CLIENT", "INFO"])?.text();
    for key in ["id=", "addr=", "laddr=", "name=", "db=", "user=", "resp="] {
        let (before, after) = (line(before.clone(), key), line(after.clone(), key));
        ensure!(before == after && !before.is_empty(), "{before} {after}");
    }
    check(&mut other, "GET b", "2")?;
    check(&mut other, "ACL WHOAMI", "store2")?;
    muted.send_raw(&encode(&["CLIENT", "REPLY", "ON"]))?;
    ensure!(muted.read()?.text() == "OK", "it was answered before");
    check(&mut half, "GET half", "whole")?;
    check(&mut large, "STRLEN large", "400000")?;
    check(&mut queued, "GET q", "1")?;
    ensure!(listens.read().is_err(), "a subscriber goes on");
    // Ids that were given stay those of their sessions.
    let mut fresh = bed.connect(APP1)?;
    let ids = fresh.command(&["CLIENT", "LIST"])?.text();
    let mut ids: Vec<_> = ids.lines().map(|it| line(it.to_owned(), "id=")).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    ensure!(count > 5 && ids.len() == count, "{ids:?} of {count}");
    Ok(())
}

/// A session whose app has lost its cgroup meanwhile, or whose store is another one now, does not go on.
pub(super) fn are_judged_anew() -> Result<()> {
    let bed = builder().start()?;
    let mut kept = bed.connect(APP1)?;
    check(&mut kept, "SET a 1", "OK")?;
    let mut lost = bed.connect(NEIGHBOUR)?;
    check(&mut lost, "SET a 1", "OK")?;
    let mut moved = bed.connect("app2")?;
    check(&mut moved, "SET a 1", "OK")?;
    let text = std::fs::read_to_string(bed.config_path())?;
    let text = text
        .replace("/apps/neighbour\"", "/apps/somebody-else\"")
        .replace("stores = [\"app2\"]", "stores = [\"neighbour\"]");
    std::fs::write(bed.config_path(), text)?;
    bed.upgrade_agent()?;
    check(&mut kept, "GET a", "1")?;
    for mut wire in [lost, moved] {
        ensure!(wire.command(&["GET", "a"]).is_err(), "it goes on");
    }
    Ok(())
}
