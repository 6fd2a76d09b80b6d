//! How many and how long libraries may be, and that a RESTORE which fails in the middle changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side};
use crate::wire::{Value, Wire};

/// Libraries that a store may have.
const LIBRARIES_MAX: usize = 64;

/// More than a session's buffer takes, less than a library may have.
const LONG_BYTES: usize = 300 * 1024;

/// More than a request that brings a library may have.
const TOO_LONG_BYTES: usize = 5 * 1024 * 1024;

/// How long a RESTORE of many libraries may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn library(number: usize, comment_bytes: usize) -> String {
    let comment = "x".repeat(comment_bytes);
    format!(
        "#!lua name=lib{number}\n--{comment}\nserver.register_function('f{number}', function() return {number} end)"
    )
}

fn load(wire: &mut Wire, text: &str) -> Result<String> {
    Ok(wire.command(&["FUNCTION", "LOAD", text])?.text())
}

/// Long libraries are taken as by a private server; too many or too long ones are refused with a reason, and
/// the connection goes on.
pub fn held(pair: &Pair) -> Result<()> {
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        let long = library(0, LONG_BYTES);
        let got = load(&mut wire, &long)?;
        ensure!(got == "lib0", "{side:?}: {got}");
        let got = wire.command(&["FCALL", "f0", "0"])?.text();
        ensure!(got == "0", "{side:?}: {got}");
        let Value::Bulk(payload) = wire.command(&["FUNCTION", "DUMP"])? else {
            bail!("FUNCTION DUMP gives no bytes");
        };
        let words = [b"FUNCTION".as_slice(), b"RESTORE", &payload, b"FLUSH"];
        let got = wire.command(&words)?.text();
        ensure!(got == "OK", "{side:?}: {got}");
        let listed = wire.command(&["FUNCTION", "LIST", "WITHCODE"])?;
        ensure!(
            listed.text().contains(&long),
            "{side:?}: the text has changed"
        );
    }
    let mut wire = pair.connect(Side::Store)?;
    for number in 1..LIBRARIES_MAX {
        let got = load(&mut wire, &library(number, 1))?;
        ensure!(got == format!("lib{number}"), "{got}");
    }
    let got = load(&mut wire, &library(LIBRARIES_MAX, 1))?;
    ensure!(got.starts_with("-ERR too many libraries"), "{got}");
    let got = wire.command(&["FUNCTION", "LOAD", "REPLACE", &library(1, 2)])?;
    ensure!(got.text() == "lib1", "{got}");
    wire.command(&["FUNCTION", "FLUSH"])?;
    let mut number = 0;
    let refused = loop {
        let got = load(&mut wire, &library(number, LONG_BYTES))?;
        if got.starts_with('-') {
            break got;
        }
        number += 1;
        ensure!(number < LIBRARIES_MAX, "no limit of the length");
    };
    ensure!(refused.contains("libraries are too long"), "{refused}");
    ensure!(number == 6, "refused after {number}");
    let Value::Bulk(payload) = wire.command(&["FUNCTION", "DUMP"])? else {
        bail!("FUNCTION DUMP gives no bytes");
    };
    let words = [b"FUNCTION".as_slice(), b"RESTORE", &payload, b"REPLACE"];
    let got = wire.command(&words)?.text();
    ensure!(got == "OK", "what a store has comes back: {got}");
    let got = load(&mut wire, &library(number, TOO_LONG_BYTES))?;
    ensure!(got.starts_with("-ERR") && got.contains("too long"), "{got}");
    let got = wire.command(&["FCALL", "f1", "0"])?.text();
    ensure!(got == "1", "after a refused library: {got}");
    Ok(())
}

/// A client that goes before its RESTORE is done has asked for all of it.
pub fn gone(pair: &Pair) -> Result<()> {
    const LIBRARIES: usize = 40;
    let mut wire = pair.connect(Side::Store)?;
    for number in 0..LIBRARIES {
        load(&mut wire, &library(number, 1))?;
    }
    let Value::Bulk(payload) = wire.command(&["FUNCTION", "DUMP"])? else {
        bail!("FUNCTION DUMP gives no bytes");
    };
    wire.command(&["FUNCTION", "FLUSH"])?;
    load(&mut wire, &library(LIBRARIES, 1))?;
    let mut other = pair.connect(Side::Store)?;
    let before = wire.command(&["FUNCTION", "STATS"])?.text();
    // An unread reply makes the socket close with a reset.
    other.send(&["ECHO", "unread"])?;
    other.send(&[b"FUNCTION".as_slice(), b"RESTORE", &payload, b"FLUSH"])?;
    let mut told = String::new();
    wait_until(PATIENCE, || {
        told = wire.command(&["FUNCTION", "STATS"])?.text();
        Ok(told != before)
    })?;
    drop(other);
    let all = format!("libraries_count, {LIBRARIES}");
    wait_until(PATIENCE, || {
        told = wire.command(&["FUNCTION", "STATS"])?.text();
        Ok(told.contains(&all))
    })
    .with_context(|| told.clone())?;
    let got = wire
        .command(&["FCALL", &format!("f{LIBRARIES}"), "0"])?
        .text();
    ensure!(got == "-ERR Function not found", "{got}");
    Ok(())
}

/// A RESTORE whose last library the server does not take leaves everything as it was, whatever was taken away
/// for it.
pub fn restored(pair: &Pair) -> Result<()> {
    let mut said = Vec::new();
    for side in Side::BOTH {
        let mut lines = Vec::new();
        let mut wire = pair.connect(side)?;
        let text = |name: &str, function: &str, says: &str| {
            format!(
                "#!lua name={name}\nserver.register_function('{function}', function() return '{says}' end)"
            )
        };
        // What is restored: `first` and `second`, both with functions of their own.
        load(&mut wire, &text("first", "one", "new"))?;
        load(&mut wire, &text("second", "taken", "new"))?;
        let Value::Bulk(payload) = wire.command(&["FUNCTION", "DUMP"])? else {
            bail!("FUNCTION DUMP gives no bytes");
        };
        wire.command(&["FUNCTION", "FLUSH"])?;
        // What is there: `first` would be replaced, `third` has a function of `second`'s name.
        load(&mut wire, &text("first", "one", "old"))?;
        load(&mut wire, &text("third", "taken", "old"))?;
        for policy in ["APPEND", "REPLACE"] {
            let words = [
                b"FUNCTION".as_slice(),
                b"RESTORE",
                &payload,
                policy.as_bytes(),
            ];
            let got = wire.command(&words)?.text();
            ensure!(got.starts_with("-ERR"), "{side:?} {policy}: {got}");
            lines.push(got);
            for function in ["one", "taken"] {
                let got = wire.command(&["FCALL", function, "0"])?.text();
                ensure!(got == "old", "{side:?} {policy}: {function} says {got}");
            }
            let got = wire.command(&["FUNCTION", "STATS"])?.text();
            lines.push(got);
        }
        let words = [b"FUNCTION".as_slice(), b"RESTORE", &payload, b"FLUSH"];
        lines.push(wire.command(&words)?.text());
        for function in ["one", "taken"] {
            let got = wire.command(&["FCALL", function, "0"])?.text();
            ensure!(got == "new", "{side:?}: {function} says {got}");
        }
        lines.push(wire.command(&["FUNCTION", "STATS"])?.text());
        said.push(lines);
    }
    ensure!(said[0] == said[1], "{said:#?}");
    Ok(())
}
