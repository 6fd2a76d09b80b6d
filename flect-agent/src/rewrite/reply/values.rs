//! Values that do not leave as they came: the agent's own replies, counts, ids, errors.

use super::cursor::Cursor;
use super::{ReplyError, ReplyPlan, ReplyRewriter};
use crate::resp::encode;
use crate::resp::number;
use crate::resp::reply::{Header, line_end};
use crate::rewrite::error_text;
use crate::store::Namespace;

/// The longest line that holds an integer: a type byte, a sign, 19 digits, CR LF.
const INTEGER_LINE_BYTES_MAX: usize = 23;

/// More digits than a coordinate has: its text is that of a long double with 17 places.
const COORDINATE_BYTES_MAX: usize = 64;

impl ReplyRewriter {
    /// Gives out the agent's own reply instead of the value, which is short and taken whole.
    pub(super) fn replace(
        &mut self,
        cursor: &mut Cursor<'_>,
        header: Header,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        let rest = &cursor.input[cursor.at..];
        let whole = match header {
            Header::Line { .. } => match line_end(rest) {
                Some(end) => end,
                None => return Ok(false),
            },
            Header::Bulk { bytes: payload, .. } => bytes + payload + 2,
            Header::Null | Header::Aggregate { .. } => return Err(ReplyError::UnexpectedShape),
        };
        if rest.len() < whole {
            return Ok(false);
        }
        let index = self.frames.top().map_or(0, |frame| frame.index);
        let own = usize::try_from(index)
            .ok()
            .and_then(|index| self.plans.get(index));
        let Some(ReplyPlan::Replace(own)) = own else {
            return Err(ReplyError::UnexpectedShape);
        };
        cursor.skip(whole, out);
        out.extend_from_slice(own);
        self.end_value();
        Ok(true)
    }

    /// A number that a script has for a string, with the server's own digits.
    pub(super) fn coordinate(
        &mut self,
        cursor: &mut Cursor<'_>,
        header: usize,
        payload: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        if payload > COORDINATE_BYTES_MAX {
            return Err(ReplyError::UnexpectedShape);
        }
        let rest = &cursor.input[cursor.at + header..];
        let Some(digits) = rest.get(..payload + 2) else {
            return Ok(false);
        };
        cursor.skip(header + payload + 2, out);
        out.push(b',');
        out.extend_from_slice(digits);
        self.end_value();
        Ok(true)
    }

    /// The number of subscriptions left, at the end of an acknowledgement.
    pub(super) fn ack_count(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, ReplyError> {
        let rest = &cursor.input[cursor.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > INTEGER_LINE_BYTES_MAX {
                Err(ReplyError::Malformed("an integer without an end"))
            } else {
                Ok(false)
            };
        };
        let count = rest[1..end]
            .strip_suffix(b"\r")
            .and_then(number::parse)
            .ok_or(ReplyError::Malformed("an integer that is no number"))?;
        if let Some(ack) = &mut self.ack {
            ack.count = count;
        }
        cursor.at += end + 1;
        self.end_value();
        Ok(true)
    }

    /// The app's id of a session instead of the server's id of its connection.
    pub(super) fn redirection(
        &mut self,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        let rest = &cursor.input[cursor.at..];
        let Some(end) = line_end(rest) else {
            return Ok(false);
        };
        self.broken = true;
        cursor.skip(end, out);
        encode::integer(i64::try_from(self.redirection).unwrap_or(i64::MAX), out);
        self.end_value();
        Ok(true)
    }

    pub(super) fn error_line(
        &mut self,
        cursor: &mut Cursor<'_>,
        namespace: &Namespace,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReplyError> {
        cursor.flush(out);
        let rest = &cursor.input[cursor.at..];
        // Before 8.1 a script's error may hold a carriage return, which ends no line.
        let (text, whole) = match line_end(rest) {
            Some(end) => (&rest[..end - 2], true),
            None => (rest.strip_suffix(b"\r").unwrap_or(rest), false),
        };
        let done = error_text::append(text, whole, namespace, &self.scripts, out);
        cursor.at += done;
        cursor.copied = cursor.at;
        if whole {
            // The CR LF goes with the next run.
            cursor.at += 2;
            self.end_value();
        }
        Ok(whole)
    }
}
