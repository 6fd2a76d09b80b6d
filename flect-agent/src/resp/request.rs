//! Requests: finding the arguments of one in a read buffer, resumably and without copying.
//!
//! Invariant: any cut of the same bytes into reads gives the same requests and the same error, and a
//! [`Request`] is always well-formed RESP: what Valkey reads but nobody should repeat (inline lines,
//! wrong bytes where CR LF belongs) is encoded anew into the scanner's own buffer.

use super::REQUEST_LINE_BYTES_MAX;
use super::header;
use super::inline;

/// The payload of one argument, as a range of its request's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgRange {
    /// The first byte of the payload.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
}

impl ArgRange {
    /// Read buffers are far below 4 GiB, see [`RequestScanner::scan`].
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}

/// One whole request: its RESP bytes and where its arguments stand in them.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
    args: &'a [ArgRange],
}

impl<'a> Request<'a> {
    /// The request as well-formed RESP: an array of bulk strings.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of arguments, the command's name included; at least 1.
    #[must_use]
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// Argument `i`; the command's name is argument 0. Past the last it is empty: no request may end a
    /// worker by being short.
    #[must_use]
    pub fn arg(&self, i: usize) -> &'a [u8] {
        self.args.get(i).map_or(b"", |range| {
            &self.bytes[range.start as usize..range.end as usize]
        })
    }

    /// Argument `i`, or `None` past the last.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        (i < self.args.len()).then(|| self.arg(i))
    }

    /// Where argument `i` stands in [`Request::bytes`].
    ///
    /// # Panics
    /// When `i` is not below [`Request::argc`].
    #[must_use]
    pub fn range(&self, i: usize) -> ArgRange {
        self.args[i]
    }

    /// All arguments, the command's name first.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.args
            .iter()
            .map(move |range| &bytes[range.start as usize..range.end as usize])
    }
}

/// What stands at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A request; [`RequestScanner::request`] gives it.
    Request {
        /// The bytes it took.
        consumed: usize,
    },
    /// An empty line, `*0` or `*-1`: Valkey reads on without a reply.
    Empty {
        /// The bytes it took.
        consumed: usize,
    },
    /// More bytes are needed.
    Incomplete,
}

/// The client broke the protocol. The text is Valkey's; after it Valkey closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*` is not followed by a number, or by one above 2^31 - 1.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// Another byte stands where an argument's `$` belongs.
    #[error("ERR Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// `$` is not followed by a number between 0 and 512 MiB.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// More than 64 KiB and no end of the line that `*` began.
    #[error("ERR Protocol error: too big mbulk count string")]
    TooBigMultibulkCount,
    /// More than 64 KiB and no end of the line where an argument's length belongs.
    #[error("ERR Protocol error: too big bulk count string")]
    TooBigBulkCount,
    /// More than 64 KiB and no end of an inline request.
    #[error("ERR Protocol error: too big inline request")]
    TooBigInline,
    /// An inline request leaves a quote open, or text follows a closed one.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The error as a RESP reply.
    #[must_use]
    pub fn reply(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // An unexpected byte is shown as it came, whatever its encoding, as Valkey does.
        if let Self::ExpectedBulk(byte) = *self {
            let shown = if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            };
            out.extend_from_slice(b"-ERR Protocol error: expected '$', got '");
            out.push(shown);
            out.extend_from_slice(b"'\r\n");
        } else {
            super::encode::error(self.to_string(), &mut out);
        }
        out
    }
}

/// Line breaks inside an error become blanks in Valkey.
fn printable(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        other => char::from(other),
    }
}

/// The declared size of a request that is not complete yet, and the arguments that are.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The number of arguments the request declares.
    pub argc: usize,
    /// How many of them are here in full.
    pub args_complete: usize,
    /// The declared length of the argument after those, when its header is here.
    pub next_bytes: Option<usize>,
    /// What is here of that argument.
    pub begun: &'a [u8],
    buf: &'a [u8],
    args: &'a [ArgRange],
}

impl<'a> Head<'a> {
    /// Argument `i`, when it is here in full.
    #[must_use]
    pub fn arg(&self, i: usize) -> Option<&'a [u8]> {
        let range = self.args.get(i)?;
        Some(&self.buf[range.start as usize..range.end as usize])
    }
}

/// Finds one request after the other; reuses its memory, so that scanning does not allocate once the
/// longest request has been seen.
#[derive(Debug, Default)]
pub struct RequestScanner {
    /// What has been understood of the request so far.
    state: State,
    /// The next byte to look at.
    at: usize,
    /// Arguments found so far; ranges of the buffer, or of `encoded` when that is in use.
    args: Vec<ArgRange>,
    /// Whether every line and argument so far ends in CR LF.
    irregular: bool,
    /// The request encoded anew; empty unless it was inline or irregular.
    encoded: Vec<u8>,
    /// Scratch space for the words of an inline request.
    words: Vec<u8>,
}

/// A scanner lives as long as its session: after a request with more arguments than this (4 KiB of
/// ranges) the memory is given back.
const KEPT_ARGS_MAX: usize = 512;

/// The same for requests that were encoded anew, which are rare.
const KEPT_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the first byte of a request.
    #[default]
    Start,
    /// Before the header of an argument.
    Header { argc: usize },
    /// Before the payload of an argument.
    Payload { argc: usize, bytes: usize },
    /// A request is complete; the next scan starts anew.
    Done { consumed: usize },
}

impl RequestScanner {
    /// Looks for one request. `buf` begins at the same byte on every call until a request or an empty
    /// one is found; the next call begins after it. `buf` must stay below 4 GiB.
    ///
    /// # Errors
    /// What Valkey would say; the connection is of no use afterwards.
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        if let State::Done { .. } = self.state {
            self.reset();
        }
        if self.state == State::Start {
            match buf.first() {
                None => return Ok(Scanned::Incomplete),
                Some(b'*') => {}
                Some(_) => return self.scan_inline(buf),
            }
            let Some(line) = header::multibulk(buf)? else {
                return Ok(Scanned::Incomplete);
            };
            let Some(argc) = usize::try_from(line.value).ok().filter(|&argc| argc > 0) else {
                self.reset();
                return Ok(Scanned::Empty {
                    consumed: line.bytes,
                });
            };
            self.at = line.bytes;
            self.irregular = !line.canonical;
            self.state = State::Header { argc };
        }
        self.scan_args(buf)
    }

    /// The request found by the last call of [`RequestScanner::scan`], which was given the same `buf`.
    #[must_use]
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        let bytes = if self.encoded.is_empty() {
            let State::Done { consumed } = self.state else {
                return Request {
                    bytes: &[],
                    args: &[],
                };
            };
            &buf[..consumed]
        } else {
            &self.encoded
        };
        Request {
            bytes,
            args: &self.args,
        }
    }

    /// What is known of a request that is not complete, from the `buf` last scanned. `None` for an
    /// inline request, or before the number of arguments is known.
    #[must_use]
    pub fn head<'a>(&'a self, buf: &'a [u8]) -> Option<Head<'a>> {
        let (argc, next_bytes, begun) = match self.state {
            State::Header { argc } => (argc, None, &buf[..0]),
            State::Payload { argc, bytes } => {
                let begun = buf.get(self.at..).unwrap_or_default();
                (argc, Some(bytes), &begun[..begun.len().min(bytes)])
            }
            State::Start | State::Done { .. } => return None,
        };
        Some(Head {
            argc,
            args_complete: self.args.len(),
            next_bytes,
            begun,
            buf,
            args: &self.args,
        })
    }

    /// Forgets a request that is not complete.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.args.clear();
        self.irregular = false;
        self.encoded.clear();
        if self.args.capacity() > KEPT_ARGS_MAX {
            self.args.shrink_to(KEPT_ARGS_MAX);
        }
        if self.encoded.capacity() > KEPT_BYTES_MAX {
            self.encoded.shrink_to(KEPT_BYTES_MAX);
            self.words.clear();
            self.words.shrink_to(KEPT_BYTES_MAX);
        }
    }

    fn scan_args(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        loop {
            match self.state {
                State::Header { argc } => {
                    let Some(line) = header::bulk(&buf[self.at..])? else {
                        return Ok(Scanned::Incomplete);
                    };
                    self.at += line.bytes;
                    self.irregular |= !line.canonical;
                    self.state = State::Payload {
                        argc,
                        bytes: line.value,
                    };
                }
                State::Payload { argc, bytes } => {
                    let end = self.at + bytes;
                    // Valkey skips two bytes after the payload without looking at them.
                    let Some(after) = buf.get(end..end + 2) else {
                        return Ok(Scanned::Incomplete);
                    };
                    self.irregular |= after != b"\r\n";
                    self.args.push(ArgRange::new(self.at, end));
                    self.at = end + 2;
                    if self.args.len() == argc {
                        return Ok(self.complete(buf));
                    }
                    self.state = State::Header { argc };
                }
                State::Start | State::Done { .. } => return Ok(Scanned::Incomplete),
            }
        }
    }

    fn complete(&mut self, buf: &[u8]) -> Scanned {
        let consumed = self.at;
        self.state = State::Done { consumed };
        if self.irregular {
            inline::encode_multibulk(buf, &mut self.args, &mut self.encoded);
        }
        Scanned::Request { consumed }
    }

    /// `processInlineBuffer`: the line ends at LF, a CR before it is dropped. Valkey looks for LF with
    /// `strchr`, so a NUL hides it.
    fn scan_inline(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        let window = &buf[..buf.len().min(REQUEST_LINE_BYTES_MAX + 1)];
        let newline = match memchr::memchr2(b'\n', 0, window) {
            Some(at) if window[at] == b'\n' => at,
            _ if buf.len() > REQUEST_LINE_BYTES_MAX => return Err(ProtocolError::TooBigInline),
            _ => return Ok(Scanned::Incomplete),
        };
        let line = &buf[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::encode(line, &mut self.words, &mut self.args, &mut self.encoded)?;
        let consumed = newline + 1;
        if self.args.is_empty() {
            self.reset();
            return Ok(Scanned::Empty { consumed });
        }
        self.state = State::Done { consumed };
        Ok(Scanned::Request { consumed })
    }
}

#[cfg(test)]
mod tests;
