//! What is played, and what the ends see of it.
//!
//! A scenario tells its observation as a text. `is_fast` says whether the connection may leave TCP;
//! the text must not depend on it, nor on time.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, splice};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::bench::{Bench, Direction, PATIENCE, patient, wait_for};
use crate::interception::kernel;

pub(super) type Scenario = fn(&Bench, Direction, bool) -> io::Result<String>;

pub(super) const SCENARIOS: [(&str, Scenario); 12] = [
    ("fast path", fast_path),
    ("FIONREAD", fionread),
    ("MSG_PEEK and MSG_WAITALL", peek_and_wait),
    ("splice", splice_to_pipe),
    ("blocking read", blocking_read),
    ("FIN and poll", fin_and_poll),
    ("half-close", half_close),
    ("close with unread replies", close_with_unread_replies),
    ("close with unread requests", close_with_unread_requests),
    ("ordering across CPUs", ordering),
    ("slow reader", slow_reader),
    ("large transfer", large_transfer),
];

/// More than one page and less than any buffer.
const MESSAGE_BYTES: usize = 10_000;
/// What may wait for a reader that does not read. TCP lets some MB wait: the larger of its default
/// buffers (`tcp_wmem` 4 MB, `tcp_rmem` 6 MB), and so may we.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long nothing must happen before it is taken for never: every scenario with a full buffer waits
/// as long.
const IN_VAIN: Duration = Duration::from_millis(30);
/// The wake-up that ends a blocking read early is a matter of luck, now and then.
const BLOCKING_READS: usize = 3;
/// Sent on top once the slow reader has begun to read.
const LARGE_BYTES: usize = 4 * 1024 * 1024;
/// One write or read of a large transfer.
const PIECE_BYTES_MAX: usize = 128 * 1024;
/// Connections whose first bytes are sent while their other end is still being made.
const RACES: usize = 100;
/// Messages pipelined on each of them.
const PIPELINED: usize = 50;

/// Nothing else is worth trying where the bytes do not even leave TCP.
fn fast_path(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let (mut sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    sender.write_all(pattern(0, MESSAGE_BYTES))?;
    let received = expect(&mut receiver, 0, MESSAGE_BYTES)?;
    let segments = kernel::data_segments_sent(sender.as_fd())?;
    if is_fast && segments != 0 {
        return Err(io::Error::other(format!(
            "{segments} segments went through TCP all the same"
        )));
    }
    Ok(received)
}

/// Node, Java and .NET ask how much there is before they read. Whichever direction is fast, what the
/// app asks about is the agent's reply.
fn fionread(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let mut pair = bench.pair(direction, is_fast)?;
    pair.agent.write_all(pattern(0, MESSAGE_BYTES))?;
    readable(&pair.client)?;
    let before = rustix::io::ioctl_fionread(&pair.client)?;
    expect(&mut pair.client, 0, MESSAGE_BYTES / 2)?;
    let after = rustix::io::ioctl_fionread(&pair.client)?;
    Ok(format!("{before} bytes, then {after}"))
}

fn peek_and_wait(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let pair = bench.pair(direction, is_fast)?;
    let (mut agent, mut client) = (pair.agent, pair.client);
    agent.write_all(pattern(0, 100))?;
    readable(&client)?;
    let mut buffer = [0; 200];
    let peeked = client.peek(&mut buffer)?;
    let first = expect(&mut client, 0, 100)?;
    let waiting = thread::spawn(move || -> io::Result<usize> {
        let mut buffer = [0; 200];
        let (received, _) = recv(&client, buffer.as_mut_slice(), RecvFlags::WAITALL)?;
        Ok(received)
    });
    agent.write_all(pattern(0, 100))?;
    thread::sleep(Duration::from_millis(5));
    agent.write_all(pattern(0, 100))?;
    let waited = joined(waiting)?;
    Ok(format!("peeked {peeked}, {first}, waited for {waited}"))
}

fn splice_to_pipe(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let mut pair = bench.pair(direction, is_fast)?;
    pair.agent.write_all(pattern(0, 1000))?;
    readable(&pair.client)?;
    // SPLICE_F_NONBLOCK is about the pipe alone.
    pair.client.set_nonblocking(true)?;
    let (_reader, writer) = rustix::pipe::pipe()?;
    match splice(
        &pair.client,
        None,
        &writer,
        None,
        1000,
        SpliceFlags::NONBLOCK,
    ) {
        Ok(bytes) => Ok(format!("{bytes} bytes")),
        Err(errno) => Ok(format!("{errno}")),
    }
}

/// A thread of the app waits for a reply while another is sending. tcp_msg_wait_data takes every
/// wake-up without data for the end of the time to wait, such as the one for room to write, and the
/// blocking read ends with EAGAIN.
fn blocking_read(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    for _ in 1..BLOCKING_READS {
        let read = one_blocking_read(bench, direction, is_fast)?;
        if read != "100 bytes" {
            return Ok(read);
        }
    }
    one_blocking_read(bench, direction, is_fast)
}

fn one_blocking_read(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let pair = bench.pair(direction, is_fast)?;
    let (mut agent, mut client) = (pair.agent, pair.client);
    let mut reader = client.try_clone()?;
    let reading = thread::spawn(move || expect(&mut reader, 0, 100));
    let total = 2 * LARGE_BYTES;
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = sent.clone();
    let sending = thread::spawn(move || {
        (0..total).step_by(PIECE_BYTES_MAX).try_for_each(|start| {
            progress.store(start, Ordering::Relaxed);
            client.write_all(pattern(start, PIECE_BYTES_MAX))
        })
    });
    // Until the sender has filled every buffer and waits for room.
    let mut before = 0;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        thread::sleep(IN_VAIN);
        let now = sent.load(Ordering::Relaxed);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    expect(&mut agent, 0, total)?;
    agent.write_all(pattern(0, 100))?;
    joined(sending)?;
    joined(reading)
}

fn fin_and_poll(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let (mut sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    sender.write_all(pattern(0, MESSAGE_BYTES))?;
    readable(&receiver)?;
    drop(sender);
    let hung_up = wait_for(&receiver, PollFlags::RDHUP, PATIENCE)?;
    let received = expect(&mut receiver, 0, MESSAGE_BYTES)?;
    let still = wait_for(&receiver, PollFlags::IN, PATIENCE)?;
    Ok(format!(
        "{hung_up:?}, {received}, {still:?}, {}",
        end(&mut receiver)?
    ))
}

fn half_close(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let (mut sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    sender.write_all(pattern(0, MESSAGE_BYTES))?;
    sender.shutdown(Shutdown::Write)?;
    let received = expect(&mut receiver, 0, MESSAGE_BYTES)?;
    let first_end = end(&mut receiver)?;
    receiver.write_all(pattern(0, 100))?;
    drop(receiver);
    let answered = expect(&mut sender, 0, 100)?;
    Ok(format!(
        "{received}, {first_end}; {answered}, {}",
        end(&mut sender)?
    ))
}

/// An app that sends, does not care for replies, and closes: what it sent counts all the same.
fn close_with_unread_replies(
    bench: &Bench,
    direction: Direction,
    is_fast: bool,
) -> io::Result<String> {
    let (mut sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    receiver.write_all(pattern(0, 100))?;
    readable(&sender)?;
    sender.write_all(pattern(0, MESSAGE_BYTES))?;
    drop(sender);
    let received = expect(&mut receiver, 0, MESSAGE_BYTES)?;
    let end = end(&mut receiver)?;
    Ok(match direction {
        // The agent takes every end alike.
        Direction::ClientToAgent => received,
        Direction::AgentToClient => format!("{received}, {end}"),
    })
}

/// The receiver closes without having read: the sender learns of it, by EOF or by a reset. TCP resets;
/// past it the kernel sees nothing unread and ends in order. Clients take both for a closed
/// connection.
fn close_with_unread_requests(
    bench: &Bench,
    direction: Direction,
    is_fast: bool,
) -> io::Result<String> {
    let (mut sender, receiver) = bench.pair(direction, is_fast)?.ends(direction);
    sender.write_all(pattern(0, MESSAGE_BYTES))?;
    readable(&receiver)?;
    drop(receiver);
    end(&mut sender)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if sender.write_all(pattern(0, 100)).is_err() {
            return Ok("writing fails in the end".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok("writing goes on".to_owned())
}

/// Bytes sent straight after connect or accept, while the other end is being made on another CPU.
fn ordering(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    bench.prepare(direction, is_fast)?;
    let address = bench.address()?;
    let cpus = cpus()?;
    for race in 0..RACES {
        let cpu = cpus[race % cpus.len()];
        let client = thread::spawn(move || -> io::Result<String> {
            pin_to(cpu)?;
            let client = TcpStream::connect_timeout(&address, PATIENCE)?;
            patient(&client)?;
            play(client, direction == Direction::ClientToAgent)
        });
        let agent = bench
            .accept()
            .and_then(|agent| play(agent, direction == Direction::AgentToClient));
        let client = joined(client)?;
        let agent = agent?;
        if client != agent {
            return Err(io::Error::other(format!("{client} against {agent}")));
        }
    }
    Ok("all in order".to_owned())
}

fn play(mut stream: TcpStream, is_sender: bool) -> io::Result<String> {
    const PIECE: usize = 37;
    if is_sender {
        for piece in 0..PIPELINED {
            stream.write_all(pattern(piece * PIECE, PIECE))?;
        }
        // The end is awaited, so that nothing is lost to a close.
        end(&mut stream)?;
        Ok(format!("{} bytes", PIPELINED * PIECE))
    } else {
        expect(&mut stream, 0, PIPELINED * PIECE)
    }
}

/// A reader that does not read holds its sender back; once it reads, all comes, in order, also across
/// the change from the fast path to TCP.
fn slow_reader(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let (mut sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    sender.set_nonblocking(true)?;
    let mut sent = 0;
    loop {
        if sent > WAITING_BYTES_MAX {
            return Ok(format!("more than {WAITING_BYTES_MAX} bytes wait"));
        }
        match sender.write(pattern(sent, PIECE_BYTES_MAX)) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The kernel moves bytes from the sender's buffer to the receiver's meanwhile.
                if wait_for(&sender, PollFlags::OUT, IN_VAIN)?.is_empty() {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    sender.set_nonblocking(false)?;
    let total = sent + LARGE_BYTES;
    let sending = thread::spawn(move || send_pattern(sender, sent, total));
    let received = expect(&mut receiver, 0, total)?;
    drop(receiver);
    joined(sending)?;
    if received == format!("{total} bytes") {
        Ok("held back, then all in order".to_owned())
    } else {
        Err(io::Error::other(received))
    }
}

fn large_transfer(bench: &Bench, direction: Direction, is_fast: bool) -> io::Result<String> {
    let (sender, mut receiver) = bench.pair(direction, is_fast)?.ends(direction);
    let sending = thread::spawn(move || send_pattern(sender, 0, LARGE_BYTES));
    let received = expect(&mut receiver, 0, LARGE_BYTES)?;
    drop(receiver);
    joined(sending)?;
    Ok(received)
}

fn send_pattern(mut sender: TcpStream, from: usize, to: usize) -> io::Result<()> {
    for start in (from..to).step_by(PIECE_BYTES_MAX) {
        sender.write_all(pattern(start, (to - start).min(PIECE_BYTES_MAX)))?;
    }
    // Open until the receiver has it all.
    end(&mut sender).map(drop)
}

/// Bytes that tell their place in the stream: at most PIECE_BYTES_MAX of them.
fn pattern(start: usize, length: usize) -> &'static [u8] {
    /// A prime, so that pieces and pages never start alike.
    const PERIOD: usize = 2039;
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..PERIOD)
            .map(|at| ((at * 31) >> 3) as u8 ^ at as u8)
            .cycle()
            .take(PERIOD + PIECE_BYTES_MAX)
            .collect()
    });
    let start = start % PERIOD;
    &PATTERN[start..start + length]
}

/// Reads so many bytes of the pattern.
fn expect(stream: &mut TcpStream, start: usize, length: usize) -> io::Result<String> {
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    let mut done = 0;
    while done < length {
        let room = (length - done).min(buffer.len());
        let read = match stream.read(&mut buffer[..room]) {
            Ok(0) => return Ok(format!("only {done} of {length} bytes")),
            Ok(read) => read,
            Err(error) => return Ok(format!("only {done} of {length} bytes, {}", error.kind())),
        };
        if &buffer[..read] != pattern(start + done, read) {
            return Ok(format!("wrong bytes within {done} and {}", done + read));
        }
        done += read;
    }
    Ok(format!("{length} bytes"))
}

/// How a stream ends.
fn end(stream: &mut TcpStream) -> io::Result<&'static str> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok("EOF"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok("reset"),
            Err(error) => return Err(error),
        }
    }
}

fn readable(stream: &TcpStream) -> io::Result<()> {
    if wait_for(stream, PollFlags::IN, PATIENCE)?.is_empty() {
        return Err(io::Error::other("poll did not tell that bytes had come"));
    }
    Ok(())
}

fn cpus() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect())
}

fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

fn joined<T>(thread: thread::JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread of the self-test panicked")))
}
