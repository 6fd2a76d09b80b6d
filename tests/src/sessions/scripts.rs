//! What scripts may not: reach another store, or leave anything behind for its scripts; and what they
//! survive: a server that forgets them, another node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::pair::{Pair, Side};
use crate::wire::{Value, Wire};

/// What a script finds that comes after others, whatever those did.
const FRESH: &str = "[TOPSECRET, X, 12, 1234567.89, [[[1]]], 1000, (nil), (nil), 200, 200]";

/// What a script may try to get out of its store. What it says does not matter, only what it reaches.
const ESCAPES: &str = include_str!("escapes.txt");

/// Time for another node's flush, and for a server to come back.
const PATIENCE: Duration = Duration::from_secs(20);

/// A longer text than a session's buffer takes.
const LONG_TEXT_BYTES: usize = 300 * 1024;

/// More arguments than are gathered.
const LONG_ARGUMENT_BYTES: usize = 3 * 1024 * 1024;

fn eval(wire: &mut Wire, script: &str) -> Result<Value> {
    Ok(wire.command(&["EVAL", script, "0"])?)
}

/// A script that goes past its store's names is stopped by the server's own rights, and told nothing.
pub fn undeclared(pair: &Pair) -> Result<()> {
    let foreign = pair.bed.prefix("app2")?;
    let mut other = pair.bed.connect("app2")?;
    other.command(&["SET", "secret", "of app2"])?;
    let mut wire = pair.connect(Side::Store)?;
    for key in [
        format!("{foreign}:secret"),
        "secret".into(),
        "flect:stores".into(),
    ] {
        for command in ["GET", "DEL", "TYPE", "DUMP"] {
            // The server's own functions, without names being made the store's.
            let script = format!("return _G.redis.call('{command}', '{key}')");
            let got = eval(&mut wire, &script)?;
            ensure!(matches!(got, Value::Error(_)), "{command} of {key}: {got}");
            let text = got.text();
            let user = text.contains("flect.") || pair.leaks(text.as_bytes());
            ensure!(!user, "{command} of {key}: {text}");
            let script = format!("return server.call('{command}', '{key}')");
            let got = eval(&mut wire, &script)?.text();
            ensure!(!got.contains("of app2"), "{command} of {key}: {got}");
        }
    }
    for api in ["server", "_G.server"] {
        for call in [
            "'KEYS', '*'",
            "'SCAN', 0",
            "'DBSIZE'",
            "'FLUSHALL'",
            "'RANDOMKEY'",
            "'SWAPDB', 0, 1",
            "'CONFIG', 'GET', '*'",
            "'ACL', 'WHOAMI'",
            "'CLIENT', 'LIST'",
            "'INFO'",
        ] {
            let script = format!("return {api}.call({call})");
            let got = eval(&mut wire, &script)?;
            let text = got.text();
            let walked = ["KEYS", "SCAN", "DBSIZE", "RANDOMKEY", "FLUSHALL", "SWAPDB"];
            let answered = api == "server" && walked.iter().any(|name| call.contains(name));
            let refused = matches!(got, Value::Error(_));
            ensure!(refused != answered, "{script}: {text}");
            ensure!(
                !text.contains("flect.") && !pair.leaks(text.as_bytes()),
                "{script}: {text}"
            );
        }
    }
    let got = other.command(&["GET", "secret"])?.text();
    ensure!(got == "of app2", "{got}");
    Ok(())
}

/// Old servers keep what a script does to the globals, to functions that all share, to the methods of
/// strings: another store's next script must find nothing of it.
pub fn escapes(pair: &Pair) -> Result<()> {
    let foreign = pair.bed.prefix("app2")?;
    let mut other = pair.bed.connect("app2")?;
    other.command(&["SET", "secret", "TOPSECRET"])?;
    let mut wire = pair.connect(Side::Store)?;
    wire.command(&["SET", "k", "v"])?;
    let mut number = 0;
    for line in ESCAPES.lines().filter(|line| !line.starts_with("//")) {
        let script = line.replace("{foreign}", &foreign);
        // Again, since a script may have changed its own surroundings.
        for _ in 0..2 {
            let got = eval(&mut wire, &script)?.text();
            ensure!(!got.contains("TOPSECRET"), "{script}: {got}");
            number += 1;
            let fresh = format!(
                "local n={number} collectgarbage() return {{redis.call('GET', 'secret'), ('x'):upper(), \
                 tostring(12), cjson.encode(1234567.89), cjson.encode({{{{{{1}}}}}}), cjson.decode_max_depth(), \
                 pcall(cjson.encode, {{[1000]=1}}), pcall(cjson.encode, 0/0), \
                 collectgarbage('setpause', 200), collectgarbage('setstepmul', 200)}}"
            );
            let got = eval(&mut other, &fresh)?.text();
            ensure!(got == FRESH, "after {script}: {got}");
            let got = eval(&mut other, &format!("local n={number} error('e')"))?.text();
            ensure!(got.contains("user_script:1: e"), "after {script}: {got}");
            let got = eval(&mut wire, "return redis.call('GET', 'k')")?.text();
            ensure!(got == "v", "after {script}: {got}");
        }
    }
    ensure!(number > 80, "only {number} tries");
    Ok(())
}

/// The server keeps whatever SCRIPT LOAD brings: a store brings a bounded amount, and goes on with EVAL.
pub fn bounded(pair: &Pair) -> Result<()> {
    let mut wire = pair.connect(Side::Store)?;
    let filler = "x".repeat(64 * 1024);
    let load = |wire: &mut Wire, number: usize| -> Result<Value> {
        let text = format!("return {number} --{filler}");
        Ok(wire.command(&["SCRIPT", "LOAD", &text])?)
    };
    let first = load(&mut wire, 0)?.text();
    let refused = (1..400).find_map(|number| match load(&mut wire, number) {
        Ok(Value::Error(error)) => Some(Ok((number, error))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let (number, error) = refused.context("nothing is refused")??;
    ensure!(number > 100, "refused already at {number}");
    ensure!(error.starts_with("OOM "), "{error}");
    // What is there is there, and another store has room of its own.
    ensure!(load(&mut wire, 0)?.text() == first, "loaded again");
    ensure!(
        wire.command(&["EVALSHA", &first, "0"])?.text() == "0",
        "run"
    );
    ensure!(eval(&mut wire, "return 'new'")?.text() == "new", "EVAL");
    let mut other = pair.bed.connect("app2")?;
    let said = load(&mut other, number)?;
    ensure!(!matches!(said, Value::Error(_)), "another store: {said}");
    Ok(())
}

/// The server has lost its scripts: NOSCRIPT, as from a server of one's own; and what one store has
/// loaded or flushed is nothing to another.
pub fn forgotten(pair: &Pair) -> Result<()> {
    const TEXT: &str = "return server.call('INCR', 'n' .. ARGV[1])";
    let mut said = Vec::new();
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        let mut lines = Vec::new();
        let sha = wire.command(&["SCRIPT", "LOAD", TEXT])?.text();
        let call = ["EVALSHA", &sha, "0", "x"];
        lines.push(wire.command(&call)?.text());
        pair.operator(side)?.command(&["SCRIPT", "FLUSH"])?;
        lines.push(wire.command(&call)?.text());
        lines.push(wire.command(&["SCRIPT", "EXISTS", &sha])?.text());
        lines.push(wire.command(&["EVAL", TEXT, "0", "x"])?.text());
        lines.push(wire.command(&call)?.text());
        lines.push(wire.command(&["SCRIPT", "EXISTS", &sha])?.text());
        lines.push(wire.command(&["MULTI"])?.text());
        pair.operator(side)?.command(&["SCRIPT", "FLUSH"])?;
        lines.push(wire.command(&["EVAL", TEXT, "0", "x"])?.text());
        lines.push(wire.command(&call)?.text());
        lines.push(wire.command(&["EXEC"])?.text());
        lines.push(wire.command(&["SCRIPT", "LOAD", TEXT])?.text());
        said.push((sha, lines));
    }
    ensure!(said[0] == said[1], "{said:?}");
    let sha = &said[0].0;
    let mut other = pair.bed.connect("app2")?;
    let got = other.command(&["SCRIPT", "EXISTS", sha])?.text();
    ensure!(got == "[0]", "another store's script is seen: {got}");
    let got = other.command(&["EVALSHA", sha, "0", "x"])?.text();
    ensure!(got.starts_with("-NOSCRIPT"), "it runs: {got}");
    other.command(&["SCRIPT", "FLUSH"])?;
    let mut wire = pair.connect(Side::Store)?;
    let got = wire.command(&["EVALSHA", sha, "0", "x"])?.text();
    ensure!(got == "6", "another store has flushed it: {got}");
    Ok(())
}

/// Another node's agent knows a loaded script, and forgets it when this one flushes. The other node is
/// played by the names that it would note.
pub fn nodes(pair: &Pair) -> Result<()> {
    const TEXT: &str = "return server.call('INCR', 'n')";
    let mut wire = pair.connect(Side::Store)?;
    let sha = wire.command(&["SCRIPT", "LOAD", TEXT])?.text();
    let mut operator = pair.operator(Side::Store)?;
    let key = format!("flect:scripts:{}", pair.bed.prefix("store1")?);
    let server = operator.command(&["HGET", &key, &sha])?.text();
    ensure!(server.len() == 40 && server != sha, "not noted: {server}");
    let elsewhere = "0123456789012345678901234567890123456789";
    operator.command(&["HSET", &key, elsewhere, &server])?;
    let got = wire.command(&["EVALSHA", elsewhere, "0"])?.text();
    ensure!(got == "1", "a script of another node: {got}");
    let got = wire.command(&["SCRIPT", "EXISTS", elsewhere, &sha])?.text();
    ensure!(got == "[1, 1]", "{got}");
    operator.command(&["DEL", &key])?;
    operator.command(&["HSET", &key, "flush", "elsewhere"])?;
    wait_until(PATIENCE, || {
        let got = wire.command(&["EVALSHA", &sha, "0"])?.text();
        Ok(got.starts_with("-NOSCRIPT"))
    })
}

/// The server is another one, with neither scripts nor users: NOSCRIPT, then all as before. What had been
/// noted of loaded scripts may still be there.
pub fn restarted(_: &Pair) -> Result<()> {
    const TEXT: &str = "return server.call('INCR', 'n')";
    let bed = Bed::builder()
        .valkey_option("--enable-debug-command", "yes")
        .start()?;
    let sha = bed
        .connect(APP1)?
        .command(&["SCRIPT", "LOAD", TEXT])?
        .text();
    let key = format!("flect:scripts:{}", bed.prefix("store1")?);
    let server = bed.operator()?.command(&["HGET", &key, &sha])?.text();
    // Without an answer.
    bed.operator()?.send(&["DEBUG", "CRASH-AND-RECOVER", "0"])?;
    let again = || {
        bed.operator()
            .and_then(|mut operator| operator.command(&["HSET", &key, &sha, &server]))
    };
    wait_until(PATIENCE, || Ok(again().is_ok()))?;
    let said = |wire: &mut Wire, command: &[&str]| Some(wire.command(command).ok()?.text());
    let call = ["EVALSHA", &sha, "0"];
    wait_until(PATIENCE, || {
        let mut wire = bed.connect(APP1)?;
        Ok(said(&mut wire, &call).is_some_and(|said| said.starts_with("-NOSCRIPT")))
    })?;
    let mut wire = bed.connect(APP1)?;
    for (command, expect) in [
        (&["SCRIPT", "EXISTS", &sha][..], "[0]"),
        (&["EVAL", TEXT, "0"], "1"),
        (&call, "2"),
        (&["SCRIPT", "EXISTS", &sha], "[1]"),
    ] {
        let got = wire.command(command)?.text();
        ensure!(got == expect, "{command:?}: {got}");
    }
    Ok(())
}

/// Texts and arguments that do not fit a session's buffer.
pub fn long(pair: &Pair) -> Result<()> {
    let comment = "x".repeat(LONG_TEXT_BYTES);
    let text = format!("--[[{comment}]] return {{server.call('STRLEN', KEYS[1]), #ARGV[1]}}");
    let too_long = format!("--[[{}]] return 1", comment.repeat(5));
    let argument = "y".repeat(LONG_ARGUMENT_BYTES);
    let short = "return {server.call('APPEND', 'computed', ARGV[1]), #ARGV, KEYS[1]}";
    let mut said = Vec::new();
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        let mut lines = Vec::new();
        wire.command(&["SET", "k", "value"])?;
        let sha = wire.command(&["SCRIPT", "LOAD", &text])?.text();
        for command in [
            &["EVAL", &text, "1", "k", "arg"][..],
            &["EVALSHA", &sha, "1", "k", &argument],
            &["EVAL", &text, "1", "k", &argument],
            &["EVAL", short, "1", "k", &argument],
            &["EVAL", short, "3", "k", &argument],
            &["EVAL", short, "x", "k", &argument],
            &["EVALSHA", "nosuch", "1", "k", &argument],
            &["STRLEN", "computed"],
            &["EVAL", "return #ARGV", "0", &argument, "b", &argument],
        ] {
            lines.push(wire.command(command)?.text());
        }
        // Behind each other, the next request in the same bytes.
        wire.send(&["EVAL", &text, "1", "k", "arg"])?;
        wire.send(&["GET", "k"])?;
        wire.send(&["EVAL", short, "1", "k", &argument])?;
        wire.send(&["GET", "k"])?;
        for _ in 0..4 {
            lines.push(wire.read()?.text());
        }
        said.push(lines);
    }
    ensure!(said[0] == said[1], "{said:?}");
    let mut wire = pair.connect(Side::Store)?;
    for command in [
        &["EVAL", &too_long, "0"][..],
        &["SCRIPT", "LOAD", &too_long],
    ] {
        let got = wire.command(command)?.text();
        ensure!(got.contains("the script is too long"), "{got}");
    }
    ensure!(wire.command(&["GET", "k"])?.text() == "value", "afterwards");
    Ok(())
}
