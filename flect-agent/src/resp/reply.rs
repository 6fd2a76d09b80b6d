//! Replies: the first byte of one, and the line that begins each of its values.
//!
//! Invariant: understands every type of RESP2 and RESP3 that Valkey sends; streamed aggregates
//! (`*?`), which it never sends, are refused.

use super::number;

/// Whether a value answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers the oldest request that has none. Attributes (`|`) are part of the reply after them.
    Reply,
    /// RESP3 only: a message that no request asked for.
    Push,
}

/// Tells by its first byte what a value is.
#[must_use]
pub fn kind(first: u8) -> Kind {
    if first == b'>' {
        Kind::Push
    } else {
        Kind::Reply
    }
}

/// The line that begins a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// `$` or `=`, and `!` which carries an error: so many bytes and CR LF follow.
    Bulk { kind: u8, bytes: usize },
    /// `*`, `~`, `%`, `>` or `|`: so many values follow (two for each pair of a map or attribute).
    Aggregate { kind: u8, values: u64 },
    /// `$-1` or `*-1`.
    Null,
    /// `+`, `-`, `:`, `_`, `,`, `#` or `(`: the value is the rest of the line.
    Line { kind: u8 },
}

/// The longest line that holds a length: a type byte, 20 digits, CR LF.
const LENGTH_LINE_BYTES_MAX: usize = 23;

/// The header at the beginning of `input` and its length; the length of a [`Header::Line`] is that of
/// its type byte. `Ok(None)` when more bytes are needed.
///
/// # Errors
/// When the bytes are not RESP.
#[inline]
pub(crate) fn header(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(&kind) = input.first() else {
        return Ok(None);
    };
    match kind {
        b'$' | b'*' | b'%' | b'~' | b'=' | b'!' | b'>' | b'|' => {}
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
            return Ok(Some((Header::Line { kind }, 1)));
        }
        _ => return Err(Malformed("a reply begins with a byte that is no type")),
    }
    let Some((length, bytes)) = length_line(input)? else {
        return Ok(None);
    };
    let header = match (kind, length) {
        (b'$' | b'*', -1) => Header::Null,
        (b'$' | b'=' | b'!', _) => Header::Bulk {
            kind,
            bytes: usize::try_from(length).map_err(|_| Malformed("a negative length"))?,
        },
        _ => {
            let values = u64::try_from(length).map_err(|_| Malformed("a negative length"))?;
            let values = if matches!(kind, b'%' | b'|') {
                values.checked_mul(2)
            } else {
                Some(values)
            };
            Header::Aggregate {
                kind,
                values: values.ok_or(Malformed("a length beyond reason"))?,
            }
        }
    };
    Ok(Some((header, bytes)))
}

/// Where the line that begins `bytes` ends, one past its CR LF; `None` when that is not there yet. A line feed
/// alone, which modules can send, is part of the line, as clients read it: whoever took it for the end would
/// take the rest for another reply.
#[inline]
pub(crate) fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes)
        .find(|at| bytes[..*at].ends_with(b"\r"))
        .map(|at| at + 1)
}

/// The bytes are not RESP, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

#[inline]
fn length_line(input: &[u8]) -> Result<Option<(i64, usize)>, Malformed> {
    // One digit is the length of most values, two of nearly all others.
    match input {
        [_, digit @ b'0'..=b'9', b'\r', b'\n', ..] => Ok(Some((i64::from(digit - b'0'), 4))),
        [_, tens @ b'1'..=b'9', digit @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Ok(Some((i64::from((tens - b'0') * 10 + (digit - b'0')), 5)))
        }
        _ => any_length_line(input),
    }
}

fn any_length_line(input: &[u8]) -> Result<Option<(i64, usize)>, Malformed> {
    let window = &input[..input.len().min(LENGTH_LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\r', window) else {
        return if window.len() == LENGTH_LINE_BYTES_MAX {
            Err(Malformed("a length without an end"))
        } else {
            Ok(None)
        };
    };
    match input.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(Malformed("a carriage return without a line feed")),
    }
    let length = number::parse(&input[1..end]).ok_or(Malformed("a length that is no number"))?;
    Ok(Some((length, end + 2)))
}
