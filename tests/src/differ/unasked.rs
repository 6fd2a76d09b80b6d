//! What clients get without having asked, as far as its order is fixed.
//!
//! | what comes | its order |
//! | --- | --- |
//! | messages | fixed, but that of one message to several patterns is that of a hash table |
//! | keyspace events | the same; to messages, none: a store's come over another connection |
//! | invalidations | none: with BCAST those of one turn of the server's loop come as one, and a store's requests may come to the server in more turns |

use super::client::Said;
use super::compare::Compare;
use super::frame::Frame;

/// What a frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Event,
    Invalidation,
}

fn kind(frame: &Frame) -> Option<Kind> {
    let items = frame.items();
    let channel = match items.first()?.text() {
        b"invalidate" => return Some(Kind::Invalidation),
        b"message" | b"smessage" => items.get(1)?,
        b"pmessage" => items.get(2)?,
        _ => return None,
    };
    Some(if channel.text().starts_with(b"__key") {
        Kind::Event
    } else {
        Kind::Message
    })
}

/// Puts what others have got into one order.
#[must_use]
pub fn ordered(frames: Vec<Frame>) -> Vec<Frame> {
    let mut out = Vec::new();
    let mut invalid = Vec::new();
    let (mut messages, mut events) = (Vec::new(), Vec::new());
    for frame in frames {
        match kind(&frame) {
            Some(Kind::Message) => messages.push(frame),
            Some(Kind::Event) => events.push(frame),
            Some(Kind::Invalidation) => invalid.push(frame),
            None => {
                settle(&mut out, &mut messages, &mut events);
                out.push(frame);
            }
        }
    }
    settle(&mut out, &mut messages, &mut events);
    out.extend(merged(&invalid));
    out
}

/// The same of what a client got itself, among its replies: invalidations come last.
#[must_use]
pub fn ordered_among(own: Vec<(Compare, Said)>) -> Vec<(Compare, Said)> {
    let mut out = Vec::new();
    let mut run = Vec::new();
    let mut invalid = Vec::new();
    let unasked = |frames: Vec<Frame>| {
        let frames = ordered(frames).into_iter();
        frames.map(|frame| (Compare::Bytes, Said::Frame(frame)))
    };
    for (rule, said) in own {
        match said {
            Said::Frame(frame) if kind(&frame) == Some(Kind::Invalidation) => invalid.push(frame),
            Said::Frame(frame) if kind(&frame).is_some() => run.push(frame),
            said => {
                out.extend(unasked(std::mem::take(&mut run)));
                out.push((rule, said));
            }
        }
    }
    out.extend(unasked(run));
    out.extend(unasked(invalid));
    out
}

fn settle(out: &mut Vec<Frame>, messages: &mut Vec<Frame>, events: &mut Vec<Frame>) {
    for frames in [messages, events] {
        let told = |frame: &Frame| {
            let items = frame.items();
            let is_pmessage = items.first().is_some_and(|word| word.text() == b"pmessage");
            is_pmessage.then(|| items[2..].to_vec())
        };
        for run in frames.chunk_by_mut(|a, b| told(a).is_some() && told(a) == told(b)) {
            run.sort();
        }
        out.append(frames);
    }
}

/// One invalidation of all keys that several tell of.
fn merged(invalid: &[Frame]) -> Option<Frame> {
    let mut names: Vec<Frame> = Vec::new();
    for frame in invalid {
        match frame.items().get(1) {
            Some(Frame::Many(_, keys)) => names.extend(keys.iter().cloned()),
            Some(all) => names.push(all.clone()),
            None => {}
        }
    }
    names.sort();
    names.dedup();
    let word = Frame::Blob(b'$', b"invalidate".to_vec());
    let names = Frame::Many(b'*', names);
    (!invalid.is_empty()).then(|| Frame::Many(b'>', vec![word, names]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(words: &[&str]) -> Frame {
        let words = words.iter().map(|word| Frame::Blob(b'$', (*word).into()));
        Frame::Many(b'>', words.collect())
    }

    fn invalid(keys: &[&str]) -> Frame {
        let keys = keys.iter().map(|key| Frame::Blob(b'$', (*key).into()));
        let word = Frame::Blob(b'$', b"invalidate".to_vec());
        Frame::Many(b'>', vec![word, Frame::Many(b'*', keys.collect())])
    }

    #[test]
    fn messages_to_patterns_have_no_order() {
        let message = |pattern: &str, text: &str| push(&["pmessage", pattern, "c", text]);
        let other = Frame::Line(b'+', b"OK".to_vec());
        let told = vec![
            message("b", "1"),
            message("a", "1"),
            message("0", "2"),
            other.clone(),
            message("0", "1"),
        ];
        let expect = [
            message("a", "1"),
            message("b", "1"),
            message("0", "2"),
            other,
            message("0", "1"),
        ];
        assert_eq!(ordered(told), expect);
    }

    #[test]
    fn kinds_have_no_order() {
        let event = |name: &str| push(&["message", "__keyevent@0__:set", name]);
        let message = push(&["message", "c", "x"]);
        let told = vec![
            invalid(&["b"]),
            event("2"),
            message.clone(),
            event("1"),
            invalid(&["a", "b"]),
        ];
        let expect = [message, event("2"), event("1"), invalid(&["a", "b"])];
        assert_eq!(ordered(told), expect);
    }
}
