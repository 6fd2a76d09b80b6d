//! A neighbour that does everything its store allows, with the names of somebody else's keys.
//!
//! It learns the names that `store` uses from the operator's way and writes, scans, publishes and
//! flushes under the very same names in its own store. Nothing of it may be seen in the other.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child;
use crate::wire::{Value, Wire};

/// The role's name for [`child::dispatch`].
pub const ROLE: &str = "neighbour";
/// Names that every test uses, until the real ones are learnt.
const FIRST_NAMES: [&str; 6] = ["a", "foo", "key", "mykey", "user:1", "counter"];
/// The learnt names are a sample: more would only make the rounds longer.
const NAMES_MAX: usize = 200;
/// Between two rounds, so that the neighbour takes a small part of a small machine.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the names are learnt anew.
const LEARN_PAUSE: Duration = Duration::from_millis(200);

/// The command that plays the neighbour; place it in its cgroup.
///
/// # Errors
/// When the path of the running executable cannot be told.
pub fn command(address: SocketAddr, operator: SocketAddr, prefix: &str) -> Result<Command> {
    let (address, operator) = (address.to_string(), operator.to_string());
    child::command(ROLE, &[&address, &operator, prefix])
}

/// Plays the neighbour until it is killed.
///
/// # Errors
/// When the connections break.
pub fn role(args: &[String]) -> Result<()> {
    let [address, operator, prefix] = args else {
        bail!("expected ADDRESS OPERATOR PREFIX");
    };
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let operator: SocketAddr = operator.parse().context("OPERATOR")?;
    let names = Arc::new(Mutex::new(FIRST_NAMES.map(str::to_owned).to_vec()));
    let learnt = Arc::clone(&names);
    let prefix = prefix.clone();
    thread::spawn(move || {
        // The sandboxed command may stop, block or flush the server as it likes.
        loop {
            let _ = learn(operator, &prefix, &learnt);
            thread::sleep(LEARN_PAUSE);
        }
    });
    thread::spawn(move || {
        loop {
            let _ = listen(address);
            thread::sleep(LEARN_PAUSE);
        }
    });
    loop {
        // So may it kill connections; the neighbour comes back.
        let _ = disturb(address, &names);
        thread::sleep(LEARN_PAUSE);
    }
}

/// The names of the store's keys and channels, without the prefix.
fn learn(operator: SocketAddr, prefix: &str, names: &Mutex<Vec<String>>) -> Result<()> {
    let mut wire = Wire::connect(operator)?;
    let pattern = format!("{prefix}:*");
    let mut cursor = "0".to_owned();
    loop {
        let reply = wire.command(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"])?;
        let [next, keys] = reply.items() else {
            bail!("SCAN answered {reply}");
        };
        let channels = wire.command(&["PUBSUB", "CHANNELS", &pattern])?;
        let own = format!("{prefix}:");
        let found = keys.items().iter().chain(channels.items());
        let found = found.filter_map(|key| Some(key.text().strip_prefix(&own)?.to_owned()));
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in found {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let excess = names.len().saturating_sub(NAMES_MAX);
        names.drain(..excess);
        drop(names);
        cursor = next.text();
        if cursor == "0" {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
}

/// Subscribes to everything, in its own store.
fn listen(address: SocketAddr) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    wire.send(&["PSUBSCRIBE", "*"])?;
    loop {
        wire.read()?;
    }
}

/// Rounds of writes, scans, messages and flushes.
fn disturb(address: SocketAddr, names: &Mutex<Vec<String>>) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    for round in 0_u64.. {
        let sample = {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            names.clone()
        };
        for (number, name) in sample.iter().enumerate() {
            let value = format!("neighbour {round}");
            let kind = (number as u64).wrapping_add(round) % 6;
            wire.send(&["DEL", name])?;
            match kind {
                0 => wire.send(&["SET", name, &value, "EX", "100"])?,
                1 => wire.send(&["RPUSH", name, &value, &value])?,
                2 => wire.send(&["HSET", name, "field", &value])?,
                3 => wire.send(&["SADD", name, &value])?,
                4 => wire.send(&["ZADD", name, "1", &value])?,
                _ => wire.send(&["XADD", name, "*", "field", &value])?,
            }
            wire.send(&["PUBLISH", name, &value])?;
        }
        for _ in 0..sample.len() * 3 {
            expect(&wire.read()?)?;
        }
        expect(&wire.command(&["SCAN", "0", "COUNT", "100"])?)?;
        expect(&wire.command(&["DBSIZE"])?)?;
        if round % 4 == 3 {
            expect(&wire.command(&["FLUSHDB"])?)?;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn expect(reply: &Value) -> Result<()> {
    match reply {
        Value::Error(text) => bail!("{text}"),
        _ => Ok(()),
    }
}
