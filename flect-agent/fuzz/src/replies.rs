//! The reply rewriter.
//!
//! Holds: cut anywhere, the same bytes give the same output and the same error; what comes out is RESP;
//! where a plan has a name, it lost this store's prefix or the connection is given up; no error of a line
//! keeps the store's prefix; and apart from a reply that the agent puts in a place, nothing grows.

use flect_agent::rewrite::{ReplyError, ReplyPlan, ReplyRewriter, ScriptNames};
use flect_agent::scripts::Sha;
use flect_agent::store::Namespace;

use crate::input;
use crate::naive::{self, Value};

/// The first byte chooses the plan, the second the database, the third how the rest is cut.
///
/// # Panics
/// When something does not hold.
pub fn run(mut data: &[u8]) {
    let plan = plan(input::byte(&mut data));
    check(&plan, data);
}

/// The first byte says how many plans follow, a byte each, and then as above.
///
/// # Panics
/// When something does not hold.
pub fn run_exec(mut data: &[u8]) {
    let count = input::byte(&mut data) % 8;
    let plans = (0..count).map(|_| plan(input::byte(&mut data))).collect();
    check(&ReplyPlan::Exec(plans), data);
}

/// What the agent puts into EXEC's reply where it carried a command out itself.
const OWN_REPLY: &[u8] = b"*2\r\n$1\r\na\r\n:7\r\n";

fn plan(decides: u8) -> ReplyPlan {
    use ReplyPlan::{
        Channels, Cursor, Exec, FirstName, Name, Names, Pubsub, PubsubNumsub, Replace, Script,
        StreamNames, TrackingInfo, Verbatim,
    };
    match decides % 13 {
        0 => Verbatim,
        1 => Name,
        2 => FirstName,
        3 => Names,
        4 => StreamNames,
        5 => Cursor,
        6 => PubsubNumsub,
        7 => Channels,
        8 => Pubsub,
        9 => TrackingInfo,
        10 => Exec(vec![Name, Verbatim]),
        11 => Script(Box::new(ScriptNames {
            server: Sha::of(b"server"),
            app: Sha::of(b"app"),
        })),
        _ => Replace(OWN_REPLY.into()),
    }
}

/// What a connection makes of bytes: replies in full, how many bytes they took, and what ended it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    replies: Vec<Vec<u8>>,
    used: usize,
    error: Option<ReplyError>,
}

/// As many replies as one input needs to show what a second one does.
const REPLIES_MAX: usize = 64;

fn run_all(plan: &ReplyPlan, bytes: &[u8], cuts: &[usize], namespace: &Namespace) -> Outcome {
    let mut rewriter = ReplyRewriter::default();
    let mut outcome = Outcome {
        replies: Vec::new(),
        used: 0,
        error: None,
    };
    let mut out = Vec::new();
    let mut at = 0;
    for &end in cuts {
        while at < end && outcome.replies.len() < REPLIES_MAX {
            if !rewriter.in_progress() {
                rewriter.start(plan.clone());
            }
            match rewriter.advance(&bytes[at..end], namespace, &mut out) {
                Ok(advance) => {
                    assert!(advance.consumed <= end - at);
                    at += advance.consumed;
                    if !advance.done {
                        break;
                    }
                    outcome.replies.push(std::mem::take(&mut out));
                    outcome.used = at;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    // Nothing is held back but the header of a value and the beginning of a name, or an error's text.
    outcome
}

fn check(plan: &ReplyPlan, mut data: &[u8]) {
    let namespace = input::namespace(input::byte(&mut data));
    let step = input::byte(&mut data);
    let whole = run_all(plan, data, &[data.len()], &namespace);
    let cut = run_all(plan, data, &input::cuts(step, data.len()), &namespace);
    assert_eq!(cut, whole, "cut otherwise than whole");
    let mut at = 0;
    for reply in &whole.replies {
        let (came, used) = match naive::value(&data[at..]) {
            Some(value) => value,
            // Deeper than the naive reader goes, or a length with a sign that it does not take.
            None => return,
        };
        at += used;
        let (gone, used) = naive::value(reply).expect("RESP comes out");
        assert_eq!(used, reply.len(), "more than a value came out");
        if came == Value::Null || replaced(plan, &came, &gone) {
            continue;
        }
        names(plan, &came, &gone, &namespace);
        errors(&gone);
        if !has_replacement(plan) {
            assert!(reply.len() <= used_before(data, at, &came) + ROOM_BYTES);
        }
    }
}

/// Names only get shorter; errors may name the default user, which is shorter than none of the agent's.
const ROOM_BYTES: usize = 64;

fn used_before(data: &[u8], end: usize, came: &Value) -> usize {
    // A user's name of one letter becomes `default`.
    let errors = count_errors(came);
    data[..end].len() + errors * data.len()
}

fn count_errors(value: &Value) -> usize {
    match value {
        Value::Line(b'-', _) | Value::Bulk(b'!', _) => 1,
        Value::Many(_, all) => all.iter().map(count_errors).sum(),
        _ => 0,
    }
}

fn has_replacement(plan: &ReplyPlan) -> bool {
    match plan {
        ReplyPlan::Replace(_) => true,
        ReplyPlan::Exec(plans) => plans.iter().any(has_replacement),
        _ => false,
    }
}

fn replaced(plan: &ReplyPlan, came: &Value, gone: &Value) -> bool {
    if !matches!(plan, ReplyPlan::Replace(_)) {
        return false;
    }
    let own = naive::value(OWN_REPLY)
        .expect("the agent's own reply is RESP")
        .0;
    assert!(*gone == own || matches!(came, Value::Line(b'-', _) | Value::Bulk(b'!', _)));
    true
}

/// No error keeps the store's prefix in front of a name.
fn errors(value: &Value) {
    match value {
        Value::Line(b'-', text) | Value::Bulk(b'!', text) => {
            let shown = String::from_utf8_lossy(text);
            // Where one prefix stood inside the other, the agent's one look leaves what was put together.
            assert!(
                !shown.contains("{s}:") || shown.contains("{s"),
                "an error keeps the prefix: {shown}"
            );
        }
        Value::Many(_, all) => all.iter().for_each(errors),
        _ => {}
    }
}

/// Each name that the plan knows lost the prefix, and nothing else of it changed.
fn names(plan: &ReplyPlan, came: &Value, gone: &Value, namespace: &Namespace) {
    let keys = namespace.keys();
    let (Value::Many(_, before), Value::Many(_, after)) = (came, gone) else {
        if *plan == ReplyPlan::Name {
            name(came, gone, keys);
        }
        return;
    };
    if is_attribute(came) {
        return;
    }
    assert_eq!(before.len(), after.len());
    let mut pairs = before.iter().zip(after);
    match plan {
        ReplyPlan::Names => pairs.for_each(|(came, gone)| name(came, gone, keys)),
        ReplyPlan::Channels => {
            pairs.for_each(|(came, gone)| name(came, gone, namespace.channels()));
        }
        ReplyPlan::PubsubNumsub => pairs
            .step_by(2)
            .for_each(|(came, gone)| name(came, gone, namespace.channels())),
        ReplyPlan::FirstName => {
            if let Some((came, gone)) = pairs.next() {
                name(came, gone, keys);
            }
        }
        ReplyPlan::Cursor => {
            if let Some((came, gone)) = pairs.nth(1) {
                names(&ReplyPlan::Names, came, gone, namespace);
            }
        }
        ReplyPlan::Exec(plans) if plans.len() == before.len() => {
            for ((came, gone), plan) in pairs.zip(plans) {
                if !replaced(plan, came, gone) {
                    names(plan, came, gone, namespace);
                }
            }
        }
        _ => {}
    }
}

fn is_attribute(value: &Value) -> bool {
    match value {
        Value::Many(b'|', _) => true,
        Value::Many(_, all) => all.iter().any(is_attribute),
        _ => false,
    }
}

fn name(came: &Value, gone: &Value, prefix: &[u8]) {
    match (came, gone) {
        (Value::Bulk(b'$', came), Value::Bulk(b'$', gone)) => {
            assert_eq!(
                came.strip_prefix(prefix),
                Some(gone.as_slice()),
                "a name that is not the store's"
            );
        }
        // An error or a null stands in the place of a name; all else is given up.
        (Value::Line(..) | Value::Null | Value::Bulk(b'!', _), _) => {}
        other => panic!("no name: {other:?}"),
    }
}
