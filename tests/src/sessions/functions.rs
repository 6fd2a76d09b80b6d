//! What libraries of functions may not: reach another store; and how they go from one server to another.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side};
use crate::wire::Value;

/// How long the server may take to find itself busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two stores have libraries and functions of the same names; neither can take the other's name, nor reach
/// its keys.
pub fn kept_apart(pair: &Pair) -> Result<()> {
    let foreign = pair.bed.prefix("app2")?;
    let id = foreign.trim_matches(['{', '}']).to_owned();
    let mut other = pair.bed.connect("app2")?;
    let mut wire = pair.connect(Side::Store)?;
    other.command(&["SET", "secret", "TOPSECRET"])?;
    let text = |said: &str| {
        format!("#!lua name=lib\nserver.register_function('f', function() return '{said}' end)")
    };
    let got = other
        .command(&["FUNCTION", "LOAD", &text("theirs")])?
        .text();
    ensure!(got == "lib", "{got}");
    let got = wire.command(&["FUNCTION", "LOAD", &text("ours")])?.text();
    ensure!(got == "lib", "{got}");
    for body in [
        format!("server.register_function('flect_{id}_g', function() return 1 end)"),
        format!("server.register_function{{Function_Name='flect_{id}_g', callback=function() return 1 end}}"),
        format!("local t = {{callback=function() return 1 end}} t['FUNCTION' .. '_NAME'] = 'flect_{id}_g' t.rep = 1 server.register_function(t)"),
        format!("local t = {{callback=function() return 1 end}} t['FUNCTION' .. '_NAME'] = 'flect_{id}_g' t.rep = ('').rep server.register_function(t)"),
        format!("redis.bind(1) server.register_function('flect_{id}_g', function() return 1 end)"),
        format!("server.register_function('x', function() return redis.register_function('flect_{id}_g', function() end) end)"),
        format!("server.register_function('y', function() return _G.redis.call('GET', '{foreign}:secret') end)"),
        format!("server.register_function('z', function() return getmetatable(redis).__index.call('GET', '{foreign}:secret') end)"),
        "server.register_function('s', function() setfenv(0, {}) end)".to_owned(),
        "server.register_function('m', function() getmetatable('').__index = nil end)".to_owned(),
        "server.register_function('n', function() getfenv(1).setfenv(0, {}) end)".to_owned(),
        "server.register_function('o', function() local g = getfenv(server.sha1hex) g.string = nil end)".to_owned(),
    ] {
        let library = format!("#!lua name=try\n{body}");
        wire.command(&["FUNCTION", "LOAD", "REPLACE", &library])?;
        for name in ["x", "y", "z", "s", "m", "n", "o"] {
            let got = wire.command(&["FCALL", name, "0"])?.text();
            ensure!(!got.contains("TOPSECRET") && !pair.leaks(got.as_bytes()), "{body}: {got}");
        }
        let got = other.command(&["FCALL", "g", "0"])?.text();
        ensure!(got == "-ERR Function not found", "{body}: {got}");
        let got = other.command(&["FCALL", "f", "0"])?.text();
        ensure!(got == "theirs", "{body}: {got}");
        let got = other.command(&["FUNCTION", "LIST"])?.text();
        ensure!(got.matches("library_name").count() == 1, "{body}: {got}");
    }
    wire.command(&["FUNCTION", "FLUSH"])?;
    let got = other.command(&["FCALL", "f", "0"])?.text();
    ensure!(got == "theirs", "after another store's FLUSH: {got}");
    Ok(())
}

/// What one side dumps, the other restores.
pub fn moved(pair: &Pair) -> Result<()> {
    let long = "-- what compresses well ".repeat(100);
    let text = format!(
        "#!lua name=lib\n{long}\nserver.register_function('f', function(k) return server.call('INCR', k[1]) end)"
    );
    for (from, to) in [(Side::Store, Side::Private), (Side::Private, Side::Store)] {
        let mut from = pair.connect(from)?;
        let mut to = pair.connect(to)?;
        from.command(&["FUNCTION", "LOAD", &text])?;
        let Value::Bulk(payload) = from.command(&["FUNCTION", "DUMP"])? else {
            bail!("FUNCTION DUMP gives no bytes");
        };
        let mut said = Vec::new();
        for policy in ["APPEND", "APPEND", "REPLACE", "FLUSH"] {
            let words = [
                b"FUNCTION".as_slice(),
                b"RESTORE",
                &payload,
                policy.as_bytes(),
            ];
            said.push(to.command(&words)?.text());
        }
        ensure!(
            said == ["OK", "-ERR Library lib already exists", "OK", "OK"],
            "{said:?}"
        );
        let got = to.command(&["FCALL", "f", "1", "n"])?.text();
        ensure!(got == "1", "{got}");
        to.command(&["FUNCTION", "FLUSH"])?;
        from.command(&["FUNCTION", "FLUSH"])?;
    }
    Ok(())
}

/// A function that does not end is ended by its own store and by no other, which does not hear of it.
pub fn killed(pair: &Pair) -> Result<()> {
    const ENDLESS: &str =
        "#!lua name=lib\nserver.register_function('spin', function() while true do end end)";
    let mut told = Vec::new();
    for side in Side::BOTH {
        let mut operator = pair.operator(side)?;
        // How long a function runs before others are told that the server is busy, in milliseconds.
        operator.command(&["CONFIG", "SET", "busy-reply-threshold", "100"])?;
        let mut spinning = pair.connect(side)?;
        spinning.command(&["FUNCTION", "LOAD", ENDLESS])?;
        spinning.send(&["FCALL", "spin", "1", "k", "argument"])?;
        let mut wire = pair.connect(side)?;
        let mut running = String::new();
        wait_until(PATIENCE, || {
            running = wire.command(&["FUNCTION", "STATS"])?.text();
            Ok(running.contains("argument"))
        })
        .with_context(|| running.clone())?;
        ensure!(
            running.contains("FCALL") && !pair.leaks(running.as_bytes()),
            "{running}"
        );
        if side == Side::Store {
            let mut other = pair.bed.connect("app2")?;
            let said = other.command(&["FUNCTION", "STATS"])?.text();
            ensure!(
                !said.contains("spin") && !said.contains("argument"),
                "{said}"
            );
            let said = other.command(&["FUNCTION", "KILL"])?.text();
            ensure!(said.starts_with("-NOTBUSY"), "another store: {said}");
        }
        let said = wire.command(&["FUNCTION", "KILL"])?.text();
        ensure!(said == "OK", "{side:?}: {said}");
        told.push(spinning.read()?.text());
        let said = wire.command(&["FUNCTION", "KILL"])?.text();
        ensure!(said.starts_with("-NOTBUSY"), "{side:?}: {said}");
    }
    ensure!(told[0].contains("Script killed by user"), "{told:?}");
    ensure!(told[0] == told[1], "{told:?}");
    Ok(())
}

/// While another store's script runs, a store is told what a private server says that runs none, and the
/// script goes on.
pub fn others(pair: &Pair) -> Result<()> {
    let mut operator = pair.operator(Side::Store)?;
    operator.command(&["CONFIG", "SET", "busy-reply-threshold", "100"])?;
    let mut wires = [pair.connect(Side::Private)?, pair.connect(Side::Store)?];
    let mut spinning = pair.bed.connect("app2")?;
    spinning.send(&["EVAL", "while true do end", "0"])?;
    wait_until(PATIENCE, || {
        let said = operator.command(&["FUNCTION", "STATS"])?.text();
        Ok(said.starts_with("-BUSY"))
    })?;
    for command in [
        ["SCRIPT", "KILL"],
        ["FUNCTION", "KILL"],
        ["FUNCTION", "STATS"],
    ] {
        let mut said = Vec::new();
        for wire in &mut wires {
            said.push(wire.command(&command)?.text());
        }
        ensure!(said[0] == said[1], "{command:?}: {said:?}");
    }
    // It runs still.
    let said = operator.command(&["SCRIPT", "KILL"])?.text();
    ensure!(said == "OK", "{said}");
    let said = spinning.read()?.text();
    ensure!(said.contains("Script killed by user"), "{said}");
    Ok(())
}
