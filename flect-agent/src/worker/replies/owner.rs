//! Whose a frame is, by its first bytes.
//!
//! Invariant: what a session is told unasked is a message or an invalidation of its store's; what the agent's
//! own names are the cause of is told to nobody.

use crate::resp::Protocol;
use crate::rewrite::reply::{ReplyPlan, tells_of_agent};
use crate::worker::Arena;
use crate::worker::session::Session;
use crate::worker::upstream::{Role, Upstream};

/// To whom the next frame belongs.
pub(super) enum Owner {
    /// The front of the queue.
    Front,
    /// A message or invalidation for the session whose connection this is.
    Unasked,
    /// An invalidation that its session is not told.
    Unheard,
    /// Too few bytes to tell.
    Unknown,
}

/// RESP3 marks what was not asked for, confirmations of SUBSCRIBE included; in RESP2 a subscriber's
/// connection carries nothing but confirmations, messages, PONG and errors.
pub(super) fn owner(upstream: &Upstream, sessions: &Arena<Session>, bytes: &[u8]) -> Owner {
    let may_be_message = match upstream.protocol {
        Protocol::Resp3 => bytes[0] == b'>',
        Protocol::Resp2 => {
            bytes[0] == b'*'
                && matches!(upstream.role, Role::Own(session)
                    if sessions.get(session).is_some_and(|s| s.subscribed.any()))
        }
    };
    if !may_be_message {
        return Owner::Front;
    }
    match first_word(bytes) {
        None => Owner::Unknown,
        Some(b"message" | b"invalidate") => invalidation(upstream, sessions, bytes),
        Some(b"pmessage" | b"smessage" | b"tracking-redir-broken") => Owner::Unasked,
        Some(_) if upstream.protocol == Protocol::Resp2 => Owner::Front,
        // A confirmation: owed when it was asked for. The server also sends `sunsubscribe` by
        // itself when a slot moves away.
        Some(_) => match upstream.owed.front() {
            Some(front) if front.plan == ReplyPlan::Pubsub => Owner::Front,
            _ => Owner::Unasked,
        },
    }
}

/// Whether a message that may be an invalidation is for the session.
fn invalidation(upstream: &Upstream, sessions: &Arena<Session>, bytes: &[u8]) -> Owner {
    let session = match upstream.role {
        Role::Own(session) => sessions.get(session),
        _ => None,
    };
    if first_word(bytes) == Some(b"invalidate") && session.is_some_and(Session::waits_for_flush) {
        return Owner::Unheard;
    }
    match session.map(|session| tells_of_agent(bytes, &session.namespace)) {
        Some(None) => Owner::Unknown,
        Some(Some(true)) => Owner::Unheard,
        Some(Some(false)) | None => Owner::Unasked,
    }
}

/// The first element of an array or push of strings, such as `message`.
fn first_word(bytes: &[u8]) -> Option<&[u8]> {
    let line = |bytes: &'_ [u8]| bytes.iter().position(|b| *b == b'\n');
    let head = line(bytes)? + 1;
    let length_end = line(&bytes[head..])? + head;
    let length: usize = std::str::from_utf8(bytes.get(head + 1..length_end - 1)?)
        .ok()?
        .parse()
        .ok()?;
    let start = length_end + 1;
    bytes.get(start..start.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::first_word;

    #[test]
    fn the_first_word_needs_its_bytes() {
        let frame = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n";
        for length in 0..15 {
            assert_eq!(first_word(&frame[..length]), None, "{length}");
        }
        assert_eq!(first_word(frame), Some(b"message".as_slice()));
        let beyond = format!("*3\r\n${}\r\nmessage\r\n", u64::MAX);
        assert_eq!(first_word(beyond.as_bytes()), None);
    }
}
