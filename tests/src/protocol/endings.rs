//! How connections end: half-closed, in the middle of a request, with unread replies.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side, shown};
use crate::wire::{Wire, encode};

/// Whatever a client has asked for before it closes its sending half, it gets, and then the end.
pub fn half_close(pair: &Pair) -> Result<()> {
    let mut long = Vec::new();
    for number in 0..5000 {
        long.extend(encode(&["SET", "half", &number.to_string()]));
        long.extend(encode(&["GET", "half"]));
    }
    let value = "v".repeat(300_000);
    let mut large = encode(&["SET", "half", &value]);
    for _ in 0..10 {
        large.extend(encode(&["GET", "half"]));
    }
    let scripts: [(&str, Vec<u8>); 9] = [
        ("a pipeline", long),
        ("large replies", large),
        ("nothing", Vec::new()),
        ("a local answer", encode(&["CLIENT", "GETNAME"])),
        ("store-wide", encode(&["DBSIZE"])),
        (
            "a mixture",
            [
                encode(&["GET", "none"]),
                encode(&["KEYS", "none*"]),
                encode(&["PING"]),
            ]
            .concat(),
        ),
        ("half a request", b"PING\r\n*2\r\n$3\r\nGET\r\n$1".to_vec()),
        ("half a line", b"PING\r\nPIN".to_vec()),
        (
            "a transaction",
            [
                encode(&["MULTI"]),
                encode(&["INCR", "n"]),
                encode(&["EXEC"]),
            ]
            .concat(),
        ),
    ];
    // Short scripts often, since the end may overtake them only now and then.
    let short = |script: &&(&str, Vec<u8>)| script.1.len() < 1000;
    let again = scripts.iter().filter(short).cycle().take(150);
    for (name, script) in scripts.iter().chain(again) {
        let answer = |side| -> Result<Vec<u8>> {
            pair.empty(side)?;
            let mut wire = pair.connect(side)?;
            wire.send_raw(script)?;
            wire.stream().shutdown(Shutdown::Write)?;
            read_to_end(&mut wire).context(*name)
        };
        let (valkey, store) = (answer(Side::Private)?, answer(Side::Store)?);
        // Valkey itself stops reading where it notices the end first, so it may answer less.
        ensure!(
            store.starts_with(&valkey),
            "{name}: {} instead of {}",
            shown(&store),
            shown(&valkey)
        );
    }
    Ok(())
}

/// Reads to the end. Where sk_msg is in use, the kernel (6.18) wakes a blocking reader when the peer
/// acknowledges its FIN and gives it EAGAIN without data (`tcp_bpf_recvmsg` waits only once), so the
/// reader asks again. Applications that half-close and block see this EAGAIN as well.
fn read_to_end(wire: &mut Wire) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..WAKE_UPS_MAX {
        let (bytes, closed) = wire.read_until_silent(Duration::from_secs(5))?;
        all.extend(bytes);
        if closed {
            return Ok(all);
        }
    }
    bail!("no end after {}", shown(&all))
}

/// The acknowledgement of the FIN is one; a handful leaves room for others.
const WAKE_UPS_MAX: usize = 5;

/// Clients close while replies wait for them, in the middle of requests, with resets: nobody else
/// notices, and nothing is left of them.
pub fn unread(pair: &Pair) -> Result<()> {
    let sessions = || -> Result<u64> {
        pair.bed.status()?["sessions"]
            .as_u64()
            .context("`flect status` says no sessions")
    };
    let mut other = pair.connect(Side::Store)?;
    let value = "v".repeat(100_000);
    other.command(&["SET", "k", &value])?;
    let before = sessions()?;
    pair.with_bounded_memory(|| {
        for round in 0..60 {
            let mut wire = pair.connect(Side::Store)?;
            match round % 6 {
                0 => wire.send_raw(&encode(&["GET", "k"]).repeat(100))?,
                1 => wire.send_raw(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1000000\r\nxxxx")?,
                2 => wire.send(&["BLPOP", "none", "0"])?,
                3 => wire.send_raw(b"MULTI\r\nSET half 1\r\n")?,
                4 => wire.send_raw(b"SUBSCRIBE a b\r\nWATCH k\r\nKEYS *\r\n")?,
                _ => wire.send_raw(&encode(&["KEYS", "*"]).repeat(20))?,
            }
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            drop(wire);
            let reply = other.command(&["ECHO", &round.to_string()])?;
            ensure!(
                reply.text() == round.to_string(),
                "another client got {reply}"
            );
        }
        Ok(())
    })?;
    let reply = other.command(&["GET", "k"])?;
    ensure!(
        reply.text() == value,
        "another client reads {} bytes",
        reply.text().len()
    );
    ensure!(
        other.command(&["EXISTS", "half"])?.text() == "0",
        "half a request took effect"
    );
    wait_until(Duration::from_secs(60), || Ok(sessions()? <= before)).context("sessions remain")?;
    Ok(())
}
