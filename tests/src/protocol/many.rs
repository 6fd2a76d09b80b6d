//! Many clients of one store at once: each gets its own replies and nobody else's.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::pair::{Pair, Side};
use crate::wire::{Value, Wire};

const CLIENTS: usize = 64;
/// At least so many rounds each, however slow the machine; more while there is time.
const ROUNDS_MIN: u32 = 3;
const TIME: Duration = Duration::from_secs(3);

/// What a client does in a round; its number and the round make everything it says unique.
type Round = fn(&mut Wire, &str) -> Result<()>;

/// Values, transactions, blocking pops, pub/sub, large values and store-wide commands side by side
/// on the same connections to the server.
pub fn own_replies(pair: &Pair) -> Result<()> {
    let rounds: [(&str, Round); 8] = [
        ("values", values),
        ("echoes", echoes),
        ("transactions", transactions),
        ("blocking", blocking),
        ("channels", channels),
        ("values", values),
        ("scripts", scripts),
        ("store-wide", store_wide),
    ];
    let start = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (name, round) = rounds[number % rounds.len()];
                scope.spawn(move || -> Result<()> {
                    let mut wire = pair.connect(Side::Store)?;
                    if number % 3 == 0 {
                        wire.command(&["HELLO", "3"])?;
                    }
                    let mut count = 0;
                    while count < ROUNDS_MIN || start.elapsed() < TIME {
                        let mark = format!("{number}.{count}");
                        round(&mut wire, &mark)
                            .with_context(|| format!("client {number} ({name}), round {count}"))?;
                        count += 1;
                    }
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().expect("no panic")?;
        }
        Ok(())
    })
}

fn expect(wire: &mut Wire, text: &str) -> Result<()> {
    let reply = wire.read()?;
    ensure!(reply.text() == text, "{reply} instead of {text}");
    Ok(())
}

fn values(wire: &mut Wire, mark: &str) -> Result<()> {
    let long = mark.repeat(200);
    for (key, value) in [("a", mark), ("b", &long)] {
        wire.send(&["SET", &format!("{key}:{mark}"), value])?;
    }
    wire.send(&["MGET", &format!("a:{mark}"), &format!("b:{mark}"), "none"])?;
    wire.send(&["DEL", &format!("a:{mark}"), &format!("b:{mark}")])?;
    expect(wire, "OK")?;
    expect(wire, "OK")?;
    expect(wire, &format!("[{mark}, {long}, (nil)]"))?;
    expect(wire, "2")
}

fn echoes(wire: &mut Wire, mark: &str) -> Result<()> {
    let marks: Vec<_> = (0..50).map(|number| format!("{mark}.{number}")).collect();
    for mark in &marks {
        wire.send(&["ECHO", mark])?;
    }
    marks.iter().try_for_each(|mark| expect(wire, mark))
}

fn transactions(wire: &mut Wire, mark: &str) -> Result<()> {
    let key = format!("t:{mark}");
    wire.send(&["WATCH", &key])?;
    wire.send(&["MULTI"])?;
    wire.send(&["SET", &key, mark])?;
    wire.send(&["CLIENT", "GETNAME"])?;
    wire.send(&["GET", &key])?;
    wire.send(&["EXEC"])?;
    wire.send(&["DEL", &key])?;
    for text in ["OK", "OK", "QUEUED", "QUEUED", "QUEUED"] {
        expect(wire, text)?;
    }
    expect(wire, &format!("[OK, (nil), {mark}]"))?;
    expect(wire, "1")
}

fn blocking(wire: &mut Wire, mark: &str) -> Result<()> {
    let (key, other) = (format!("l:{mark}"), format!("m:{mark}"));
    wire.send(&["BLPOP", &key, "0.005"])?;
    wire.send(&["RPUSH", &other, mark])?;
    wire.send(&["BLPOP", &key, &other, "1"])?;
    expect(wire, "(nil)")?;
    expect(wire, "1")?;
    expect(wire, &format!("[{other}, {mark}]"))
}

fn channels(wire: &mut Wire, mark: &str) -> Result<()> {
    let channel = format!("c:{mark}");
    let read = |wire: &mut Wire| -> Result<Vec<String>> {
        let reply = wire.read()?;
        ensure!(matches!(reply, Value::Array(_) | Value::Push(_)), "{reply}");
        Ok(reply.items().iter().map(Value::text).collect())
    };
    wire.send(&["SUBSCRIBE", &channel])?;
    ensure!(read(wire)? == ["subscribe", &channel, "1"], "SUBSCRIBE");
    wire.send(&["UNSUBSCRIBE"])?;
    ensure!(read(wire)? == ["unsubscribe", &channel, "0"], "UNSUBSCRIBE");
    wire.send(&["PUBLISH", &channel, mark])?;
    wire.send(&["ECHO", mark])?;
    expect(wire, "0")?;
    expect(wire, mark)
}

fn scripts(wire: &mut Wire, mark: &str) -> Result<()> {
    let key = format!("s:{mark}");
    let script = "server.call('SET', KEYS[1], ARGV[1]); return server.call('GETDEL', KEYS[1])";
    wire.send(&["EVAL", script, "1", &key, mark])?;
    expect(wire, mark)
}

fn store_wide(wire: &mut Wire, mark: &str) -> Result<()> {
    let key = format!("w:{mark}");
    wire.send(&["SET", &key, mark])?;
    wire.send(&["KEYS", &key])?;
    wire.send(&["GETDEL", &key])?;
    wire.send(&["ECHO", mark])?;
    expect(wire, "OK")?;
    expect(wire, &format!("[{key}]"))?;
    expect(wire, mark)?;
    expect(wire, mark)
}
