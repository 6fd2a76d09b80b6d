//! The server's replies to the agent's own questions, taken apart by redis-protocol.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

/// A reply (RESP2).
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// `-ERR ...`, without the dash.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A simple or bulk string.
    Bytes(Vec<u8>),
    /// An array.
    Array(Vec<Reply>),
    /// A null.
    Null,
}

impl Reply {
    /// Reads one whole reply; `None` when it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (frame, length) = decode(bytes).ok()??;
        (length == bytes.len()).then(|| Self::from(frame))
    }

    /// The two parts of SCAN's reply: cursor and names.
    #[must_use]
    pub fn scan_page(&self) -> Option<(&[u8], &[Reply])> {
        match self {
            Self::Array(parts) => match parts.as_slice() {
                [Self::Bytes(cursor), Self::Array(names)] => Some((cursor, names)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of a string.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl From<OwnedFrame> for Reply {
    fn from(frame: OwnedFrame) -> Self {
        match frame {
            OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => Self::Bytes(bytes),
            OwnedFrame::Error(text) => Self::Error(text),
            OwnedFrame::Integer(number) => Self::Integer(number),
            OwnedFrame::Array(frames) => Self::Array(frames.into_iter().map(Self::from).collect()),
            OwnedFrame::Null => Self::Null,
        }
    }
}
