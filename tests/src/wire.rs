//! A small RESP client that hides nothing: raw bytes in, every reply type out.
//!
//! Blocking and with a deadline on every read, so that a test fails instead of hanging.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a read may take: far above any reply's time even in an emulated machine, far below a
/// test run's limit.
const READ_SECONDS_MAX: u64 = 60;

/// A connection that speaks RESP.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<Steady>,
    /// The bytes of the reply that [`Wire::read_bytes`] reads.
    record: Option<Vec<u8>>,
    /// How long a read may take.
    patience: Duration,
}

/// A socket whose blocking reads last until their time is up. On an accelerated socket the kernel
/// may end one early with EAGAIN, woken without data (tcp_bpf_recvmsg): the self-test holds that
/// against acceleration, and the trials that force it look at bytes, not at this.
#[derive(Debug)]
struct Steady(TcpStream);

/// A timeout may come this much early by the clock's grain.
const EARLY: Duration = Duration::from_millis(5);

impl Read for Steady {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            match self.0.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let time = self.0.read_timeout()?;
                    if time.is_some_and(|time| start.elapsed() + EARLY >= time) {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }
}

/// One reply, RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants are named after the protocol's types"
)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Double(String),
    Bool(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
    BulkError(Vec<u8>),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Attribute(Vec<(Value, Value)>),
}

impl Wire {
    /// Connects from the calling process's own cgroup.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    /// Speaks over a connection that exists.
    ///
    /// # Errors
    /// When its options cannot be set.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream: BufReader::new(Steady(stream)),
            record: None,
            patience: Duration::ZERO,
        };
        wire.set_patience(Duration::from_secs(READ_SECONDS_MAX))?;
        Ok(wire)
    }

    /// How long a read may take from now on.
    ///
    /// # Errors
    /// When it is zero.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.patience = patience;
        self.stream().set_read_timeout(Some(patience))
    }

    /// The socket itself, for tests that shut down, reset or inspect it.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream.get_ref().0
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Whatever write says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().0.write_all(bytes)
    }

    /// Sends one command without waiting for the reply.
    ///
    /// # Errors
    /// Whatever write says.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        self.send_raw(&encode(args))
    }

    /// Sends one command and reads one reply. An error reply is a value, not an `Err`.
    ///
    /// # Errors
    /// When the connection breaks or the reply is no RESP.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        self.read()
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When the connection ends or stays silent, or the bytes are no RESP.
    pub fn read(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(line.len().min(1));
        match kind {
            "+" => Ok(Value::Simple(rest.to_owned())),
            "-" => Ok(Value::Error(rest.to_owned())),
            ":" => Ok(Value::Int(number(rest)?)),
            "," => Ok(Value::Double(rest.to_owned())),
            "#" => Ok(Value::Bool(rest == "t")),
            "(" => Ok(Value::BigNumber(rest.to_owned())),
            "_" => Ok(Value::Nil),
            "$" | "=" | "!" => {
                let length = number(rest)?;
                if length < 0 {
                    return Ok(Value::Nil);
                }
                let bytes = self.bulk(length)?;
                Ok(match kind {
                    "$" => Value::Bulk(bytes),
                    "=" => Value::Verbatim(bytes),
                    _ => Value::BulkError(bytes),
                })
            }
            "*" | "~" | ">" => {
                let count = number(rest)?;
                if count < 0 {
                    return Ok(Value::Nil);
                }
                let items = (0..count)
                    .map(|_| self.read())
                    .collect::<io::Result<Vec<_>>>()?;
                Ok(match kind {
                    "*" => Value::Array(items),
                    "~" => Value::Set(items),
                    _ => Value::Push(items),
                })
            }
            "%" | "|" => {
                let pairs = (0..number(rest)?)
                    .map(|_| Ok((self.read()?, self.read()?)))
                    .collect::<io::Result<Vec<_>>>()?;
                Ok(if kind == "%" {
                    Value::Map(pairs)
                } else {
                    Value::Attribute(pairs)
                })
            }
            _ => Err(invalid(&format!("no RESP type: {line:?}"))),
        }
    }

    /// Reads one reply and gives its bytes as they came.
    ///
    /// # Errors
    /// As [`Wire::read`].
    pub fn read_bytes(&mut self) -> io::Result<Vec<u8>> {
        self.record = Some(Vec::new());
        let read = self.read();
        let bytes = self.record.take().unwrap_or_default();
        read.map(|_| bytes)
    }

    /// Reads exactly so many bytes as they come.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes)
    }

    /// Whether nothing comes for so long. The end of the connection is something.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn is_silent_for(&mut self, time: Duration) -> io::Result<bool> {
        if !self.stream.buffer().is_empty() {
            return Ok(false);
        }
        let stream = &self.stream.get_ref().0;
        stream.set_read_timeout(Some(time))?;
        let peeked = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(self.patience))?;
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if is_timeout(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Everything that comes until the peer closes or is silent for so long, and whether it closed.
    /// A reset counts as closing.
    ///
    /// # Errors
    /// When the connection breaks otherwise.
    pub fn read_until_silent(&mut self, time: Duration) -> io::Result<(Vec<u8>, bool)> {
        let mut bytes = self.stream.buffer().to_vec();
        self.stream.consume(bytes.len());
        let stream = self.stream.get_mut();
        stream.0.set_read_timeout(Some(time))?;
        let mut part = [0; 16 * 1024];
        let closed = loop {
            match stream.read(&mut part) {
                Ok(0) => break true,
                Ok(count) => bytes.extend_from_slice(&part[..count]),
                Err(error) if is_timeout(&error) => break false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break true,
                Err(error) => return Err(error),
            }
        };
        stream.0.set_read_timeout(Some(self.patience))?;
        Ok((bytes, closed))
    }

    /// Reads until the peer closes.
    ///
    /// # Errors
    /// Whatever read says, a reset included.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        self.note(&line);
        if !line.ends_with(b"\r\n") {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed",
            ));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(|_| invalid("a line that is no UTF-8"))
    }

    fn bulk(&mut self, length: i64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| invalid("a negative length"))?;
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        self.note(&bytes);
        if !bytes.ends_with(b"\r\n") {
            return Err(invalid("a bulk string without its end"));
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(record) = &mut self.record {
            record.extend_from_slice(bytes);
        }
    }
}

impl Value {
    /// The text of a simple or bulk string, or of an error with its `-`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Error(text) => format!("-{text}"),
            Self::Simple(text) | Self::Double(text) | Self::BigNumber(text) => text.clone(),
            Self::Bulk(bytes) | Self::Verbatim(bytes) => String::from_utf8_lossy(bytes).into(),
            Self::BulkError(bytes) => format!("-{}", String::from_utf8_lossy(bytes)),
            Self::Int(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Nil => "(nil)".to_owned(),
            _ => format!("{self}"),
        }
    }

    /// The items of an array, set or push; nothing for other types.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            _ => &[],
        }
    }

    /// The items as sorted texts, for replies without an order.
    #[must_use]
    pub fn sorted(&self) -> Vec<String> {
        let mut texts: Vec<_> = self.items().iter().map(Self::text).collect();
        texts.sort();
        texts
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
            write!(f, "[{}]", texts.join(", "))
        };
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => list(f, items),
            Self::Map(pairs) | Self::Attribute(pairs) => {
                let texts: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                write!(f, "{{{}}}", texts.join(", "))
            }
            other => f.write_str(&other.text()),
        }
    }
}

/// Every run of digits becomes one N, the lengths of strings with numbers among them.
#[must_use]
pub fn without_numbers(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            out.push(byte);
        } else if out.last() != Some(&b'N') {
            out.push(b'N');
        }
    }
    out
}

/// One command as an array of bulk strings.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn number(text: &str) -> io::Result<i64> {
    text.parse()
        .map_err(|_| invalid(&format!("no number: {text:?}")))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn check(bytes: &'static [u8], expect: &Value) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(bytes).unwrap();
        });
        let mut wire = Wire::connect(address).unwrap();
        assert_eq!(&wire.read().unwrap(), expect);
        assert!(wire.read().is_err(), "nothing may follow");
        peer.join().unwrap();
    }

    #[test]
    fn every_type_is_read() {
        check(b"+OK\r\n", &Value::Simple("OK".into()));
        check(b"-ERR no\r\n", &Value::Error("ERR no".into()));
        check(b"$-1\r\n", &Value::Nil);
        check(b"*-1\r\n", &Value::Nil);
        check(b"$3\r\na\r\n\r\n", &Value::Bulk(b"a\r\n".to_vec()));
        check(
            b"*2\r\n:1\r\n~1\r\n#t\r\n",
            &Value::Array(vec![Value::Int(1), Value::Set(vec![Value::Bool(true)])]),
        );
        check(
            b"%1\r\n+a\r\n,1.5\r\n",
            &Value::Map(vec![(
                Value::Simple("a".into()),
                Value::Double("1.5".into()),
            )]),
        );
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(
            encode(&["SET", "a", ""]),
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n"
        );
    }
}
