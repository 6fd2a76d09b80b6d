//! That sk_msg cannot be told from TCP, and what the self-test makes of this kernel.
//!
//! The self-test itself plays the finer points; here whole conversations of an app are compared, byte
//! by byte, with acceleration off and on.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flect_agent::interception::{Acceleration, Interception};

use super::Body;
use super::puppet::eventually;
use super::stage::{PATIENCE, Stage};

pub(super) const BODIES: [(&str, Body); 2] = [
    (
        "accelerated_bytes_are_the_same",
        accelerated_bytes_are_the_same,
    ),
    (
        "the_self_test_gives_a_verdict",
        the_self_test_gives_a_verdict,
    ),
];

/// Conversations of one transcript.
const ROUNDS: usize = 100;
/// A large reply: more than every buffer on the way, and than what may wait on the fast path.
const LARGE_BYTES: usize = 12 * 1024 * 1024;

fn accelerated_bytes_are_the_same(stage: &mut Stage) -> Result<()> {
    let mut transcripts = Vec::new();
    for acceleration in [Acceleration::Off, Acceleration::On] {
        stage.settings.acceleration = acceleration;
        let mut hooks = stage.attach()?;
        ensure!(hooks.acceleration().client_to_agent == (acceleration == Acceleration::On));
        let listeners = hooks.take_listeners();
        let hooks = Arc::new(hooks);
        let listener = listeners.into_iter().next().context("no listener")?;
        listener.set_nonblocking(false)?;
        let served = hooks.clone();
        let closing = listener.try_clone()?;
        let server = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let hooks = served.clone();
                thread::spawn(move || converse(stream, &hooks));
            }
        });
        let mut a = stage.puppet("a")?;
        transcripts.push(a.go(&format!("transcript {}", stage.asked()))?);
        eventually("no entry is left behind", || Ok(hooks.pending()? == 0))?;
        rustix::net::shutdown(&closing, rustix::net::Shutdown::Both)?;
        ensure!(server.join().is_ok());
    }
    ensure!(
        transcripts[0] == transcripts[1],
        "off: {}\non:  {}",
        transcripts[0],
        transcripts[1]
    );
    Ok(())
}

/// The agent's end: the first byte says what is wanted.
fn converse(mut stream: TcpStream, hooks: &Interception) {
    if hooks.identify(std::os::fd::AsFd::as_fd(&stream)).is_err() {
        return;
    }
    let mut wish = [0];
    let result = stream.read_exact(&mut wish).and_then(|()| match wish[0] {
        // Echo until the end.
        b'e' => {
            let mut buffer = [0; 8192];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => stream.write_all(&buffer[..read])?,
                }
            }
        }
        // Tell how much came before the end.
        b'c' => {
            let mut count = 0;
            let mut buffer = [0; 8192];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.write_all(format!("{count}").as_bytes()),
                    read => count += read,
                }
            }
        }
        // A large reply, then the end.
        b'l' => {
            for start in (0..LARGE_BYTES).step_by(4096) {
                stream.write_all(&pattern(start, 4096))?;
            }
            Ok(())
        }
        // Answer, and close with requests unread once they are there.
        _ => {
            stream.write_all(b"-ERR no\r\n")?;
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }
    });
    // The client may end it first.
    let _ended = result;
}

/// The app's end, run by a puppet: what it sees, as a text.
pub(super) fn transcript(address: SocketAddr) -> Result<String> {
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        seen.push(played("pipelined echo", pipelined_echo(address, round)));
        seen.push(played("half-close", half_closed_count(address, round)));
    }
    seen.push(played("slow reader", slowly_read(address)));
    seen.push(played(
        "unread requests",
        closed_with_unread_requests(address),
    ));
    seen.push(played(
        "unread replies",
        closed_with_unread_replies(address),
    ));
    let text = seen.join(";");
    // Long, and all of it counts: equal digests of equal texts, and what may differ.
    let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let notable: Vec<&str> = seen
        .iter()
        .enumerate()
        .filter(|(at, what)| *at >= 2 * ROUNDS || what.contains("failed"))
        .map(|(_, what)| what.as_str())
        .collect();
    Ok(format!("{digest:016x} {}", notable.join(", ")))
}

/// A failure is something that the app sees too.
fn played(what: &str, result: Result<String>) -> String {
    result.unwrap_or_else(|error| format!("{what} failed: {error:#}"))
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Many small writes straight after connect, while another thread reads.
fn pipelined_echo(address: SocketAddr, round: usize) -> Result<String> {
    let mut stream = open(address)?;
    let mut reader = stream.try_clone()?;
    let size = 50 + round * 7;
    let total = 40 * size;
    let reading = thread::spawn(move || -> io::Result<bool> {
        let mut bytes = vec![0; total];
        reader.read_exact(&mut bytes)?;
        Ok(bytes == pattern(0, total))
    });
    stream.write_all(b"e")?;
    for piece in 0..40 {
        stream.write_all(&pattern(piece * size, size))?;
    }
    let same = reading
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(format!("echo {total} {same}"))
}

fn half_closed_count(address: SocketAddr, round: usize) -> Result<String> {
    let mut stream = open(address)?;
    stream.write_all(b"c")?;
    stream.write_all(&pattern(0, 1 + round * 331))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    // On the fast path a blocking read may end early with EAGAIN, when the acknowledgement of our FIN
    // wakes it (tcp_msg_wait_data). The self-test knows; here it is the bytes that count.
    while let Err(error) = stream.read_to_end(&mut answer) {
        let early = error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline;
        ensure!(early, "{error}");
    }
    Ok(format!("count {}", String::from_utf8_lossy(&answer)))
}

fn slowly_read(address: SocketAddr) -> Result<String> {
    let mut stream = open(address)?;
    stream.write_all(b"l")?;
    thread::sleep(Duration::from_millis(100));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(format!(
        "large {} {}",
        bytes.len(),
        bytes == pattern(0, LARGE_BYTES)
    ))
}

/// The agent closes without having read everything: the app learns that it is closed.
fn closed_with_unread_requests(address: SocketAddr) -> Result<String> {
    let mut stream = open(address)?;
    stream.write_all(b"x")?;
    stream.write_all(&pattern(0, 50_000))?;
    let deadline = Instant::now() + PATIENCE;
    while stream.write_all(b"more").is_ok() {
        ensure!(Instant::now() < deadline, "writing goes on");
        thread::sleep(Duration::from_millis(1));
    }
    Ok("closed".to_owned())
}

/// The app closes without having read everything; the next connection is not affected.
fn closed_with_unread_replies(address: SocketAddr) -> Result<String> {
    for _ in 0..20 {
        let mut stream = open(address)?;
        stream.write_all(b"e")?;
        stream.write_all(&pattern(0, 30_000))?;
        let mut some = [0; 100];
        stream.read_exact(&mut some)?;
        ensure!(some[..] == pattern(0, 100), "the beginning of the echo");
    }
    pipelined_echo(address, 1)
}

fn pattern(start: usize, length: usize) -> Vec<u8> {
    (start..start + length)
        .map(|at| (at % 251) as u8 ^ (at >> 12) as u8)
        .collect()
}

fn the_self_test_gives_a_verdict(stage: &mut Stage) -> Result<()> {
    stage.settings.acceleration = Acceleration::Auto;
    let started = Instant::now();
    let hooks = stage.attach()?;
    let took = started.elapsed();
    let verdict = hooks.acceleration();
    println!("attached in {took:?}; {}", verdict.reason);
    // Two seconds on a machine; emulated ones take ten times as long.
    ensure!(took < Duration::from_secs(60), "it took {took:?}");
    ensure!(!verdict.checks.is_empty(), "{}", verdict.reason);
    for check in &verdict.checks {
        println!(
            "{}: {}",
            check.name,
            check.failure.as_deref().unwrap_or("as TCP")
        );
        // What we rely on whichever way the verdict goes, since `on` may force it.
        let is_ours = [
            "fast path",
            "ordering across CPUs",
            "half-close",
            "slow reader",
        ]
        .iter()
        .any(|name| check.name.ends_with(name));
        // One that a busy machine did not come to says nothing of the kernel.
        let is_told = |failure: &&String| is_ours && !failure.starts_with("not tried");
        if let Some(failure) = check.failure.as_ref().filter(is_told) {
            anyhow::bail!("{}: {failure}", check.name);
        }
    }
    Ok(())
}
