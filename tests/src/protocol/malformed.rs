//! What breaks the protocol, or looks as if it did: the same bytes as from Valkey, then the same
//! end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::pair::{Pair, SILENCE, Side, shown};

/// Left out are two that differ: `*1\r\n\0`, where Valkey looks for the end of the line as in a C
/// string and waits, and an unknown command whose name is longer than the 1 MiB that the agent looks
/// at, behind which the error repeats no arguments.
///
/// Inputs that Valkey answers by its own rules (`processInlineBuffer`, `processMultibulkBuffer` and
/// `processCommand` in its source). Each is sent on a connection of its own.
const INPUTS: &[&[u8]] = &[
    // Counts of arguments.
    b"*abc\r\n",
    b"*1x\r\n",
    b"* 1\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*\r\n",
    b"*-2\r\nPING\r\n",
    b"*-1\r\nPING\r\n",
    b"*0\r\nPING\r\n",
    b"*2147483647\r\n$4\r\nPING\r\n",
    b"*2147483648\r\n",
    b"*9223372036854775808\r\n",
    b"*99999999999999999999999\r\n",
    b"*1048577\r\n$4\r\nPING\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"*1\r$4\r\nPING\r\n",
    // Where an argument belongs.
    b"*1\r\nPING\r\n",
    b"*1\r\n:4\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n\r\n$4\r\nPING\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n'\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\nvalue\r\n",
    b"*2\r\n$3\r\nGET\r\n@1\r\nk\r\n",
    // Lengths of arguments.
    b"*1\r\n$abc\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$-4\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$4 \r\nPING\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$9223372036854775807\r\n",
    b"*1\r\n$18446744073709551616\r\n",
    b"*2\r\n$3\r\nGET\r\n$x\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*2\r\n$0\r\n\r\n$1\r\na\r\n",
    // Ends of arguments that are not CR LF: Valkey does not look at them.
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\n\n",
    // Good requests before bad ones: their replies come first.
    b"*1\r\n$4\r\nPING\r\n*1\r\nX\r\n",
    b"PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nm\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nm\r\n*x\r\nPING\r\n",
    b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$x\r\n",
    // What comes after QUIT is not read.
    b"*1\r\n$4\r\nQUIT\r\n*3\r\n$3\r\nSET\r\n$1\r\nq\r\n$1\r\n1\r\n",
    b"QUIT now please\r\nPING\r\n",
    // Inline requests.
    b"PING\r\n",
    b"PING\n",
    b"  PING  \r\n",
    b"PING hello\r\n",
    b"PING \"hello world\"\r\n",
    b"PING 'hello world'\r\n",
    b"PING \"a\\x41\\n\\r\\t\\a\\b\\\\\\\"\"\r\n",
    b"PING 'it\\'s'\r\n",
    b"PING \"\"\r\n",
    b"PING ''\r\n",
    b"PING \"a\"b\r\n",
    b"PING 'a'b\r\n",
    b"PING \"abc\r\nPING\r\n",
    b"PING 'abc\r\nPING\r\n",
    b"SET k \"\r\n",
    b"PING a\"b c\"\r\n",
    b"PING a\tb\r\n",
    b"PING \x00a\r\nPING\r\n",
    b"\r\n\r\nPING\r\n",
    b"\n\nPING\n",
    b"   \r\nPING\r\n",
    b"SET inline 'a b'\r\nGET inline\r\n",
    b"$4\r\nPING\r\n",
    b"+PING\r\n",
    b"\xff\xfe\r\n",
    b"get\r\n",
    b"GET a b\r\n",
    b"foo 'bar baz' qux\r\n",
    b"foo \"bar\\r\\nbaz\"\r\n",
    b"CONFIG \"\\r\\n\"\r\n",
    // Browsers.
    b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"Host: localhost\r\nPING\r\n",
    b"host:\r\nPING\r\n",
    b"post\r\nPING\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PING\r\nPOST / HTTP/1.1\r\nPING\r\n",
    b"*1\r\n$4\r\nPOST\r\nPING\r\n",
    b"*2\r\n$5\r\nHost:\r\n$1\r\na\r\nPING\r\n",
    // Unknown commands with arguments that no line can hold.
    b"*2\r\n$3\r\nfoo\r\n$4\r\na\r\nb\r\n",
    b"*2\r\n$4\r\nf\r\no\r\n$1\r\nb\r\n",
    b"*1\r\n$6\r\nfoo'\x00x\r\n",
    b"*2\r\n$6\r\nCONFIG\r\n$4\r\na\r\nb\r\n",
];

/// Every input gets the bytes that Valkey would send and the connection ends, or stays, as with
/// Valkey; another client of the same store does not notice.
pub fn alike(pair: &Pair) -> Result<()> {
    let mut inputs: Vec<Vec<u8>> = INPUTS.iter().map(|input| input.to_vec()).collect();
    inputs.extend(long_inputs());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let bystander = scope.spawn(|| bystander(pair, &over));
        let differences = differences(pair, &inputs);
        over.store(true, Ordering::Relaxed);
        let rounds = bystander.join().expect("no panic")?;
        ensure!(rounds > 0, "the other client was never served");
        let differences = differences?;
        if !differences.is_empty() {
            bail!("{}", differences.join("\n"));
        }
        Ok(())
    })
}

/// Lines without an end, below and above what Valkey takes (64 KiB), and names of any length.
fn long_inputs() -> Vec<Vec<u8>> {
    let long = |head: &[u8], length: usize, tail: &[u8]| [head, &vec![b'1'; length], tail].concat();
    let name = |length: usize| {
        let head = format!("*2\r\n${length}\r\n");
        long(head.as_bytes(), length, b"\r\n$2\r\nhi\r\n")
    };
    vec![
        long(b"PING ", 60_000, b"\r\n"),
        long(b"PING ", 65_530, b"\r\n"),
        long(b"PING ", 70_000, b""),
        long(b"*", 70_000, b""),
        long(b"*1\r\n$", 70_000, b""),
        long(b"PING\r\n", 70_000, b""),
        name(100),
        name(127),
        name(128),
        name(129),
        name(10_000),
        name(200_000),
        long(b"*2\r\n$3\r\nfoo\r\n$1000\r\n", 1000, b"\r\n"),
        // A large value, and after it what is no argument.
        long(
            b"*4\r\n$3\r\nSET\r\n$3\r\nbig\r\n$200000\r\n",
            200_000,
            b"\r\n@2\r\nXX\r\n",
        ),
        long(
            b"*4\r\n$3\r\nSET\r\n$3\r\nbig\r\n$200000\r\n",
            200_000,
            b"\r\n$x\r\nXX\r\n",
        ),
        // The agent looks at the whole of it.
        long(b"*2\r\n$4\r\nKEYS\r\n$200000\r\n", 200_000, b"\r\n"),
        // Too many arguments for a command, too long for the agent's buffer.
        long(
            b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n$200000\r\n",
            200_000,
            b"\r\n",
        ),
    ]
}

fn differences(pair: &Pair, inputs: &[Vec<u8>]) -> Result<Vec<String>> {
    const AT_ONCE: usize = 16;
    let mut all = Vec::new();
    for part in inputs.chunks(AT_ONCE) {
        thread::scope(|scope| -> Result<()> {
            let running: Vec<_> = part
                .iter()
                .map(|input| scope.spawn(move || difference(pair, input)))
                .collect();
            for one in running {
                all.extend(one.join().expect("no panic")?);
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// Silence is no proof that nothing will come: answers that differ are asked for again with more
/// patience, for machines that are emulated or busy.
fn difference(pair: &Pair, input: &[u8]) -> Result<Option<String>> {
    let mut difference = None;
    for patience in [1, 10, 40] {
        difference = difference_within(pair, input, SILENCE * patience)?;
        if difference.is_none() {
            break;
        }
    }
    Ok(difference)
}

fn difference_within(pair: &Pair, input: &[u8], silence: Duration) -> Result<Option<String>> {
    let answer = |side| -> Result<(Vec<u8>, bool)> {
        let mut wire = pair.connect(side)?;
        // Valkey may close before it has read everything.
        let _ = wire.send_raw(input);
        Ok(wire.read_until_silent(silence)?)
    };
    let valkey = answer(Side::Private)?;
    let store = answer(Side::Store).with_context(|| shown(input))?;
    let end = |closed| if closed { "closed" } else { "open" };
    Ok((valkey != store).then(|| {
        format!(
            "{}\n   Valkey: {} {}\n   store:  {} {}",
            shown(input),
            shown(&valkey.0),
            end(valkey.1),
            shown(&store.0),
            end(store.1),
        )
    }))
}

/// Another client: writes, reads back and pipelines until it is over; answers how often.
fn bystander(pair: &Pair, over: &AtomicBool) -> Result<u32> {
    let mut wire = pair.connect(Side::Store)?;
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let value = format!("of round {round}");
        wire.send(&["SET", "bystander", &value])?;
        wire.send(&["GET", "bystander"])?;
        wire.send(&["ECHO", &value])?;
        let replies = [wire.read()?, wire.read()?, wire.read()?].map(|reply| reply.text());
        ensure!(
            replies == ["OK", &value, &value],
            "the other client got {replies:?} in round {round}"
        );
    }
    Ok(round)
}
