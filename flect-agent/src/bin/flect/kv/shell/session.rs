//! One connection to the store: requests, replies, and the state that the prompt shows.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use flect_agent::resp::encode;
use flect_agent::resp::value::{Reader, Value};

use super::path::DataPath;

/// How long Ctrl-C may take to be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// A connection.
pub struct Session {
    stream: UnixStream,
    reader: Reader,
    /// Replies that are still to come.
    owed: usize,
    /// Messages come until it is interrupted.
    pub streaming: bool,
    /// What the last request was, lower case, to see what its reply means.
    last: Vec<Vec<u8>>,
    /// Between MULTI and EXEC.
    pub transaction: bool,
    /// The selected database.
    pub database: u32,
    /// HELLO 3 was said.
    resp3: bool,
}

/// What a read brought.
pub enum Answer {
    /// A reply to the request.
    Reply(Value),
    /// A message that no request asked for.
    Push(Value),
    /// Ctrl-C.
    Interrupted,
    /// The connection has ended.
    Closed,
}

impl Session {
    /// Connects.
    pub fn open(path: &DataPath) -> anyhow::Result<Self> {
        let stream = path.connect()?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        Ok(Self {
            stream,
            reader: Reader::default(),
            owed: 0,
            streaming: false,
            last: Vec::new(),
            transaction: false,
            database: 0,
            resp3: false,
        })
    }

    /// The same anew, after an interruption: database and protocol as before.
    pub fn reopen(&self, path: &DataPath) -> anyhow::Result<Self> {
        let mut fresh = Self::open(path)?;
        let database = self.database.to_string();
        let mut requests: Vec<Vec<&str>> = Vec::new();
        if self.resp3 {
            requests.push(vec!["HELLO", "3"]);
        }
        if self.database > 0 {
            requests.push(vec!["SELECT", &database]);
        }
        for request in requests {
            fresh.send(&request)?;
            while fresh.waits() {
                match fresh.read(path)? {
                    Answer::Closed | Answer::Interrupted => break,
                    Answer::Reply(_) | Answer::Push(_) => {}
                }
            }
        }
        Ok(fresh)
    }

    /// Sends a request.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        encode::request(words, &mut bytes);
        self.stream.write_all(&bytes)?;
        self.last = words
            .iter()
            .map(|word| word.as_ref().to_ascii_lowercase())
            .collect();
        let channels = words.len().saturating_sub(1);
        self.owed = 1;
        self.streaming = false;
        match self.last.first().map(Vec::as_slice) {
            Some(b"subscribe" | b"psubscribe" | b"ssubscribe" | b"monitor") => {
                self.streaming = !self.transaction;
            }
            Some(b"unsubscribe" | b"punsubscribe" | b"sunsubscribe") => {
                self.owed = channels.max(1);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether more is to be read.
    pub fn waits(&self) -> bool {
        self.owed > 0 || self.streaming
    }

    /// Waits for the next value.
    pub fn read(&mut self, path: &DataPath) -> anyhow::Result<Answer> {
        let mut piece = vec![0; READ_BYTES];
        loop {
            if let Some(value) = self.reader.take()? {
                return Ok(self.take(value));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(Answer::Closed),
                Ok(length) => self.reader.push(&piece[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if path.take_interrupt() {
                        return Ok(Answer::Interrupted);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(Answer::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, value: Value) -> Answer {
        let about_channels = self
            .last
            .first()
            .is_some_and(|name| name.ends_with(b"subscribe"));
        if matches!(value, Value::Push(_)) && !about_channels {
            return Answer::Push(value);
        }
        self.owed = self.owed.saturating_sub(1);
        if matches!(value, Value::Error(_)) {
            self.streaming = false;
            self.owed = 0;
        }
        self.follow(&value);
        Answer::Reply(value)
    }

    /// What a reply changes of the connection.
    fn follow(&mut self, reply: &Value) {
        let failed = matches!(reply, Value::Error(_));
        let word = |at: usize| self.last.get(at).map(Vec::as_slice).unwrap_or_default();
        match word(0) {
            b"multi" if !failed => self.transaction = true,
            b"exec" | b"discard" => self.transaction = false,
            b"select" if !failed && !self.transaction => {
                let text = String::from_utf8_lossy(word(1)).into_owned();
                self.database = text.parse().unwrap_or(self.database);
            }
            b"hello" if !failed => match word(1) {
                b"3" => self.resp3 = true,
                b"2" => self.resp3 = false,
                _ => {}
            },
            b"reset" if !failed => {
                self.transaction = false;
                self.database = 0;
                self.resp3 = false;
            }
            _ => {}
        }
    }
}
