//! Messages to subscribers: arrays in RESP2, pushes in RESP3.
//!
//! Invariant: a message of a kind unknown here is refused, for it may hold names anywhere.

use super::names::store_prefix;
use super::roles::{Name, Role};
use crate::store::{HIDDEN, Namespace};

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

/// The channel of invalidations in RESP2, of a server's own making. It has no prefix, and a store's channels
/// all have one, so an app's channel of that name is another.
pub const INVALIDATION_CHANNEL: &[u8] = b"__redis__:invalidate";

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

/// How a message begins that tells of one name: to a session, and to a subscriber in RESP2.
const INVALIDATIONS_OF_ONE: [&[u8]; 2] = [
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$",
    b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$",
];

/// Whether a message tells that a name of the agent's own is no longer what it was; `None`: too few bytes
/// to tell. The server tracks what a session's own commands read, the names too that the agent leaves for
/// them. It tells of these one at a time: beginnings of names, of which it tells several at once, are asked
/// for in databases that apps have.
#[must_use]
pub fn tells_of_agent(message: &[u8], namespace: &Namespace) -> Option<bool> {
    let mut heads = INVALIDATIONS_OF_ONE.iter();
    let Some(head) = heads.find(|head| message.starts_with(head) || head.starts_with(message))
    else {
        return Some(false);
    };
    let rest = message.strip_prefix(*head)?;
    let name = &rest[memchr::memchr(b'\n', rest)? + 1..];
    let own = [store_prefix(namespace), HIDDEN].concat();
    let known = name.len().min(own.len());
    match name[..known] == own[..known] {
        true if known < own.len() => None,
        same => Some(same),
    }
}
