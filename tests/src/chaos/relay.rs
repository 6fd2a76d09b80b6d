//! A relay between the agent and Valkey that injects faults into the bytes.
//!
//! Invariant: in [`Mode::Pass`] it changes nothing; garbage is put only where a reply or an element of
//! one begins, so that no honest agent could take it for a value.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Between two looks at whether a stall is over.
const POLL: Duration = Duration::from_millis(5);
/// So much of each read is written byte by byte in [`Mode::Drip`]: every header and small reply is,
/// and a large value does not take minutes.
const DRIP_BYTES_MAX: usize = 300;

/// What the relay does to bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands everything on.
    Pass,
    /// Holds everything back until the mode changes.
    Stall,
    /// Writes a few bytes at a time.
    Drip(usize),
    /// Hands on after a while.
    Late(Duration),
    /// Puts bytes that are no reply in front of the next one, once.
    Garbage(Vec<u8>),
    /// Ends the connection after so many bytes of the next reply, once.
    Cut(usize),
    /// Takes no connection.
    Refuse,
    /// Exchanges two neighbouring replies. No honest network does it: for self-checks.
    Swap,
    /// Writes something of the same length in place of something. For self-checks.
    Substitute {
        /// On the way to Valkey, else on the way back.
        upwards: bool,
        /// What is replaced.
        from: &'static str,
        /// What stands there then.
        to: &'static str,
    },
}

/// A listening relay; its connections end with it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    open: Mutex<Vec<Arc<TcpStream>>>,
    stopped: AtomicBool,
}

impl Relay {
    /// Listens on a free port of loopback and forwards to `valkey`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(valkey: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the relay's port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                if theirs.stopped.load(Ordering::Relaxed) {
                    break;
                }
                if *theirs.mode() != Mode::Refuse {
                    let shared = Arc::clone(&theirs);
                    thread::spawn(move || shared.connect(agent, valkey));
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on does this.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode() = mode;
    }

    /// Resets every connection, at once and on both sides.
    pub fn reset(&self) {
        for stream in self.shared.open().drain(..) {
            reset(&stream);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.set(Mode::Pass);
        self.reset();
        // Wakes the accepting thread, which then closes the port.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<TcpStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: Arc<Self>, agent: TcpStream, valkey: SocketAddr) {
        let Ok(server) = TcpStream::connect(valkey) else {
            return;
        };
        let (agent, server) = (Arc::new(agent), Arc::new(server));
        // Without it short writes would be put together again.
        let _ = agent.set_nodelay(true);
        let _ = server.set_nodelay(true);
        self.open()
            .extend([Arc::clone(&agent), Arc::clone(&server)]);
        let up = {
            let (shared, agent, server) = (Arc::clone(&self), agent.clone(), server.clone());
            thread::spawn(move || shared.pump(&agent, &server, true))
        };
        self.pump(&server, &agent, false);
        let _ = up.join();
        self.open()
            .retain(|stream| !Arc::ptr_eq(stream, &agent) && !Arc::ptr_eq(stream, &server));
    }

    fn pump(&self, from: &TcpStream, to: &TcpStream, upwards: bool) {
        let mut place = Place::default();
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = (&mut &*from).read(&mut bytes) {
            let part = &bytes[..count];
            if self.hand_on(part, from, to, upwards, &place).is_err() {
                break;
            }
            place.advance(part);
        }
        let _ = to.shutdown(Shutdown::Write);
        if !upwards {
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn hand_on(
        &self,
        bytes: &[u8],
        from: &TcpStream,
        mut to: &TcpStream,
        upwards: bool,
        place: &Place,
    ) -> io::Result<()> {
        loop {
            let mode = self.mode().clone();
            return match mode {
                Mode::Stall => {
                    thread::sleep(POLL);
                    continue;
                }
                Mode::Drip(count) => {
                    let (slow, rest) = bytes.split_at(bytes.len().min(DRIP_BYTES_MAX));
                    for few in slow.chunks(count.max(1)) {
                        to.write_all(few)?;
                    }
                    to.write_all(rest)
                }
                Mode::Late(time) => {
                    thread::sleep(time);
                    to.write_all(bytes)
                }
                Mode::Garbage(garbage) if !upwards && place.is_start() => {
                    self.set_once(&Mode::Garbage(garbage.clone()));
                    to.write_all(&garbage)?;
                    to.write_all(bytes)
                }
                Mode::Cut(count) if !upwards => {
                    self.set_once(&Mode::Cut(count));
                    to.write_all(&bytes[..count.min(bytes.len() - 1)])?;
                    reset(from);
                    Err(io::ErrorKind::ConnectionAborted.into())
                }
                Mode::Swap if !upwards && place.is_start() => to.write_all(&swapped(bytes)),
                Mode::Substitute {
                    upwards: way,
                    from,
                    to: other,
                } if way == upwards => to.write_all(&substituted(bytes, from, other)),
                _ => to.write_all(bytes),
            };
        }
    }

    /// A fault that happens once is over, unless there is another one by now.
    fn set_once(&self, done: &Mode) {
        let mut mode = self.mode();
        if *mode == *done {
            *mode = Mode::Pass;
        }
    }
}

/// connect(AF_UNSPEC) sends a reset at once, whoever else has the socket open.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::connect_unspec(stream);
}

/// Where in a stream of replies one is: whether something new begins here.
#[derive(Debug, Default)]
struct Place {
    line: Vec<u8>,
    bulk_left: usize,
}

impl Place {
    fn is_start(&self) -> bool {
        self.line.is_empty() && self.bulk_left == 0
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.bulk_left > 0 {
                let count = self.bulk_left.min(bytes.len());
                self.bulk_left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let count = end.map_or(bytes.len(), |end| end + 1);
            self.line.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if end.is_some() {
                self.bulk_left = bulk_length(&self.line).map_or(0, |length| length + 2);
                self.line.clear();
            }
        }
    }
}

/// The length that a line announces, if it is the header of a bulk string.
fn bulk_length(line: &[u8]) -> Option<usize> {
    let (kind, rest) = line.split_first()?;
    matches!(kind, b'$' | b'=' | b'!')
        .then(|| std::str::from_utf8(rest).ok()?.trim_end().parse().ok())?
}

/// The first two neighbours that differ, exchanged; only strings, numbers and statuses.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(length) = part_length(rest) {
        let (part, others) = rest.split_at(length);
        parts.push(part);
        rest = others;
    }
    if let Some(at) = parts.windows(2).position(|two| two[0] != two[1]) {
        parts.swap(at, at + 1);
    }
    parts.push(rest);
    parts.concat()
}

/// The length of the reply that bytes begin with, if it is whole and not made of others.
fn part_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let length = match bytes[0] {
        b'+' | b':' => line,
        b'$' => line + bulk_length(&bytes[..line])? + 2,
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

fn substituted(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths would lie");
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = out[at..]
        .windows(from.len())
        .position(|part| part == from.as_bytes())
    {
        at += found;
        out[at..at + to.len()].copy_from_slice(to.as_bytes());
        at += to.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_replies_are_exchanged() {
        let check = |bytes: &[u8], expect: &[u8]| assert_eq!(swapped(bytes), expect);
        check(b"$1\r\na\r\n+OK\r\n:1\r\n", b"+OK\r\n$1\r\na\r\n:1\r\n");
        check(b"+OK\r\n+OK\r\n:1\r\n*0\r\n", b"+OK\r\n:1\r\n+OK\r\n*0\r\n");
        check(b":1\r\n$3\r\na", b":1\r\n$3\r\na");
    }

    #[test]
    fn the_place_in_a_stream_is_known_however_it_is_split() {
        let bytes = b"*2\r\n$3\r\na\r\n\r\n:1\r\n+OK\r\n";
        let starts = [0, 4, 13, 17, 22];
        for split in 0..=bytes.len() {
            let mut place = Place::default();
            place.advance(&bytes[..split]);
            assert_eq!(place.is_start(), starts.contains(&split), "at {split}");
        }
    }
}
