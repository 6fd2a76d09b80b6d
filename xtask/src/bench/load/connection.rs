//! One connection of the load generator.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flect_tests::wire;
use rustix::net::sockopt::set_socket_linger;

use super::request::Request;
use super::scanner::{Reply, Scanner};
use super::{Expect, PATIENCE, Spec};

/// Connections that are made before their first replies are waited for: fewer than any backlog holds.
const BURST: usize = 100;
/// One read takes at most so much, so that a large reply does not keep others waiting.
pub const READ_BYTES: usize = 64 * 1024;

/// A connection, what it still has to send and where it is in its replies.
pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    out_at: usize,
    /// Requests that are still to be sent from the request itself, and how far the first one is.
    whole: usize,
    whole_at: usize,
    scanner: Scanner,
}

impl Connection {
    /// Connects. It is closed by a reset, so that ten thousand of them leave no ports in TIME_WAIT.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        Ok(Self {
            stream,
            out: Vec::new(),
            out_at: 0,
            whole: 0,
            whole_at: 0,
            scanner: Scanner::default(),
        })
    }

    /// From now on reads and writes do not wait.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unblock(&self) -> Result<()> {
        self.stream.set_nonblocking(true).context("a connection")
    }

    /// From now on they do again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn block(&self) -> Result<()> {
        self.stream.set_nonblocking(false).context("a connection")
    }

    /// Queues so many requests and sends what fits; tells whether all did.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn send(&mut self, request: &Request, count: usize) -> Result<bool> {
        if request.same_each_time().is_some() {
            self.whole += count;
        } else {
            for _ in 0..count {
                request.append(&mut self.out);
            }
        }
        self.flush(request)
    }

    /// Sends what fits; tells whether all did.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn flush(&mut self, request: &Request) -> Result<bool> {
        while self.out_at < self.out.len() {
            match write(&mut self.stream, &self.out[self.out_at..])? {
                Some(count) => self.out_at += count,
                None => return Ok(false),
            }
        }
        self.out.clear();
        self.out_at = 0;
        let Some(bytes) = request.same_each_time() else {
            return Ok(true);
        };
        while self.whole > 0 {
            match write(&mut self.stream, &bytes[self.whole_at..])? {
                Some(count) => self.whole_at += count,
                None => return Ok(false),
            }
            if self.whole_at == bytes.len() {
                self.whole_at = 0;
                self.whole -= 1;
            }
        }
        Ok(true)
    }

    /// Reads once, if there is anything, and tells how many replies came to their end.
    ///
    /// # Errors
    /// When the connection ended, or a reply is not what it should be.
    pub fn receive(&mut self, buffer: &mut [u8], expect: Expect) -> Result<usize> {
        let count = match self.stream.read(buffer) {
            Ok(0) => bail!("the connection was closed"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error).context("reading"),
        };
        let mut replies = 0;
        self.scanner.feed(&buffer[..count], |reply| {
            replies += 1;
            check(&reply, expect)
        })?;
        Ok(replies)
    }

    /// One request and its reply, before [`unblock`](Self::unblock).
    ///
    /// # Errors
    /// When the reply is an error, or does not come.
    pub fn ask(&mut self, words: &[&str]) -> Result<()> {
        self.say(words)?;
        self.hear(1)
    }

    /// One request, before [`unblock`](Self::unblock).
    ///
    /// # Errors
    /// When the connection broke.
    pub fn say(&mut self, words: &[&str]) -> Result<()> {
        self.stream
            .write_all(&wire::encode(words))
            .context("writing")
    }

    /// Waits for so many replies, of whatever kind but errors.
    ///
    /// # Errors
    /// When one is an error, or does not come.
    pub fn hear(&mut self, count: usize) -> Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 512];
        let mut replies = 0;
        while replies < count {
            let length = self.stream.read(&mut buffer).context("reading")?;
            ensure!(length > 0, "the connection was closed");
            self.scanner.feed(&buffer[..length], |_| {
                replies += 1;
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<Option<usize>> {
    match stream.write(bytes) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("writing"),
    }
}

fn check(reply: &Reply, expect: Expect) -> Result<()> {
    let kind = char::from(reply.kind);
    let right = kind == expect.kind
        && expect
            .payload_bytes
            .is_none_or(|bytes| bytes == reply.payload_bytes);
    ensure!(
        right,
        "a reply of kind {kind} with {} bytes where {} with {:?} was expected",
        reply.payload_bytes,
        expect.kind,
        expect.payload_bytes
    );
    Ok(())
}

/// All connections of a specification, each served once, and the time that took.
///
/// # Errors
/// When one is not served.
pub fn connect_all(spec: &Spec) -> Result<(Vec<Connection>, Duration)> {
    let start = Instant::now();
    let mut all: Vec<Connection> = Vec::with_capacity(spec.connections);
    while all.len() < spec.connections {
        let from = all.len();
        for index in from..spec.connections.min(from + BURST) {
            let mut connection = Connection::open(spec.address)
                .with_context(|| format!("connection {} of {}", index + 1, spec.connections))?;
            if spec.stores > 0 {
                let store = format!("store{}", index % spec.stores + 1);
                connection.say(&["AUTH", &store, &store])?;
            }
            connection.say(&["PING"])?;
            all.push(connection);
        }
        let replies = if spec.stores > 0 { 2 } else { 1 };
        for connection in &mut all[from..] {
            connection.hear(replies)?;
        }
    }
    let time = start.elapsed();
    for connection in &all {
        connection.unblock()?;
    }
    Ok((all, time))
}
