//! EVALs that the agent sends by their scripts' names: whatever the server has forgotten, each runs once, in
//! its place, and the app cannot tell.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side};
use crate::wire::{Wire, encode};

const COUNTS: &str = "return redis.call('INCR', KEYS[1])";

/// It counts, and answers as a server that lacks it would.
const FEIGNS: &str = "redis.call('INCR', KEYS[1]) \
    return redis.error_reply('NOSCRIPT No matching script. Please use EVAL.')";

/// The same, in the words of other releases.
const FEIGNS_SHORT: &str =
    "redis.call('INCR', KEYS[1]) return {err='NOSCRIPT No matching script.'}";

/// Longer than a script's text goes after a miss.
const TEXTS_FOR: Duration = Duration::from_millis(1100);

const PATIENCE: Duration = Duration::from_secs(10);

/// Scripts that EVAL has brought, of which the server keeps 500.
const EVICTING: usize = 600;

/// How often the server has carried out a command, and how often it failed.
pub(crate) fn calls(operator: &mut Wire, command: &str) -> Result<(u64, u64)> {
    let stats = operator.command(&["INFO", "commandstats"])?.text();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let field = |name: &str| -> Option<u64> {
        let mut fields = line?.split(',');
        fields.find_map(|field| field.strip_prefix(name)?.parse().ok())
    };
    Ok((
        field("calls=").unwrap_or(0),
        field("failed_calls=").unwrap_or(0),
    ))
}

/// The agent runs a script of its own now and then.
fn is_about(expect: u64, calls: u64) -> bool {
    (expect..=expect + 3).contains(&calls)
}

/// The text goes once, and again once the server has lost the script.
pub fn saves(pair: &Pair) -> Result<()> {
    let mut operator = pair.operator(Side::Store)?;
    // The agent has run scripts of its own when it made the stores.
    operator.command(&["CONFIG", "RESETSTAT"])?;
    let mut wire = pair.connect(Side::Store)?;
    let mut run = |count: usize, expect: usize| -> Result<()> {
        for number in 1..=count {
            let got = wire.command(&["EVAL", COUNTS, "1", "n"])?.text();
            ensure!(got == (expect + number).to_string(), "{number}: {got}");
        }
        Ok(())
    };
    run(10, 0)?;
    let (texts, names) = (
        calls(&mut operator, "eval")?.0,
        calls(&mut operator, "evalsha")?,
    );
    ensure!(
        is_about(1, texts) && is_about(9, names.0) && is_about(0, names.1),
        "{texts} texts, {names:?} names"
    );
    operator.command(&["SCRIPT", "FLUSH"])?;
    run(1, 10)?;
    let (texts, names) = (
        calls(&mut operator, "eval")?.0,
        calls(&mut operator, "evalsha")?,
    );
    ensure!(
        is_about(2, texts) && is_about(10, names.0) && is_about(1, names.1),
        "{texts} texts, {names:?} names"
    );
    thread::sleep(TEXTS_FOR);
    run(10, 11)?;
    let (texts, names) = (
        calls(&mut operator, "eval")?.0,
        calls(&mut operator, "evalsha")?,
    );
    ensure!(
        is_about(2, texts) && is_about(20, names.0) && is_about(1, names.1),
        "{texts} texts, {names:?} names"
    );
    let mut reads =
        |text: &str| -> Result<String> { Ok(wire.command(&["EVAL_RO", text, "1", "n"])?.text()) };
    for _ in 0..2 {
        let got = reads("return redis.call('GET', KEYS[1])")?;
        ensure!(got == "21", "EVAL_RO: {got}");
        let got = reads(COUNTS)?;
        ensure!(
            got.contains("Write commands are not allowed"),
            "EVAL_RO: {got}"
        );
    }
    Ok(())
}

/// What the server forgets between two requests, said to a store and to a private server.
pub fn lost(pair: &Pair) -> Result<()> {
    let mut said = Vec::new();
    for side in Side::BOTH {
        let mut wire = pair.connect(side)?;
        let mut operator = pair.operator(side)?;
        let mut lines = Vec::new();
        let mut flush = || operator.command(&["SCRIPT", "FLUSH"]).map(drop);
        for text in [COUNTS, FEIGNS, FEIGNS_SHORT] {
            let eval = ["EVAL", text, "1", "n"];
            for round in 0..6 {
                lines.push(wire.command(&eval)?.text());
                match round {
                    // Once just behind a miss, once when names are tried again.
                    1 | 2 => flush()?,
                    4 => {
                        thread::sleep(TEXTS_FOR);
                        flush()?;
                    }
                    _ => {}
                }
            }
            thread::sleep(TEXTS_FOR);
            lines.push(wire.command(&eval)?.text());
            flush()?;
            // In a transaction, and with a key watched.
            for words in [
                &["WATCH", "w"][..],
                &eval,
                &["MULTI"],
                &eval,
                &["INCR", "n"],
                &eval,
            ] {
                lines.push(wire.command(words)?.text());
            }
            flush()?;
            lines.push(wire.command(&["EXEC"])?.text());
            flush()?;
            // Several at once, other requests between and behind them.
            let behind = encode(&["APPEND", "n", "0"]);
            let run = encode(&eval);
            wire.send_raw(&[&run[..], &behind, &run, &run, &behind].concat())?;
            for _ in 0..5 {
                lines.push(wire.read()?.text());
            }
            flush()?;
            // One after the other, without waiting for replies.
            for bytes in [&run, &behind, &run, &run, &behind] {
                wire.send_raw(bytes)?;
                thread::sleep(Duration::from_millis(2));
            }
            for _ in 0..5 {
                lines.push(wire.read()?.text());
            }
            lines.push(wire.command(&["GET", "n"])?.text());
        }
        // Those that came with EVAL, the server drops by itself.
        let filler = "return redis.call('ECHO', ARGV[1]) -- ";
        for number in 0..EVICTING {
            wire.send(&["EVAL", &format!("{filler}{number}"), "0", "x"])?;
            ensure!(wire.read()?.text() == "x", "filler {number}");
        }
        for number in 0..3 {
            let text = format!("{filler}{number}");
            lines.push(wire.command(&["EVAL", &text, "0", "y"])?.text());
        }
        // With replies held back.
        flush()?;
        let skipped = [
            encode(&["CLIENT", "REPLY", "SKIP"]),
            encode(&["EVAL", COUNTS, "1", "skipped"]),
        ];
        wire.send_raw(&skipped.concat())?;
        lines.push(wire.command(&["GET", "skipped"])?.text());
        // Of all keys.
        for _ in 0..3 {
            flush()?;
            let words = ["EVAL", "return #redis.call('KEYS', ARGV[1])", "0", "s*"];
            lines.push(wire.command(&words)?.text());
        }
        said.push(lines);
    }
    ensure!(said[0] == said[1], "{said:#?}");
    Ok(())
}

/// The client says all that it has to say and closes its sending half: it still runs, once.
pub fn closing(pair: &Pair) -> Result<()> {
    let mut operator = pair.operator(Side::Store)?;
    let mut wire = pair.connect(Side::Store)?;
    let eval = ["EVAL", COUNTS, "1", "n"];
    for expect in ["1", "2"] {
        let got = wire.command(&eval)?.text();
        ensure!(got == expect, "{got}");
    }
    operator.command(&["SCRIPT", "FLUSH"])?;
    let mut last = pair.connect(Side::Store)?;
    last.send(&eval)?;
    last.stream().shutdown(Shutdown::Write)?;
    let rest = last.read_to_end()?;
    ensure!(rest == b":3\r\n", "{:?}", rest.escape_ascii());
    thread::sleep(TEXTS_FOR);
    operator.command(&["SCRIPT", "FLUSH"])?;
    let mut last = pair.connect(Side::Store)?;
    last.send(&eval)?;
    // Long enough for the request to be read, if not for its reply.
    thread::sleep(Duration::from_millis(20));
    drop(last);
    wait_until(PATIENCE, || Ok(wire.command(&["GET", "n"])?.text() == "4"))?;
    thread::sleep(Duration::from_millis(100));
    let got = wire.command(&["GET", "n"])?.text();
    ensure!(got == "4", "it has run again: {got}");
    Ok(())
}

/// Sessions that run the same scripts while the server forgets them again and again.
pub fn many(pair: &Pair) -> Result<()> {
    const SESSIONS: usize = 8;
    const ROUNDS: usize = 150;
    // Its list says in what order the session's requests took effect.
    const NOTES: &str = "redis.call('INCR', KEYS[1]) return redis.call('RPUSH', KEYS[2], ARGV[1])";
    let done = AtomicBool::new(false);
    let run = |session: usize| -> Result<()> {
        let mut wire = pair.connect(Side::Store)?;
        let list = format!("list{session}");
        for round in 0..ROUNDS {
            let number = (2 * round).to_string();
            wire.send(&["EVAL", NOTES, "2", "all", &list, &number])?;
            if round % 3 == 0 {
                // It is sent while the one before may be under way.
                wire.send(&["RPUSH", &list, &(2 * round + 1).to_string()])?;
            }
            let got = wire.read()?.text();
            let extra = round.div_ceil(3);
            ensure!(
                got == (round + 1 + extra).to_string(),
                "{session}, {round}: {got}"
            );
            if round % 3 == 0 {
                wire.read()?;
            }
        }
        let got = wire.command(&["LRANGE", &list, "0", "-1"])?;
        let numbers: Vec<usize> = got
            .items()
            .iter()
            .map(|item| Ok(item.text().parse()?))
            .collect::<Result<_>>()?;
        let sorted = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        ensure!(
            sorted && numbers.len() == ROUNDS + ROUNDS.div_ceil(3),
            "{session}: {numbers:?}"
        );
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let flusher = scope.spawn(|| -> Result<()> {
            let mut operator = pair.operator(Side::Store)?;
            while !done.load(Ordering::Relaxed) {
                operator.command(&["SCRIPT", "FLUSH"])?;
                // Names are tried again a second after a miss.
                thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        });
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|at| scope.spawn(move || run(at)))
            .collect();
        let mut ended = Vec::new();
        for session in sessions {
            ended.push(session.join().ok().context("a session panicked")?);
        }
        done.store(true, Ordering::Relaxed);
        flusher.join().ok().context("the flusher panicked")??;
        ended.into_iter().collect()
    })?;
    let got = pair.connect(Side::Store)?.command(&["GET", "all"])?.text();
    ensure!(got == (SESSIONS * ROUNDS).to_string(), "all: {got}");
    Ok(())
}
