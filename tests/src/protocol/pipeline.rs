//! Pipelines: split anywhere, long, and written whole before the first reply is read.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::pair::{Pair, Side, shown};
use crate::wire::{Value, encode};

/// What the issue asks for.
const COMMANDS: usize = 100_000;

/// A script of everything that a scanner may meet: arrays, inline lines, empty ones, binary, keys in
/// several places, transactions, what the agent answers itself, and errors.
const SCRIPT: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\x00\xff\r\n\
    GET k\r\n\r\n*0\r\n*-1\r\nPING \"a b\"\r\n\
    *5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$0\r\n\r\n\
    *3\r\n$4\r\nmget\r\n$1\r\na\r\n$1\r\nb\r\n\
    *1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n\
    *2\r\n$3\r\nGET\r\n$1\r\na\r\nSELECT 0\r\nKEYS a\r\nnosuch 'x y'\r\nGET\r\n\
    *4\r\n$4\r\nEVAL\r\n$14\r\nreturn ARGV[1]\r\n$1\r\n0\r\n$1\r\na\r\nQUIT\r\n";

/// The script in two writes, cut at every byte, and byte by byte: always Valkey's replies.
pub fn any_split(pair: &Pair) -> Result<()> {
    let expect = {
        let mut wire = pair.connect(Side::Private)?;
        wire.send_raw(SCRIPT)?;
        wire.read_to_end()?
    };
    let check = |name: &str, parts: &[&[u8]]| -> Result<()> {
        let mut wire = pair.connect(Side::Store)?;
        for part in parts {
            wire.send_raw(part)?;
            // Long enough that the agent has mostly read it before the next comes.
            thread::sleep(Duration::from_micros(300));
        }
        let got = wire.read_to_end().with_context(|| name.to_owned())?;
        ensure!(
            got == expect,
            "{name}: {}\ninstead of {}",
            shown(&got),
            shown(&expect)
        );
        // What a script leaves behind, the next begins with.
        pair.empty(Side::Store)?;
        Ok(())
    };
    check("whole", &[SCRIPT])?;
    let bytes: Vec<&[u8]> = SCRIPT.chunks(1).collect();
    check("byte by byte", &bytes)?;
    for cut in 1..SCRIPT.len() {
        let (head, tail) = SCRIPT.split_at(cut);
        check(&format!("cut at {cut}"), &[head, tail])?;
    }
    Ok(())
}

/// 100,000 commands from one thread, every reply checked in another.
pub fn long(pair: &Pair) -> Result<()> {
    pair.with_bounded_memory(|| {
        let mut wire = pair.connect(Side::Store)?;
        let writing = wire.stream().try_clone()?;
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut out = Vec::new();
                for number in 0..COMMANDS {
                    out.extend(command(number));
                }
                std::io::Write::write_all(&mut &writing, &out)
            });
            for number in 0..COMMANDS {
                check_reply(number, &wire.read()?)?;
            }
            writer.join().expect("no panic")?;
            Ok(())
        })
    })
}

/// A client library that writes its whole pipeline and only then begins to read, as redis-py does:
/// Valkey keeps the replies meanwhile, so the agent must. 100,000 replies of 100 bytes are more than
/// all socket buffers on the way hold.
pub fn unread(pair: &Pair) -> Result<()> {
    pair.with_bounded_memory(|| {
        let mut wire = pair.connect(Side::Store)?;
        let value = "v".repeat(100);
        wire.command(&["SET", "k", &value])?;
        let get = encode(&["GET", "k"]);
        wire.stream()
            .set_write_timeout(Some(Duration::from_secs(60)))?;
        wire.send_raw(&get.repeat(COMMANDS))
            .context("writing a pipeline without reading")?;
        for number in 0..COMMANDS {
            let reply = wire.read()?;
            ensure!(reply.text() == value, "reply {number} is {reply}");
        }
        Ok(())
    })
}

/// Three kinds in turn: a write, a read of it, and what the agent answers itself.
fn command(number: usize) -> Vec<u8> {
    let key = format!("key:{}", number % 1000 / 4);
    match number % 4 {
        0 => encode(&["SET", &key, &number.to_string()]),
        1 => encode(&["GET", &key]),
        2 => encode(&["ECHO", &number.to_string()]),
        _ => encode(&["CLIENT", "GETNAME"]),
    }
}

fn check_reply(number: usize, reply: &Value) -> Result<()> {
    let expect = match number % 4 {
        0 => "OK".to_owned(),
        1 => (number - 1).to_string(),
        2 => number.to_string(),
        _ => "(nil)".to_owned(),
    };
    ensure!(
        reply.text() == expect,
        "reply {number} is {reply}, not {expect}"
    );
    Ok(())
}
