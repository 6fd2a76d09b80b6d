//! Why a reply is not passed on.
//!
//! Invariant: every one of these is the upstream's fault, or ours, and ends the upstream connection.

use crate::resp::reply::Malformed;

/// The upstream sent what must not be passed on; nothing more of its connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A name without the store's prefix.
    #[error("a reply names something outside of the store")]
    ForeignName,
    /// Not RESP.
    #[error("a reply is not RESP: {0}")]
    Malformed(&'static str),
    /// RESP, but not the reply that the command has.
    #[error("a reply has another shape than its command's")]
    UnexpectedShape,
    /// A push of a kind that may hold anything.
    #[error("a push of an unknown kind")]
    UnknownPush,
    /// Aggregates in aggregates beyond what any command replies.
    #[error("a reply is nested too deeply")]
    TooDeep,
    /// An error that declares its length, beyond 64 KiB.
    #[error("an error reply is too long")]
    ErrorTooLong,
}

impl From<Malformed> for ReplyError {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Malformed(why)
    }
}
