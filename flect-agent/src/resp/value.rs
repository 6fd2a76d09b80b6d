//! Whole replies as values, for whoever shows them to people.
//!
//! redis-protocol's decoder is not used here: it keeps maps and sets in hash tables, which loses the
//! server's order and refuses doubles as members.

use super::number;
use super::reply::{Header, header};

/// Aggregates inside aggregates; Valkey's own replies have five levels at most, a script may make
/// more.
const DEPTH_MAX: usize = 128;

/// A reply or a part of one, RESP2 or RESP3. Attributes are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+`
    Simple(Vec<u8>),
    /// `-` and `!`
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_`, `$-1`, `*-1`
    Null,
    /// `,`, as the server spells it
    Double(Vec<u8>),
    /// `#`
    Boolean(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=`, without the three letters of its format
    Verbatim(Vec<u8>),
    /// `*`
    Array(Vec<Value>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `%`, in the server's order
    Map(Vec<(Value, Value)>),
}

/// The bytes are not RESP, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not RESP: {0}")]
pub struct NotResp(&'static str);

/// Finds where values end in bytes that arrive in pieces, and takes the values out.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// What lies before this has been looked at.
    at: usize,
    /// Values of the current reply that have not begun; 0 between replies.
    open: u64,
}

impl Reader {
    /// Takes what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply, if all of it has arrived.
    ///
    /// # Errors
    /// When the bytes are not RESP; nothing more can be read then.
    pub fn take(&mut self) -> Result<Option<Value>, NotResp> {
        if self.open == 0 {
            if self.bytes.is_empty() {
                return Ok(None);
            }
            self.open = 1;
        }
        while self.open > 0 {
            let Some((skip, more)) = step(&self.bytes[self.at..])? else {
                return Ok(None);
            };
            self.at += skip;
            self.open = (self.open - 1)
                .checked_add(more)
                .ok_or(NotResp("a length beyond reason"))?;
        }
        let (value, used) = parse(&self.bytes[..self.at], 0)?;
        debug_assert_eq!(used, self.at);
        self.bytes.drain(..self.at);
        self.at = 0;
        Ok(Some(value))
    }
}

/// One value's own bytes, and how many values belong to it; `None` when more bytes are needed.
fn step(bytes: &[u8]) -> Result<Option<(usize, u64)>, NotResp> {
    let Some((head, length)) = header(bytes).map_err(|error| NotResp(error.0))? else {
        return Ok(None);
    };
    Ok(match head {
        Header::Null => Some((length, 0)),
        Header::Bulk { bytes: body, .. } => {
            let end = length + body + 2;
            (bytes.len() >= end).then_some((end, 0))
        }
        // An attribute is followed by the value that it belongs to.
        Header::Aggregate { kind, values } => Some((length, values + u64::from(kind == b'|'))),
        Header::Line { .. } => line(bytes).map(|(_, end)| (end, 0)),
    })
}

/// The text of a line and where the next value begins.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[1..end], end + 2))
}

/// A value that is known to be whole.
fn parse(bytes: &[u8], depth: usize) -> Result<(Value, usize), NotResp> {
    const CUT: NotResp = NotResp("a reply that ends in the middle");
    if depth > DEPTH_MAX {
        return Err(NotResp("too many levels"));
    }
    let (head, length) = header(bytes)
        .map_err(|error| NotResp(error.0))?
        .ok_or(CUT)?;
    match head {
        Header::Null => Ok((Value::Null, length)),
        Header::Bulk { kind, bytes: body } => {
            let text = bytes.get(length..length + body).ok_or(CUT)?;
            let value = match kind {
                b'!' => Value::Error(text.to_vec()),
                b'=' => Value::Verbatim(text.get(4..).unwrap_or_default().to_vec()),
                _ => Value::Bulk(text.to_vec()),
            };
            Ok((value, length + body + 2))
        }
        Header::Line { kind } => {
            let (text, end) = line(bytes).ok_or(CUT)?;
            let text = text.to_vec();
            let value = match kind {
                b'+' => Value::Simple(text),
                b'-' => Value::Error(text),
                b':' => Value::Integer(number::parse(&text).ok_or(NotResp("a bad integer"))?),
                b'_' => Value::Null,
                b',' => Value::Double(text),
                b'#' => Value::Boolean(text == b"t"),
                _ => Value::BigNumber(text),
            };
            Ok((value, end))
        }
        Header::Aggregate { kind, values } => {
            let mut at = length;
            let mut all = Vec::new();
            for _ in 0..values {
                let (value, used) = parse(bytes.get(at..).ok_or(CUT)?, depth + 1)?;
                at += used;
                all.push(value);
            }
            let value = match kind {
                b'~' => Value::Set(all),
                b'>' => Value::Push(all),
                b'%' => Value::Map(pairs(all)),
                b'|' => {
                    let (value, used) = parse(bytes.get(at..).ok_or(CUT)?, depth + 1)?;
                    at += used;
                    value
                }
                _ => Value::Array(all),
            };
            Ok((value, at))
        }
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut all = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        all.push((key, value));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &[u8] = b"+OK\r\n-ERR x\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n_\r\n,1.5\r\n#t\r\n(99\r\n\
        =7\r\ntxt:abc\r\n*2\r\n:1\r\n*-1\r\n%1\r\n$1\r\nk\r\n,inf\r\n~1\r\n:1\r\n>2\r\n+a\r\n+b\r\n\
        |1\r\n+k\r\n+v\r\n:8\r\n*0\r\n!3\r\nERR\r\n";

    fn all() -> Vec<Value> {
        let text = |text: &str| text.as_bytes().to_vec();
        vec![
            Value::Simple(text("OK")),
            Value::Error(text("ERR x")),
            Value::Integer(-7),
            Value::Bulk(text("a\r\n")),
            Value::Null,
            Value::Null,
            Value::Double(text("1.5")),
            Value::Boolean(true),
            Value::BigNumber(text("99")),
            Value::Verbatim(text("abc")),
            Value::Array(vec![Value::Integer(1), Value::Null]),
            Value::Map(vec![(Value::Bulk(text("k")), Value::Double(text("inf")))]),
            Value::Set(vec![Value::Integer(1)]),
            Value::Push(vec![Value::Simple(text("a")), Value::Simple(text("b"))]),
            Value::Integer(8),
            Value::Array(Vec::new()),
            Value::Error(text("ERR")),
        ]
    }

    proptest! {
        #[test]
        fn replies_are_the_same_however_they_are_cut(piece in 1_usize..40) {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for piece in ALL.chunks(piece) {
                reader.push(piece);
                while let Some(value) = reader.take().unwrap() {
                    found.push(value);
                }
            }
            prop_assert_eq!(found, all());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.take() {}
        }
    }
}
