//! What holds while a store is emptied: it happens whole, whoever has gone and whatever goes on besides.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side};
use crate::wire::Wire;

/// More keys than a few pages hold.
const KEYS: usize = 20_000;

/// Keys of one MSET.
const BATCH: usize = 1000;

/// Long enough for any flush on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn fill(wire: &mut Wire, beginning: &str) -> Result<()> {
    for first in (0..KEYS).step_by(BATCH) {
        let mut words = vec!["MSET".to_owned()];
        for number in first..first + BATCH {
            words.extend([format!("{beginning}:{number}"), "v".to_owned()]);
        }
        wire.send(&words)?;
    }
    for _ in 0..KEYS / BATCH {
        wire.read()?;
    }
    Ok(())
}

/// Keys of the store as the server knows them.
fn kept(pair: &Pair) -> Result<usize> {
    let pattern = format!("{}*", pair.bed.prefix("store1")?);
    let names = pair.operator(Side::Store)?.command(&["KEYS", &pattern])?;
    Ok(names.items().len())
}

/// What was there before is gone when the reply comes, what is written after it stays, and others' keys
/// are left alone.
pub fn whole(pair: &Pair) -> Result<()> {
    let mut other = pair.bed.connect("app2")?;
    other.command(&["SET", "k:1", "of app2"])?;
    let mut wire = pair.connect(Side::Store)?;
    let mut writer = pair.connect(Side::Store)?;
    fill(&mut wire, "k")?;
    wire.command(&["SELECT", "3"])?;
    wire.command(&["SET", "k:1", "of database 3"])?;
    wire.command(&["SELECT", "0"])?;
    wire.send(&["FLUSHDB"])?;
    // In the same breath: it takes its turn.
    wire.send(&["SET", "after", "1"])?;
    let writing = thread::spawn(move || -> Result<()> {
        for number in 0..500 {
            writer.command(&["SET", &format!("during:{number}"), "1"])?;
            writer.command(&["DEL", &format!("during:{number}")])?;
        }
        Ok(())
    });
    ensure!(wire.read()?.text() == "OK", "FLUSHDB");
    ensure!(wire.read()?.text() == "OK", "SET behind it");
    writing.join().expect("no panic")?;
    let left = wire.command(&["KEYS", "*"])?.text();
    ensure!(left == "[after]", "{left}");
    wire.command(&["SELECT", "3"])?;
    let got = wire.command(&["GET", "k:1"])?.text();
    ensure!(got == "of database 3", "{got}");
    ensure!(wire.command(&["FLUSHALL"])?.text() == "OK", "FLUSHALL");
    ensure!(kept(pair)? == 0, "something is left");
    let got = other.command(&["GET", "k:1"])?.text();
    ensure!(got == "of app2", "another store lost its key: {got}");
    Ok(())
}

/// Several flushes of the same store at once.
pub fn at_once(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    fill(&mut wire, "k")?;
    let mut wires = Vec::new();
    for command in [
        "FLUSHDB",
        "FLUSHALL",
        "FLUSHDB",
        "DBSIZE",
        "KEYS none*",
        "FLUSHALL",
    ] {
        let mut wire = pair.connect(Side::Store)?;
        wire.send(&command.split(' ').collect::<Vec<_>>())?;
        wires.push((command, wire));
    }
    for (command, wire) in &mut wires {
        let got = wire.read()?.text();
        ensure!(!got.starts_with('-'), "{command}: {got}");
    }
    ensure!(kept(pair)? == 0, "something is left");
    Ok(())
}

/// A client that goes away has asked, and it is done: as on a private server, which does it at once.
pub fn gone(pair: &Pair) -> Result<()> {
    for command in ["FLUSHALL", "SWAPDB 0 1", "EVAL script"] {
        let mut wire = pair.connect(Side::Store)?;
        fill(&mut wire, "k")?;
        // Unread replies make the socket close with a reset.
        wire.send(&["GET", "k:1"])?;
        wire.send(&match command {
            "EVAL script" => vec![
                "EVAL",
                "redis.call('SET', 'a', 1) redis.call('FLUSHDB')",
                "0",
            ],
            command => command.split(' ').collect(),
        })?;
        // The request is with the agent.
        thread::sleep(Duration::from_millis(20));
        drop(wire);
        let mut other = pair.connect(Side::Store)?;
        wait_until(PATIENCE, || {
            Ok(other.command(&["EXISTS", "k:1", "k:19999"])?.text() == "0")
        })?;
        if command == "SWAPDB 0 1" {
            other.command(&["SELECT", "1"])?;
            let got = other.command(&["DBSIZE"])?.text();
            ensure!(got == KEYS.to_string(), "swapped: {got}");
        }
        other.command(&["FLUSHALL"])?;
    }
    Ok(())
}

/// The names for a transaction are taken away with it.
pub fn nothing_is_left_behind(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    wire.command(&["SET", "k", "1"])?;
    for commands in [
        &["MULTI", "DBSIZE", "EXEC"][..],
        &["MULTI", "FLUSHDB", "EXEC"],
        &["MULTI", "DISCARD"],
    ] {
        for command in commands {
            wire.command(&[command])?;
        }
    }
    let got = wire.command(&["DBSIZE"])?.text();
    ensure!(got == "0", "{got}");
    ensure!(kept(pair)? == 0, "the agent's own names are left");
    // Several share the names, which go by themselves a while later.
    for command in ["MULTI", "DBSIZE", "DBSIZE", "EXEC"] {
        wire.command(&[command])?;
    }
    let mut operator = pair.operator(Side::Store)?;
    let pattern = format!("{}/0:*", pair.bed.prefix("store1")?);
    let names = operator.command(&["KEYS", &pattern])?;
    ensure!(names.items().len() == 1, "{}", names.text());
    let left: i64 = operator
        .command(&["PTTL", &names.items()[0].text()])?
        .text()
        .parse()?;
    ensure!((1..=30_000).contains(&left), "{left}");
    for command in [&["DBSIZE"][..], &["KEYS", "*"], &["FLUSHALL"]] {
        let got = wire.command(command)?.text();
        ensure!(
            ["0", "[]", "OK"].contains(&got.as_str()),
            "{command:?}: {got}"
        );
    }
    let info = wire.command(&["INFO", "keyspace"])?.text();
    ensure!(!info.contains("db0"), "{info}");
    Ok(())
}

/// The server tracks the names for a transaction where a script that may not write reads them; nobody is told
/// when they go, and everybody of what else goes.
pub fn nobody_is_told_of_them(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    wire.command(&["SET", "k", "1"])?;
    let mut subscriber = pair.connect(Side::Store)?;
    let id = subscriber.command(&["CLIENT", "ID"])?.text();
    subscriber.command(&["SUBSCRIBE", "__redis__:invalidate"])?;
    let mut own = pair.connect(Side::Store)?;
    own.command(&["HELLO", "3"])?;
    own.command(&["CLIENT", "TRACKING", "ON"])?;
    let mut redirected = pair.connect(Side::Store)?;
    redirected.command(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id])?;
    for tracking in [&mut own, &mut redirected] {
        tracking.command(&["MULTI"])?;
        tracking.command(&["EVAL_RO", "return #redis.call('KEYS', 'none')", "0"])?;
        tracking.command(&["DBSIZE"])?;
        let got = tracking.command(&["EXEC"])?.text();
        ensure!(got == "[0, 1]", "{got}");
        tracking.command(&["GET", "k"])?;
    }
    let mut operator = pair.operator(Side::Store)?;
    let pattern = format!("{}/0:*", pair.bed.prefix("store1")?);
    let names = operator.command(&["KEYS", &pattern])?;
    ensure!(names.items().len() == 2, "{}", names.text());
    for name in names.items() {
        let gone = operator.command(&["DEL", &name.text()])?.text();
        ensure!(gone == "1", "DEL: {gone}");
    }
    wire.command(&["SET", "k", "2"])?;
    let told = [own.read()?.text(), subscriber.read()?.text()];
    let expect = ["[invalidate, [k]]", "[message, __redis__:invalidate, [k]]"];
    ensure!(told == expect, "{told:?}");
    Ok(())
}
