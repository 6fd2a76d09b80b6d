//! The lines that begin a request (`*3`) and each of its arguments (`$5`), judged as Valkey does.
//!
//! Invariant: the verdict depends on the bytes alone, never on how they were cut into reads. Facts
//! from `processMultibulkBuffer` in Valkey 8.0 `src/networking.c`.

use super::request::ProtocolError;
use super::{BULK_BYTES_MAX, REQUEST_LINE_BYTES_MAX, number};

/// A line that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<T> {
    /// What the line says.
    pub value: T,
    /// Its length with the two bytes that end it.
    pub bytes: usize,
    /// Whether the two bytes that end it are CR LF. Valkey looks at the first alone.
    pub canonical: bool,
}

/// Reads `*<count>`; `None` when the line is not complete. A count of zero or less is a request
/// that is no request.
pub(crate) fn multibulk(buf: &[u8]) -> Result<Option<Line<i64>>, ProtocolError> {
    let Some(end) = line_end(buf, ProtocolError::TooBigMultibulkCount)? else {
        return Ok(None);
    };
    match number::parse(&buf[1..end]) {
        Some(count) if count <= i64::from(i32::MAX) => Ok(Some(Line {
            value: count,
            bytes: end + 2,
            canonical: buf[end + 1] == b'\n',
        })),
        _ => Err(ProtocolError::InvalidMultibulkLength),
    }
}

/// Reads `$<length>`; `None` when the line is not complete.
pub(crate) fn bulk(buf: &[u8]) -> Result<Option<Line<usize>>, ProtocolError> {
    if let Some(line) = short_bulk(buf) {
        return Ok(Some(line));
    }
    let Some(end) = line_end(buf, ProtocolError::TooBigBulkCount)? else {
        return Ok(None);
    };
    if buf[0] != b'$' {
        return Err(ProtocolError::ExpectedBulk(buf[0]));
    }
    let length = number::parse(&buf[1..end])
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= BULK_BYTES_MAX)
        .ok_or(ProtocolError::InvalidBulkLength)?;
    Ok(Some(Line {
        value: length,
        bytes: end + 2,
        canonical: buf[end + 1] == b'\n',
    }))
}

/// The common case in one pass: `$`, at most eight digits, CR LF.
#[inline]
fn short_bulk(buf: &[u8]) -> Option<Line<usize>> {
    // One digit or two is the length of nearly all arguments.
    let (value, bytes) = match buf {
        [b'$', digit @ b'0'..=b'9', b'\r', b'\n', ..] => (digit - b'0', 4),
        [
            b'$',
            tens @ b'1'..=b'9',
            digit @ b'0'..=b'9',
            b'\r',
            b'\n',
            ..,
        ] => ((tens - b'0') * 10 + (digit - b'0'), 5),
        _ => return counted_bulk(buf),
    };
    Some(Line {
        value: usize::from(value),
        bytes,
        canonical: true,
    })
}

fn counted_bulk(buf: &[u8]) -> Option<Line<usize>> {
    let (&b'$', rest) = buf.split_first()? else {
        return None;
    };
    let mut length = 0usize;
    for (at, &byte) in rest.iter().enumerate().take(9) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            length = length * 10 + usize::from(digit);
            continue;
        }
        let whole = byte == b'\r' && at > 0 && (rest[0] != b'0' || at == 1);
        // Eight digits stay below the limit on a bulk only with room to spare.
        return (whole && at <= 8 && rest.get(at + 1) == Some(&b'\n')).then_some(Line {
            value: length,
            bytes: at + 3,
            canonical: true,
        });
    }
    None
}

const _: () = assert!(99_999_999 <= BULK_BYTES_MAX);

/// Where the line's CR stands, once the byte after it is there too. Valkey gives up when more than
/// 64 KiB hold none. (8.0 looks for it with `strchr`, so that a NUL hides it and the client waits for
/// ever; 8.1 and later do as here.)
fn line_end(buf: &[u8], too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
    let window = &buf[..buf.len().min(REQUEST_LINE_BYTES_MAX + 1)];
    match memchr::memchr(b'\r', window) {
        Some(at) => Ok((at + 2 <= buf.len()).then_some(at)),
        None if buf.len() > REQUEST_LINE_BYTES_MAX => Err(too_big),
        None => Ok(None),
    }
}
