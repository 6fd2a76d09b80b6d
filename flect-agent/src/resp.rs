//! RESP, the wire protocol of Valkey: finding requests and replies in bytes, and writing small ones.
//!
//! Invariant: nothing here knows commands, stores or sockets. Bytes from the network never panic;
//! "incomplete" is a normal answer; whatever is handed on is well-formed RESP.

pub mod encode;
pub(crate) mod header;
mod inline;
pub mod number;
pub mod reply;
pub mod request;
pub mod value;

pub(crate) use inline::unescaped;

/// The longest line that may stand where a request or an argument begins, and the longest inline
/// request: Valkey's `PROTO_INLINE_MAX_SIZE` (`src/server.h`). A read buffer must hold one byte more
/// than this, or a client could send a line that is never decided.
pub const REQUEST_LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest argument: Valkey's default `proto-max-bulk-len`.
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Which of the two protocols a connection speaks; RESP2 until HELLO says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The protocol of a fresh connection.
    #[default]
    Resp2,
    /// After `HELLO 3`: maps, sets, nulls, booleans, doubles and pushes have types of their own.
    Resp3,
}
