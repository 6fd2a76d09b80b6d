//! What each value of a reply is, by where it stands.
//!
//! Invariant: the stack of open aggregates is bounded. Aggregates that hold no names are counted, not
//! stacked, so replies may nest as deeply as they like where nothing has to be found.

use super::pubsub::Word;
use super::{ReplyError, ReplyPlan};

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// No name, and nothing in it is.
    #[default]
    Verbatim,
    /// A name.
    Name(Name),
    /// An aggregate of names.
    Names(Name),
    /// An aggregate whose first value is a key.
    FirstName,
    /// XREAD's reply.
    Streams,
    /// XREAD's reply in RESP3: keys and entries in turn.
    StreamMap,
    /// Channels and numbers in turn.
    Numsub,
    /// A cursor and an array of keys.
    Cursor,
    /// Names of fields and their values in turn; the third value is an array of beginnings of keys.
    TrackingInfo,
    /// Places, each with what is known of it.
    Places,
    /// A place: its name, or that and more.
    Place,
    /// Something about a place: its coordinates, if it is an aggregate.
    PlaceDetail,
    /// A number that came as a string.
    Coordinate,
    /// EXEC's reply.
    Exec,
    /// The agent has a reply of its own for it.
    Replaced,
    /// A message whose kind is not read yet.
    Pubsub,
    /// The kind of a message.
    PubsubWord,
    /// A message of this kind.
    PubsubFrame(Word),
    /// The channel of a message, which may be the server's own.
    MessageChannel,
    /// The server's id of a connection, in whose place the app's id of the session goes.
    Redirection,
    /// The number in an acknowledgement.
    AckCount,
}

/// Which prefix a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// That of the session's database.
    Key,
    /// That of the store's channels.
    Channel,
    /// That of any of the store's databases: invalidations do not tell which.
    AnyDatabase,
    /// The same, or the store's bare prefix: the beginning of keys.
    Beginning,
}

impl Role {
    pub(super) fn of(plan: &ReplyPlan) -> Self {
        match plan {
            ReplyPlan::Verbatim | ReplyPlan::Script(_) => Self::Verbatim,
            ReplyPlan::Name => Self::Name(Name::Key),
            ReplyPlan::FirstName => Self::FirstName,
            ReplyPlan::Names => Self::Names(Name::Key),
            ReplyPlan::StreamNames => Self::Streams,
            ReplyPlan::Cursor => Self::Cursor,
            ReplyPlan::PubsubNumsub => Self::Numsub,
            ReplyPlan::Channels => Self::Names(Name::Channel),
            ReplyPlan::Pubsub => Self::Pubsub,
            ReplyPlan::TrackingInfo => Self::TrackingInfo,
            ReplyPlan::Places => Self::Places,
            ReplyPlan::Exec(_) => Self::Exec,
            ReplyPlan::Replace(_) => Self::Replaced,
        }
    }

    /// Whether a value of this role is an aggregate, if it is no null and nothing that the server says
    /// instead: a number is the reply to another request.
    pub(super) fn is_aggregate(self) -> bool {
        matches!(
            self,
            Self::Names(_)
                | Self::FirstName
                | Self::Streams
                | Self::StreamMap
                | Self::Numsub
                | Self::Cursor
                | Self::TrackingInfo
                | Self::Exec
        )
    }

    /// What an aggregate of this role is once its type is known; `None` when it may not be one.
    pub(super) fn inside(self, kind: u8) -> Option<Self> {
        match self {
            Self::Name(_)
            | Self::MessageChannel
            | Self::Redirection
            | Self::PubsubWord
            | Self::AckCount
            | Self::Coordinate
            | Self::Replaced => None,
            Self::Streams if kind == b'%' => Some(Self::StreamMap),
            role => Some(role),
        }
    }

    /// The role of the value at `index` in an aggregate of this role. EXEC's are in its plans.
    pub(super) fn element(self, index: u64) -> Self {
        match self {
            Self::FirstName if index == 0 => Self::Name(Name::Key),
            Self::Names(name) => Self::Name(name),
            Self::Streams => Self::FirstName,
            Self::StreamMap if index.is_multiple_of(2) => Self::Name(Name::Key),
            Self::Numsub if index.is_multiple_of(2) => Self::Name(Name::Channel),
            Self::Cursor if index == 1 => Self::Names(Name::Key),
            Self::TrackingInfo if index == 5 => Self::Names(Name::Beginning),
            Self::Places => Self::Place,
            Self::Place => Self::PlaceDetail,
            Self::PlaceDetail => Self::Coordinate,
            Self::Pubsub if index == 0 => Self::PubsubWord,
            Self::PubsubFrame(word) => word.element(index),
            _ => Self::Verbatim,
        }
    }
}

/// An aggregate that has not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    /// Values still to come.
    pub(super) left: u64,
    /// The place of the next one.
    pub(super) index: u64,
    pub(super) role: Role,
    /// An attribute takes no slot of the aggregate around it.
    pub(super) attribute: bool,
}

/// EXEC, XREAD, a stream, its entries, an attribute: with room to spare.
const FRAMES_MAX: usize = 8;

/// The open aggregates, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Frames {
    frames: [Frame; FRAMES_MAX],
    depth: usize,
}

impl Frames {
    pub(super) fn clear(&mut self) {
        self.depth = 0;
    }

    pub(super) fn top(&self) -> Option<&Frame> {
        self.frames[..self.depth].last()
    }

    pub(super) fn top_mut(&mut self) -> Option<&mut Frame> {
        self.frames[..self.depth].last_mut()
    }

    /// Opens an aggregate that is not empty.
    pub(super) fn push(&mut self, frame: Frame) -> Result<(), ReplyError> {
        if let Some(top) = self.top_mut()
            && top.role == Role::Verbatim
            && frame.role == Role::Verbatim
        {
            // Its values count as the outer one's own; an attribute leaves the slot to come.
            let slot = u64::from(!frame.attribute);
            top.left = (top.left - slot)
                .checked_add(frame.left)
                .ok_or(ReplyError::Malformed("a length beyond reason"))?;
            return Ok(());
        }
        if frame.left == 0 {
            return Ok(());
        }
        let slot = self.frames.get_mut(self.depth).ok_or(ReplyError::TooDeep)?;
        *slot = frame;
        self.depth += 1;
        Ok(())
    }

    /// Counts a value that ended, and the aggregates that end with it. True when nothing is open.
    pub(super) fn end_value(&mut self) -> bool {
        while let Some(top) = self.top_mut() {
            top.left -= 1;
            top.index += 1;
            if top.left > 0 {
                return false;
            }
            let attribute = top.attribute;
            self.depth -= 1;
            if attribute {
                return false;
            }
        }
        true
    }
}
