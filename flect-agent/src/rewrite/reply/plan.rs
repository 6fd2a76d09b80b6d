//! What is known of a reply before it comes.
//!
//! Invariant: plans say where names stand in replies that a server gives; a reply of another shape is
//! an error, not a guess.

use crate::commands::ReplyShape;
use crate::scripts::Sha;

/// What a script is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptNames {
    /// By the server.
    pub server: Sha,
    /// By the app.
    pub app: Sha,
}

/// How a reply must be read: where names stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplyPlan {
    /// Nowhere. Errors are cleaned under every plan.
    #[default]
    Verbatim,
    /// The reply is a key, or null.
    Name,
    /// An array whose first element is a key, or null.
    FirstName,
    /// An array of keys.
    Names,
    /// XREAD: an array of `[key, entries]`, in RESP3 a map; or null.
    StreamNames,
    /// SCAN: `[cursor, [key ...]]`.
    Cursor,
    /// Channels and numbers in turn, in RESP3 a map.
    PubsubNumsub,
    /// An array of channels.
    Channels,
    /// A push, or a subscriber's message in RESP2.
    Pubsub,
    /// CLIENT TRACKINGINFO: `prefixes` holds beginnings of keys.
    TrackingInfo,
    /// GEORADIUS as a script tells it, whose coordinates are strings where RESP3 has numbers.
    Places,
    /// EXEC: one plan for each queued command, or a null, or an error.
    Exec(Vec<ReplyPlan>),
    /// A script's: nowhere, and in an error the script's own name, which the app knows by another.
    Script(Box<ScriptNames>),
    /// A line or a string that holds the place of the agent's own reply, which is given out instead.
    Replace(Box<[u8]>),
}

impl ReplyPlan {
    /// The scripts whose names its errors may hold.
    pub(super) fn scripts(&self) -> Vec<ScriptNames> {
        match self {
            Self::Script(names) => vec![names.as_ref().clone()],
            Self::Exec(plans) => plans.iter().flat_map(Self::scripts).collect(),
            _ => Vec::new(),
        }
    }

    /// The plan of a command's reply; EXEC's is still empty.
    #[must_use]
    pub fn of(shape: ReplyShape) -> Self {
        match shape {
            ReplyShape::Verbatim => Self::Verbatim,
            ReplyShape::Name => Self::Name,
            ReplyShape::FirstName => Self::FirstName,
            ReplyShape::Names => Self::Names,
            ReplyShape::StreamNames => Self::StreamNames,
            ReplyShape::Cursor => Self::Cursor,
            ReplyShape::PubsubNumsub => Self::PubsubNumsub,
            ReplyShape::Channels => Self::Channels,
            ReplyShape::Pubsub => Self::Pubsub,
            ReplyShape::TrackingInfo => Self::TrackingInfo,
            ReplyShape::Exec => Self::Exec(Vec::new()),
        }
    }
}
