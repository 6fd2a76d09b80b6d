//! A store whose reads replicas may answer, beside one whose reads they may not.
//!
//! The replica is made to hold other values than its primary, so that who has answered can be seen.

use anyhow::{Context, Result, ensure};

use super::Body;
use super::replicas::Town;
use crate::bed::{APP1, NEIGHBOUR};
use crate::wire::Wire;

pub const BODIES: [(&str, Body); 1] = [("replicas_answer_reads_where_they_may", reads)];

/// An event loop on a busy machine.
const SEEN_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

fn expect(wire: &mut Wire, line: &str, reply: &str) -> Result<()> {
    let words: Vec<_> = line.split(' ').collect();
    let told = wire.command(&words).with_context(|| line.to_owned())?;
    let told = told.to_string();
    ensure!(told == reply, "{line}: {told} and not {reply}");
    Ok(())
}

fn reads() -> Result<()> {
    let town = Town::new()?;
    let (first, second) = (town.bed.address().port(), town.replica.number());
    town.configure(&format!(
        "nodes = [\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]\n"
    ))?;
    town.bed.start_agent()?;
    let bed = &town.bed;
    let mut stored = Vec::new();
    for (app, store) in [(APP1, "store1"), (NEIGHBOUR, "neighbour")] {
        expect(&mut bed.connect(app)?, "SET k primary", "OK")?;
        stored.push(format!("{}:k", bed.prefix(store)?));
    }
    let mut replica = town.replica()?;
    expect(&mut replica, "CONFIG SET replica-read-only no", "OK")?;
    for key in &stored {
        town.until("the replica has the key", || {
            Ok(replica.command(&["GET", key])?.text() == "primary")
        })?;
        expect(&mut replica, &format!("SET {key} replica"), "OK")?;
    }
    // Nobody asked for it.
    expect(&mut bed.connect(APP1)?, "GET k", "primary")?;
    let mut set = bed.flect()?;
    let set = set
        .args(["kv", "set", "store1", "--replica-reads", "on"])
        .output()?;
    ensure!(set.status.success(), "flect kv set: {set:?}");
    let mut app = bed.connect(APP1)?;
    town.until("the replica answers", || {
        Ok(app.command(&["GET", "k"])?.text() == "replica")
    })?;
    // A connection is shared by protocol.
    let mut third = bed.connect(APP1)?;
    third.command(&["HELLO", "3"])?;
    town.until("the replica answers in RESP3", || {
        Ok(third.command(&["GET", "k"])?.text() == "replica")
    })?;
    expect(&mut bed.connect(NEIGHBOUR)?, "GET k", "primary")?;
    // Whatever is more than a read is the primary's, and what follows it as well.
    let mut writer = bed.connect(APP1)?;
    expect(&mut writer, "GET k", "replica")?;
    expect(&mut writer, "SET own 1", "OK")?;
    expect(&mut writer, "GET own", "1")?;
    expect(&mut writer, "GET k", "primary")?;
    for (line, reply) in [
        ("SCAN 0 MATCH k", None),
        ("DBSIZE", Some("2")),
        ("EVAL return(redis.call('GET','k')) 0", Some("primary")),
        ("GETEX k", Some("primary")),
    ] {
        let mut wire = bed.connect(APP1)?;
        match reply {
            Some(reply) => expect(&mut wire, line, reply)?,
            None => drop(wire.command(&line.split(' ').collect::<Vec<_>>())?),
        }
        expect(&mut wire, "GET k", "primary")?;
    }
    let mut queued = bed.connect(APP1)?;
    for (line, reply) in [("MULTI", "OK"), ("GET k", "QUEUED"), ("EXEC", "[primary]")] {
        expect(&mut queued, line, reply)?;
    }
    // Requests that were sent in one go take effect in their order.
    let mut pipelined = bed.connect(APP1)?;
    for number in 0..50 {
        let value = number.to_string();
        pipelined.send(&["GET", "k"])?;
        pipelined.send(&["SET", "counted", &value])?;
        pipelined.send(&["GET", "counted"])?;
    }
    for number in 0..50 {
        let told: Vec<String> = (0..3)
            .map(|_| pipelined.read().map(|value| value.text()))
            .collect::<std::io::Result<_>>()?;
        ensure!(
            (told[0] == "replica" || told[0] == "primary")
                && told[1] == "OK"
                && told[2] == number.to_string(),
            "{number}: {told:?}"
        );
    }
    // The replica goes: who has nothing under way there does not notice.
    expect(&mut app, "GET k", "replica")?;
    replica.send(&["SHUTDOWN", "NOSAVE"])?;
    ensure!(replica.read().is_err(), "the replica goes on");
    // For each event loop to see the end of what it had there.
    std::thread::sleep(SEEN_WITHIN);
    expect(&mut app, "GET k", "primary")?;
    expect(&mut app, "SET k 2", "OK")?;
    bed.wait_until_ready()
}
