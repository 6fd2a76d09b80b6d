//! What a private Valkey has no like of: other apps, other stores, and what only the operator may do.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::pair::{Pair, Side};
use crate::smoke::check;
use crate::wire::Wire;

const SILENCE: Duration = Duration::from_millis(100);

fn said(wire: &mut Wire, line: &str) -> Result<String> {
    let args: Vec<&str> = line.split(' ').collect();
    Ok(wire.command(&args)?.text())
}

/// Another app's publishers and subscribers of the same names are not there.
pub fn channels(pair: &Pair) -> Result<()> {
    let mut ours = pair.connect(Side::Store)?;
    let mut theirs = pair.bed.connect("app2")?;
    let mut publisher = pair.bed.connect("app2")?;
    check(&mut ours, "SUBSCRIBE news", "[subscribe, news, 1]")?;
    check(&mut ours, "PSUBSCRIBE *", "[psubscribe, *, 2]")?;
    check(&mut ours, "SSUBSCRIBE shard", "[ssubscribe, shard, 1]")?;
    check(&mut publisher, "PUBLISH news x", "0")?;
    check(&mut publisher, "SPUBLISH shard x", "0")?;
    for (line, text) in [
        ("PUBSUB CHANNELS", "[]"),
        ("PUBSUB SHARDCHANNELS", "[]"),
        ("PUBSUB NUMPAT", "0"),
        ("PUBSUB NUMSUB news", "[news, 0]"),
    ] {
        check(&mut publisher, line, text)?;
    }
    ensure!(ours.is_silent_for(SILENCE)?, "another app is heard");
    check(&mut theirs, "SUBSCRIBE news", "[subscribe, news, 1]")?;
    check(&mut publisher, "PUBLISH news y", "1")?;
    ensure!(
        theirs.read()?.to_string() == "[message, news, y]",
        "the message"
    );
    ensure!(ours.is_silent_for(SILENCE)?, "another app is heard");
    // Blocked on the same name.
    let mut blocked = pair.connect(Side::Store)?;
    blocked.send(&["BLPOP", "list", "0"])?;
    check(&mut publisher, "RPUSH list 1", "1")?;
    ensure!(
        blocked.is_silent_for(SILENCE)?,
        "another app's push is seen"
    );
    check(&mut publisher, "LRANGE list 0 -1", "[1]")?;
    // Watched by the same name.
    let mut watching = pair.connect(Side::Store)?;
    check(&mut watching, "WATCH key", "OK")?;
    check(&mut publisher, "SET key 1", "OK")?;
    check(&mut publisher, "FLUSHALL", "OK")?;
    check(&mut watching, "MULTI", "OK")?;
    check(&mut watching, "EXEC", "[]")?;
    Ok(())
}

/// Refusals say who can; MULTI is aborted by them as by unknown commands; the connection goes on.
pub fn refused(pair: &Pair) -> Result<()> {
    const COMMANDS: &[&str] = &[
        "CONFIG SET maxmemory 1",
        "ACL SETUSER x",
        "CLIENT KILL ID 1",
        "CLIENT PAUSE 10",
        "CLIENT UNBLOCK 1",
        "DEBUG SLEEP 0",
        "MONITOR",
        "SHUTDOWN",
        "SAVE",
        "BGSAVE",
        "REPLICAOF NO ONE",
        "SYNC",
        "PSYNC ? -1",
        "SWAPDB 0 1",
        "SCRIPT KILL",
        "FUNCTION LIST",
        "FCALL f 0",
        "MODULE LOAD x",
        "MIGRATE 127.0.0.1 1 k 0 10",
        "FAILOVER",
    ];
    let mut wire = pair.connect(Side::Store)?;
    for &line in COMMANDS {
        let got = said(&mut wire, line)?;
        let named = got.strip_prefix("-NOPERM ").unwrap_or_default();
        let command = line.split(' ').next().unwrap_or_default();
        ensure!(
            named.starts_with(command) && named.ends_with("ask the operator of this Valkey"),
            "{line}: {got}"
        );
        ensure!(!pair.leaks(got.as_bytes()), "{line}: {got}");
    }
    check(&mut wire, "MULTI", "OK")?;
    check(&mut wire, "SET k 1", "QUEUED")?;
    ensure!(
        said(&mut wire, "ACL SETUSER x")?.starts_with("-NOPERM"),
        "inside MULTI"
    );
    ensure!(said(&mut wire, "EXEC")?.starts_with("-EXECABORT"), "EXEC");
    check(&mut wire, "EXISTS k", "0")
}

/// AUTH and HELLO AUTH choose among the app's stores, and only among them.
pub fn stores(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    check(&mut wire, "SET k one", "OK")?;
    check(&mut wire, "AUTH store2 any", "OK")?;
    check(&mut wire, "GET k", "(nil)")?;
    check(&mut wire, "SET k two", "OK")?;
    check(&mut wire, "AUTH store1 any", "OK")?;
    check(&mut wire, "GET k", "one")?;
    for line in [
        "AUTH app2 any",
        "AUTH neighbour any",
        "AUTH none any",
        "HELLO 2 AUTH app2 x",
    ] {
        ensure!(said(&mut wire, line)?.starts_with("-WRONGPASS"), "{line}");
        check(&mut wire, "GET k", "one")?;
    }
    wire.command(&["HELLO", "3", "AUTH", "store2", "any"])?;
    check(&mut wire, "GET k", "two")?;
    check(&mut wire, "DBSIZE", "1")?;
    check(&mut wire, "FLUSHALL", "OK")?;
    check(&mut wire, "RESET", "RESET")?;
    check(&mut wire, "GET k", "one")?;
    check(&mut wire, "AUTH any", "OK")?;
    check(&mut wire, "AUTH default any", "OK")?;
    check(&mut wire, "GET k", "one")?;
    // A pipeline across stores.
    for line in [
        "SET p 1",
        "AUTH store2 x",
        "GET p",
        "SET p 2",
        "AUTH store1 x",
        "GET p",
    ] {
        wire.send(&line.split(' ').collect::<Vec<_>>())?;
    }
    for text in ["OK", "OK", "(nil)", "OK", "OK", "1"] {
        let got = wire.read()?.text();
        ensure!(got == text, "{got} instead of {text}");
    }
    Ok(())
}
