//! Messages to subscribers: arrays in RESP2, pushes in RESP3.
//!
//! Invariant: a message of a kind unknown here is refused, for it may hold names anywhere.

use super::roles::{Name, Role};

/// An acknowledgement of a subscription or of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of what.
    pub kind: AckKind,
    /// The subscriptions that the connection has after it, of this kind and the kinds it is counted
    /// with: channels and patterns together, shard channels apart.
    pub count: i64,
}

/// Which command is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// SUBSCRIBE
    Subscribe,
    /// UNSUBSCRIBE
    Unsubscribe,
    /// PSUBSCRIBE
    Psubscribe,
    /// PUNSUBSCRIBE
    Punsubscribe,
    /// SSUBSCRIBE
    Ssubscribe,
    /// SUNSUBSCRIBE
    Sunsubscribe,
}

/// The first word of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `channel, payload`
    Message,
    /// `pattern, channel, payload`
    Pmessage,
    /// `channel or null, count`
    Ack(AckKind),
    /// `[key ...] or null`
    Invalidate,
    /// A message of the channel that carries invalidations in RESP2: `channel, [key ...] or null`
    Invalidation,
    /// Whose connection is gone that invalidations went to: the server's id of it.
    Broken,
    /// Nothing of it is a name.
    Nameless,
}

/// The channel of a server's own making. It has no prefix, and a store's channels all have one, so an
/// app's channel of that name is another.
pub(super) const INVALIDATION_CHANNEL: &[u8] = b"__redis__:invalidate";

/// The longest kind is `tracking-redir-broken`.
pub(super) const WORD_BYTES_MAX: usize = 32;

impl Word {
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"message" | b"smessage" => Self::Message,
            b"pmessage" => Self::Pmessage,
            b"subscribe" => Self::Ack(AckKind::Subscribe),
            b"unsubscribe" => Self::Ack(AckKind::Unsubscribe),
            b"psubscribe" => Self::Ack(AckKind::Psubscribe),
            b"punsubscribe" => Self::Ack(AckKind::Punsubscribe),
            b"ssubscribe" => Self::Ack(AckKind::Ssubscribe),
            b"sunsubscribe" => Self::Ack(AckKind::Sunsubscribe),
            b"invalidate" => Self::Invalidate,
            b"tracking-redir-broken" => Self::Broken,
            b"pong" => Self::Nameless,
            _ => return None,
        })
    }

    /// The role of the value at `index`.
    pub(super) fn element(self, index: u64) -> Role {
        match (self, index) {
            (Self::Message, 1) => Role::MessageChannel,
            (Self::Pmessage, 1 | 2) | (Self::Ack(_), 1) => Role::Name(Name::Channel),
            (Self::Ack(_), 2) => Role::AckCount,
            (Self::Broken, 1) => Role::Redirection,
            (Self::Invalidate, 1) | (Self::Invalidation, 2) => Role::Names(Name::AnyDatabase),
            _ => Role::Verbatim,
        }
    }
}
