//! What a server sent, frame by frame, with nothing lost: the bytes of a frame can be made again.
//!
//! Unlike [`crate::wire::Value`] it takes lines that are no UTF-8, which Valkey sends when it
//! repeats a client's bytes in an error, and keeps the two kinds of null apart.

use std::fmt;

/// One frame of RESP2 or RESP3, by the byte that it begins with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// `+ - : , # ( _`
    Line(u8, Vec<u8>),
    /// `$ = !`
    Blob(u8, Vec<u8>),
    /// `$-1`, `*-1`
    Null(u8),
    /// `* ~ >`, and `% |` with keys and values in turn.
    Many(u8, Vec<Frame>),
}

/// Bytes that are no RESP.
#[derive(Debug, PartialEq, Eq)]
pub struct NoFrame;

impl Frame {
    /// The first frame in `bytes` and its length; nothing while it is incomplete.
    ///
    /// # Errors
    /// When no frame can come of it.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, NoFrame> {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let (&kind, text) = bytes[..end].split_first().ok_or(NoFrame)?;
        let at = end + 2;
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {
                Ok(Some((Self::Line(kind, text.to_vec()), at)))
            }
            b'$' | b'=' | b'!' => {
                let Some(length) = length(text)? else {
                    return Ok(Some((Self::Null(kind), at)));
                };
                match bytes.get(at..at + length + 2) {
                    None => Ok(None),
                    Some(blob) if blob.ends_with(b"\r\n") => {
                        let blob = blob[..length].to_vec();
                        Ok(Some((Self::Blob(kind, blob), at + length + 2)))
                    }
                    Some(_) => Err(NoFrame),
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some(count) = length(text)? else {
                    return Ok(Some((Self::Null(kind), at)));
                };
                let pairs = matches!(kind, b'%' | b'|');
                let mut at = at;
                let mut items = Vec::new();
                for _ in 0..count * (1 + usize::from(pairs)) {
                    let Some((item, length)) = Self::parse(&bytes[at..])? else {
                        return Ok(None);
                    };
                    items.push(item);
                    at += length;
                }
                Ok(Some((Self::Many(kind, items), at)))
            }
            _ => Err(NoFrame),
        }
    }

    /// The bytes as they were sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Line(kind, text) => {
                out.push(*kind);
                out.extend_from_slice(text);
            }
            Self::Blob(kind, bytes) => {
                out.push(*kind);
                out.extend_from_slice(format!("{}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Null(kind) => {
                out.push(*kind);
                out.extend_from_slice(b"-1");
            }
            Self::Many(kind, items) => {
                let each = 1 + usize::from(matches!(kind, b'%' | b'|'));
                out.push(*kind);
                out.extend_from_slice(format!("{}\r\n", items.len() / each).as_bytes());
                for item in items {
                    item.write(out);
                }
                return;
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether it belongs to no request: a push of RESP3.
    #[must_use]
    pub fn is_push(&self) -> bool {
        matches!(self, Self::Many(b'>', _))
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Line(b'-', _) | Self::Blob(b'!', _))
    }

    /// Its items; nothing for what has none.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Many(_, items) => items,
            _ => &[],
        }
    }

    /// The bytes of a line or blob; nothing for others.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        match self {
            Self::Line(_, text) | Self::Blob(_, text) => text,
            _ => &[],
        }
    }

    /// The byte that it begins with.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Line(kind, _) | Self::Blob(kind, _) | Self::Null(kind) | Self::Many(kind, _) => {
                *kind
            }
        }
    }
}

impl fmt::Display for Frame {
    /// As a person reads it, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Frame]| {
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{item}")?;
            }
            Ok(())
        };
        match self {
            Self::Line(kind, text) => {
                write!(f, "{}{}", char::from(*kind), text.escape_ascii())
            }
            Self::Blob(b'$', bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Blob(kind, bytes) => {
                write!(f, "{}\"{}\"", char::from(*kind), bytes.escape_ascii())
            }
            Self::Null(kind) => write!(f, "{}-1", char::from(*kind)),
            Self::Many(b'*', items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Self::Many(kind, items) => {
                write!(f, "{}[", char::from(*kind))?;
                list(f, items)?;
                f.write_str("]")
            }
        }
    }
}

/// The number after `$` or `*`; nothing for -1.
fn length(text: &[u8]) -> Result<Option<usize>, NoFrame> {
    let text = std::str::from_utf8(text).map_err(|_| NoFrame)?;
    match text {
        "-1" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| NoFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_bytes() {
        for bytes in [
            &b"+OK\r\n"[..],
            b"-ERR \xff\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"_\r\n",
            b"$3\r\na\r\n\r\n",
            b"%1\r\n$1\r\na\r\n,1.5\r\n",
            b">2\r\n*0\r\n~1\r\n#t\r\n",
        ] {
            let (frame, length) = Frame::parse(bytes).unwrap().unwrap();
            assert_eq!((frame.bytes().as_slice(), length), (bytes, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(Frame::parse(&bytes[..cut]), Ok(None), "{cut}");
            }
        }
        assert_eq!(Frame::parse(b"?\r\n"), Err(NoFrame));
        assert_eq!(Frame::parse(b"\r\n"), Err(NoFrame));
        assert_eq!(Frame::parse(b"$1\r\nab\r\n"), Err(NoFrame));
    }
}
