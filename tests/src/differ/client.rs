//! One client of one side: its connection, and what the server knows of it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::compare::Compare;
use super::frame::Frame;
use super::step::Request;

/// How long a reply may take before it counts as none. Between this and a reply's usual time of
/// a millisecond is room for a stalled machine.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How long one read waits: the grain of the patience.
const GRAIN: Duration = Duration::from_millis(20);
/// Between two pieces of a request, so that the server reads the first alone.
const PIECE_PAUSE: Duration = Duration::from_micros(300);

/// What came, or that nothing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A frame.
    Frame(Frame),
    /// The server closed the connection.
    Closed,
    /// Nothing, for as long as [`PATIENCE`].
    Nothing,
    /// Bytes that are no RESP.
    Garbage(Vec<u8>),
}

/// Whether the server replies to the client: CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// It does.
    On,
    /// Not until it is told to.
    Off,
    /// Not to the next request.
    SkipNext,
}

/// A connection and what is known of it.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// 2 or 3.
    pub protocol: u8,
    /// The database it chose.
    pub db: Vec<u8>,
    /// The rules of what it has queued, while it is in MULTI.
    pub queued: Option<Vec<Compare>>,
    /// Whether messages may come unasked.
    pub listens: bool,
    /// Whether it has asked to be told what changes.
    pub tracks: bool,
    /// Whether it waits in a blocking request.
    pub blocked: bool,
    /// Whether the server has closed it.
    pub closed: bool,
    /// Whether it gets replies.
    pub replies: Replies,
}

impl Client {
    /// A client on a new connection.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GRAIN))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            protocol: 2,
            db: b"0".to_vec(),
            queued: None,
            listens: false,
            tracks: false,
            blocked: false,
            closed: false,
            replies: Replies::On,
        })
    }

    /// Writes requests, in the pieces that they ask for. A server that has closed is no error here:
    /// reading tells.
    pub fn write(&mut self, requests: &[&Request]) {
        let mut bytes = Vec::new();
        for request in requests {
            let mut pieces = request.pieces();
            let last = pieces.pop().unwrap_or_default();
            for piece in pieces {
                bytes.extend(piece);
                if self.stream.write_all(&bytes).is_err() {
                    return;
                }
                bytes.clear();
                thread::sleep(PIECE_PAUSE);
            }
            bytes.extend(last);
        }
        let _ = self.stream.write_all(&bytes);
    }

    /// The next frame, however long it takes, up to [`PATIENCE`].
    pub fn read(&mut self) -> Said {
        self.read_within(PATIENCE)
    }

    /// The next frame, if it comes within so long.
    pub fn read_within(&mut self, patience: Duration) -> Said {
        let start = Instant::now();
        loop {
            match Frame::parse(&self.buffer) {
                Ok(Some((frame, length))) => {
                    self.buffer.drain(..length);
                    return Said::Frame(frame);
                }
                Ok(None) => {}
                Err(_) => {
                    self.closed = true;
                    return Said::Garbage(std::mem::take(&mut self.buffer));
                }
            }
            if self.closed {
                return Said::Closed;
            }
            // An accelerated socket may end a blocking read early, without data.
            let mut part = [0; 16 * 1024];
            match self.stream.read(&mut part) {
                Ok(0) => self.closed = true,
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if start.elapsed() >= patience {
                        return Said::Nothing;
                    }
                }
                Err(_) => self.closed = true,
            }
        }
    }

    /// The next frame, if it is there already or comes within the grain of a read.
    ///
    /// # Errors
    /// When the socket's options cannot be set.
    pub fn read_now(&mut self) -> io::Result<Option<Said>> {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(1)))?;
        let said = self.read_within(Duration::ZERO);
        self.stream.set_read_timeout(Some(GRAIN))?;
        Ok(match said {
            Said::Nothing => None,
            said => Some(said),
        })
    }

    /// Notes what a request and its reply have changed.
    pub fn note(&mut self, request: &Request, reply: &Frame) {
        let is_queued = matches!(reply, Frame::Line(b'+', text) if text == b"QUEUED");
        if let (Some(queued), true) = (&mut self.queued, is_queued) {
            queued.push(super::compare::of(request));
            return;
        }
        let failed = reply.is_error();
        match request.name().as_str() {
            "MULTI" if !failed => self.queued = Some(Vec::new()),
            // Refused for its arguments, it does not end the transaction.
            "EXEC" | "DISCARD" if request.args.len() == 1 => self.queued = None,
            "SELECT" if !failed => self.db.clone_from(&request.args[1]),
            "HELLO" if !failed && request.args.len() > 1 => {
                self.protocol = if request.args[1] == b"3" { 3 } else { 2 };
            }
            "RESET" if !failed => {
                self.protocol = 2;
                self.db = b"0".to_vec();
                self.queued = None;
                self.listens = false;
                self.tracks = false;
                self.replies = Replies::On;
            }
            _ => {}
        }
    }
}
