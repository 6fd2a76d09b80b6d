//! Rewriting replies: the store's prefix is taken off every name.
//!
//! Invariant: for any cut of the bytes into calls the output is the same; a name without the store's
//! prefix is never passed on; nothing recurses, and memory does not grow with a reply (but for the
//! errors of RESP3 that declare their length, which are bounded).

mod cursor;
mod error;
mod names;
mod plan;
mod pubsub;
mod roles;
mod values;

pub use error::ReplyError;
pub use names::store_prefix;
pub use plan::{ReplyPlan, ScriptNames};
pub use pubsub::{Ack, AckKind, INVALIDATION_CHANNEL, tells_of_agent};

use cursor::Cursor;
use names::Stripped;
use pubsub::Word;
use roles::{Frame, Frames, Name, Role};

use super::error_text;
pub use super::stream::Advance;
use crate::resp::encode;
use crate::resp::reply::{Header, header, line_end};
use crate::store::Namespace;

/// Error texts are sentences; one that declares its length must be held whole, for it to change.
const BULK_ERROR_BYTES_MAX: usize = 64 * 1024;

/// Rewrites one reply after the other.
#[derive(Debug, Default)]
pub struct ReplyRewriter {
    state: State,
    frames: Frames,
    /// The reply's own role, outside of all frames.
    role: Role,
    /// The plans of EXEC's elements.
    plans: Vec<ReplyPlan>,
    /// The scripts that errors may name.
    scripts: Vec<ScriptNames>,
    /// The text of a bulk error so far.
    error: Vec<u8>,
    ack: Option<Ack>,
    /// The app's id of the session that invalidations go to.
    redirection: u64,
    /// The reply told that it is gone.
    broken: bool,
    /// Nobody will see the output: names need not be found.
    blind: bool,
    /// An error's text has come.
    met_error: bool,
    /// Nulls so far.
    nulls: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No reply is under way.
    #[default]
    Idle,
    /// At the first byte of a value.
    Value,
    /// In a payload that is copied, with the CR LF after it.
    Payload { left: usize },
    /// In a line that is copied.
    Line,
    /// In the text of an error.
    Error,
    /// In the text of an error that declares its length, with the CR LF after it.
    BulkError { bytes: usize },
}

impl ReplyRewriter {
    /// Begins the next reply.
    pub fn start(&mut self, plan: ReplyPlan) {
        self.frames.clear();
        self.error.clear();
        self.ack = None;
        self.broken = false;
        self.blind = false;
        self.met_error = false;
        self.nulls = 0;
        self.role = Role::of(&plan);
        self.scripts = plan.scripts();
        match plan {
            ReplyPlan::Exec(plans) => self.plans = plans,
            ReplyPlan::Replace(_) => self.plans = vec![plan],
            _ => {}
        }
        self.state = State::Value;
    }

    /// What the app calls the session that invalidations of this connection go to.
    pub fn set_redirection(&mut self, id: u64) {
        self.redirection = id;
    }

    /// Whether the reply just done told that this session is gone.
    #[must_use]
    pub fn tells_broken_redirection(&self) -> bool {
        self.broken
    }

    /// Whoever asked is gone: the rest of the reply is read only to find its end.
    pub fn forget_names(&mut self) {
        self.blind = true;
    }

    /// Whether an error stands in what has come of the reply: the server's own words.
    #[must_use]
    pub fn met_error(&self) -> bool {
        self.met_error
    }

    /// How many nulls have come in the reply.
    #[must_use]
    pub fn nulls(&self) -> u32 {
        self.nulls
    }

    /// Whether a reply was started and has not ended.
    #[must_use]
    pub fn in_progress(&self) -> bool {
        self.state != State::Idle
    }

    /// What the reply just done acknowledges, when its plan was [`ReplyPlan::Pubsub`] and it is an
    /// acknowledgement of a subscription or of its end.
    #[must_use]
    pub fn pubsub_summary(&self) -> Option<Ack> {
        self.ack
    }

    /// Copies the reply from `input` to `out`, with names as the client knows them. An incomplete
    /// header, or the beginning of a name that is not decided yet, stays unconsumed.
    ///
    /// # Errors
    /// See [`ReplyError`]. What `out` holds by then must not be sent.
    pub fn advance(
        &mut self,
        input: &[u8],
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<Advance, ReplyError> {
        let mut cursor = Cursor {
            input,
            at: 0,
            copied: 0,
        };
        while self.state != State::Idle && self.step(&mut cursor, namespace, out)? {}
        cursor.flush(out);
        Ok(Advance {
            consumed: cursor.at,
            done: self.state == State::Idle,
        })
    }

    /// Does one thing; false when more bytes are needed.
    fn step(
        &mut self,
        cursor: &mut Cursor<'_>,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        let rest = &cursor.input[cursor.at..];
        match self.state {
            State::Idle => Ok(false),
            State::Value => self.value(cursor, namespace, out),
            State::Payload { left } => {
                let used = left.min(rest.len());
                cursor.at += used;
                if used == left {
                    self.end_value();
                } else {
                    self.state = State::Payload { left: left - used };
                }
                Ok(used == left)
            }
            State::Line => {
                let Some(end) = line_end(rest) else {
                    // A carriage return may be the beginning of the end.
                    cursor.at += rest.len() - usize::from(rest.ends_with(b"\r"));
                    return Ok(false);
                };
                cursor.at += end;
                self.end_value();
                Ok(true)
            }
            State::Error => self.error_line(cursor, namespace, out),
            State::BulkError { bytes } => {
                let used = (bytes + 2 - self.error.len()).min(rest.len());
                self.error.extend_from_slice(&rest[..used]);
                cursor.skip(used, out);
                if self.error.len() < bytes + 2 {
                    return Ok(false);
                }
                let mut text = Vec::with_capacity(bytes);
                error_text::append(
                    &self.error[..bytes],
                    true,
                    namespace,
                    &self.scripts,
                    &mut text,
                );
                encode::header(b'!', text.len(), out);
                out.extend_from_slice(&text);
                out.extend_from_slice(b"\r\n");
                self.error.clear();
                self.end_value();
                Ok(true)
            }
        }
    }

    /// Reads the header of a value and decides how the value goes on.
    fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        let role = self.slot()?;
        if role == Role::Verbatim && self.skim(cursor)? {
            return Ok(true);
        }
        let rest = &cursor.input[cursor.at..];
        let Some((header, bytes)) = header(rest)? else {
            return Ok(false);
        };
        if role == Role::Replaced {
            return self.replace(cursor, header, bytes, out);
        }
        match header {
            Header::Line { kind: b'-' } => {
                cursor.at += bytes;
                self.met_error = true;
                self.state = State::Error;
            }
            Header::Line { kind: b':' } if role == Role::AckCount => {
                return self.ack_count(cursor);
            }
            Header::Line { kind: b':' } if role == Role::Redirection => {
                return self.redirection(cursor, out);
            }
            Header::Line { kind: b':' } if role.is_aggregate() => {
                return Err(ReplyError::UnexpectedShape);
            }
            Header::Line { kind } => {
                cursor.at += bytes;
                self.nulls = self.nulls.saturating_add(u32::from(kind == b'_'));
                self.state = State::Line;
            }
            Header::Null => {
                cursor.at += bytes;
                self.nulls = self.nulls.saturating_add(1);
                self.end_value();
            }
            Header::Bulk {
                kind: b'!',
                bytes: text,
            } => {
                if text > BULK_ERROR_BYTES_MAX {
                    return Err(ReplyError::ErrorTooLong);
                }
                cursor.skip(bytes, out);
                self.met_error = true;
                self.state = State::BulkError { bytes: text };
            }
            Header::Bulk {
                kind,
                bytes: payload,
            } => {
                return self.bulk(cursor, kind, bytes, payload, role, namespace, out);
            }
            Header::Aggregate { kind, values } => {
                cursor.at += bytes;
                self.enter(kind, values, role)?;
            }
        }
        Ok(true)
    }

    /// The way of most bytes: passes over whole values that hold no names, and counts. True when the
    /// slot that was to come has been filled; else what comes next needs a closer look.
    fn skim(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, ReplyError> {
        let open = self.frames.top().filter(|top| top.role == Role::Verbatim);
        let framed = open.is_some();
        let mut left = open.map_or(1, |top| top.left);
        let mut entered = false;
        while left > 0 {
            let rest = &cursor.input[cursor.at..];
            let Some((header, bytes)) = header(rest)? else {
                break;
            };
            let used = match header {
                Header::Bulk { kind: b'!', .. }
                | Header::Line { kind: b'-' }
                | Header::Aggregate { kind: b'|', .. } => break,
                Header::Bulk { bytes: payload, .. } => bytes + payload + 2,
                Header::Line { .. } => match line_end(rest) {
                    Some(end) => end,
                    None => break,
                },
                Header::Null => bytes,
                Header::Aggregate { values, .. } => {
                    left = left
                        .checked_add(values)
                        .ok_or(ReplyError::Malformed("a length beyond reason"))?;
                    entered = true;
                    bytes
                }
            };
            if used > rest.len() {
                break;
            }
            let is_null = matches!(header, Header::Null | Header::Line { kind: b'_' });
            self.nulls = self.nulls.saturating_add(u32::from(is_null));
            cursor.at += used;
            left -= 1;
        }
        match self.frames.top_mut() {
            // One value is left to be counted by its end.
            Some(top) if framed => top.left = left.max(1),
            _ if entered && left > 0 => self.frames.push(Frame {
                left,
                index: 0,
                role: Role::Verbatim,
                attribute: false,
            })?,
            _ => {}
        }
        if left == 0 {
            self.end_value();
        }
        Ok(left == 0)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the leaf that has both the header and the name in its hands"
    )]
    fn bulk(
        &mut self,
        cursor: &mut Cursor<'_>,
        kind: u8,
        header: usize,
        payload: usize,
        role: Role,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        let rest = &cursor.input[cursor.at + header..];
        match role {
            Role::Coordinate => return self.coordinate(cursor, header, payload, out),
            Role::Verbatim | Role::AckCount | Role::Place | Role::PlaceDetail => {
                cursor.at += header;
                self.state = State::Payload { left: payload + 2 };
            }
            Role::MessageChannel if kind == b'$' => {
                let known = &rest[..rest.len().min(payload)];
                if payload != pubsub::INVALIDATION_CHANNEL.len()
                    || !pubsub::INVALIDATION_CHANNEL.starts_with(known)
                {
                    let role = Role::Name(Name::Channel);
                    return self.bulk(cursor, kind, header, payload, role, namespace, out);
                }
                if known.len() < payload {
                    return Ok(false);
                }
                if let Some(frame) = self.frames.top_mut() {
                    frame.role = Role::PubsubFrame(Word::Invalidation);
                }
                cursor.at += header;
                self.state = State::Payload { left: payload + 2 };
            }
            Role::Name(name) if kind == b'$' => {
                let known = &rest[..rest.len().min(payload)];
                let stripped = match names::strip(name, namespace, known, known.len() == payload) {
                    Stripped::Bytes(bytes) => bytes,
                    Stripped::Foreign => return Err(ReplyError::ForeignName),
                    Stripped::Undecided => return Ok(false),
                };
                cursor.skip(header + stripped, out);
                encode::header(b'$', payload - stripped, out);
                self.state = State::Payload {
                    left: payload - stripped + 2,
                };
            }
            Role::PubsubWord if kind == b'$' => {
                if payload > pubsub::WORD_BYTES_MAX {
                    return Err(ReplyError::UnknownPush);
                }
                let Some(word) = rest.get(..payload) else {
                    return Ok(false);
                };
                let word = Word::parse(word).ok_or(ReplyError::UnknownPush)?;
                if let Some(frame) = self.frames.top_mut() {
                    frame.role = Role::PubsubFrame(word);
                }
                if let Word::Ack(kind) = word {
                    self.ack = Some(Ack { kind, count: 0 });
                }
                cursor.at += header;
                self.state = State::Payload { left: payload + 2 };
            }
            _ => return Err(ReplyError::UnexpectedShape),
        }
        Ok(true)
    }

    /// The role of the value that comes next.
    fn slot(&self) -> Result<Role, ReplyError> {
        if self.blind {
            return Ok(Role::Verbatim);
        }
        let Some(frame) = self.frames.top() else {
            return Ok(self.role);
        };
        if frame.role != Role::Exec {
            return Ok(frame.role.element(frame.index));
        }
        usize::try_from(frame.index)
            .ok()
            .and_then(|index| self.plans.get(index))
            // A transaction holds no transactions.
            .filter(|plan| !matches!(plan, ReplyPlan::Exec(_)))
            .map(Role::of)
            .ok_or(ReplyError::UnexpectedShape)
    }

    fn enter(&mut self, kind: u8, values: u64, role: Role) -> Result<(), ReplyError> {
        if kind == b'|' {
            // Attributes stand before the value that takes the slot.
            return self.frames.push(Frame {
                left: values,
                index: 0,
                role: Role::Verbatim,
                attribute: true,
            });
        }
        let role = role.inside(kind).ok_or(ReplyError::UnexpectedShape)?;
        if values == 0 {
            self.end_value();
            return Ok(());
        }
        self.frames.push(Frame {
            left: values,
            index: 0,
            role,
            attribute: false,
        })
    }

    fn end_value(&mut self) {
        self.state = if self.frames.end_value() {
            State::Idle
        } else {
            State::Value
        };
    }
}

#[cfg(test)]
mod tests;
