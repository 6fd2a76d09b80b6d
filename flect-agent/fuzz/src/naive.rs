//! RESP read the slow and simple way, to judge what the product writes.
//!
//! Invariant: shares no code with the product; wants the whole value and nothing behind it.

/// A value of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A line: its type and text.
    Line(u8, Vec<u8>),
    /// A string that declares its length: its type and text.
    Bulk(u8, Vec<u8>),
    /// `$-1` or `*-1`.
    Null,
    /// An aggregate: its type and elements, of maps in turn.
    Many(u8, Vec<Value>),
}

/// Deeper ones are given up: this reader recurses.
const DEPTH_MAX: usize = 64;

/// The value at the beginning of `bytes` and its length; `None` when there is none in full.
#[must_use]
pub fn value(bytes: &[u8]) -> Option<(Value, usize)> {
    nested(bytes, 0)
}

fn nested(bytes: &[u8], depth: usize) -> Option<(Value, usize)> {
    if depth > DEPTH_MAX {
        return None;
    }
    let (&kind, rest) = bytes.split_first()?;
    if b"+-:_,#(".contains(&kind) {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        return Some((Value::Line(kind, rest[..end].to_vec()), 1 + end + 2));
    }
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let length: i64 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let mut at = 1 + end + 2;
    match kind {
        b'$' | b'*' if length == -1 => Some((Value::Null, at)),
        b'$' | b'=' | b'!' => {
            let end = at.checked_add(usize::try_from(length).ok()?)?;
            let text = bytes.get(at..end)?.to_vec();
            bytes.get(end..end + 2)?;
            Some((Value::Bulk(kind, text), end + 2))
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let count = if matches!(kind, b'%' | b'|') {
                length.checked_mul(2)?
            } else {
                length
            };
            let count = usize::try_from(count).ok()?;
            let mut all = Vec::new();
            for _ in 0..count {
                let (value, used) = nested(&bytes[at..], depth + 1)?;
                all.push(value);
                at += used;
            }
            if kind == b'|' {
                // It stands before the value that it is about, and is none by itself (RESP3 specification).
                let (value, used) = nested(&bytes[at..], depth + 1)?;
                all.push(value);
                at += used;
            }
            Some((Value::Many(kind, all), at))
        }
        _ => None,
    }
}

/// The arguments of one request in the only form that may reach the server: `*n`, then `$n` each, numbers
/// without sign or leading zero, CR LF everywhere, nothing behind.
#[must_use]
pub fn request(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (args, used) = first_request(bytes)?;
    (used == bytes.len()).then_some(args)
}

fn first_request(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let count = length(bytes, &mut at, b'*')?;
    let mut args = Vec::new();
    for _ in 0..count {
        let length = length(bytes, &mut at, b'$')?;
        args.push(bytes.get(at..at.checked_add(length)?)?.to_vec());
        at += length;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    Some((args, at))
}

fn length(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?.strip_prefix(&[kind])?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    let number: usize = text.parse().ok()?;
    if number.to_string() != text {
        return None;
    }
    *at += 1 + end + 2;
    Some(number)
}
