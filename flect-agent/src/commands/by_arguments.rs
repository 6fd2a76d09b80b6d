//! Commands whose treatment depends on their arguments.
//!
//! Invariant: arguments are read as the server reads them (words end at a NUL, ASCII case ignored);
//! where they make no sense the command is forwarded as usual, and the server says so. A learnt command is
//! not: what its arguments may mean, nobody here knows.

use super::{Begin, Command, Names, Need, Placement, Policy, Scoped};
use crate::resp::request::Request;
use crate::rewrite::words::{is, is_word};

/// What to do with this request: the command's policy, unless its arguments say otherwise.
#[must_use]
pub fn policy(command: &Command, request: &Request<'_>) -> Policy {
    match command.names {
        Names::Sort { .. } if sorts_by_patterns(request) => {
            Policy::Scoped(Scoped::SortWithPatterns)
        }
        // A store's own user may not, see `admin/users.rs`.
        Names::Georadius { .. } if command.policy == Policy::Rewrite => {
            Policy::Scoped(Scoped::SortWithPatterns)
        }
        Names::Keywords if is_ambiguous(command, request) => Policy::Operator(
            "a word that its keys stand behind comes twice, so they cannot be told from values",
        ),
        Names::Copy if names_database(request) => Policy::Scoped(Scoped::CopyAcrossDatabases),
        _ => command.policy,
    }
}

/// Where to send this request: as the command needs, unless its arguments say otherwise. XREAD and
/// XREADGROUP wait only when BLOCK is given.
#[must_use]
pub fn placement(command: &Command, request: &Request<'_>) -> Placement {
    match command.names {
        Names::Xread { group } if blocks(request, group) => Placement::Dedicated(Need::Blocking),
        _ => command.placement,
    }
}

/// Whether a request of this command may be forwarded argument by argument, before all of it is known:
/// not when an argument may have to be added. Where [`policy`] would decide otherwise, the server refuses
/// what it gets.
#[must_use]
pub fn streamable(command: &Command) -> bool {
    let whole = matches!(
        command.names,
        Names::Tracking | Names::Keywords | Names::Georadius { .. }
    );
    command.policy == Policy::Rewrite && !whole
}

/// Options of SORT from argument 2 on, as `sortCommandGeneric` walks them.
fn sorts_by_patterns(request: &Request<'_>) -> bool {
    let mut at = 2;
    while let Some(word) = request.get(at) {
        let more = request.argc() - at - 1;
        if is(word, b"limit") && more >= 2 {
            at += 2;
        } else if is(word, b"store") && more >= 1 {
            at += 1;
        } else if is(word, b"by") && more >= 1 {
            // Without an asterisk BY means not to sort, and needs no right.
            at += 1;
            if request.arg(at).contains(&b'*') {
                return true;
            }
        } else if is(word, b"get") && more >= 1 {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether a keyword of the command's key specs comes more than once: the server takes the first one for
/// the keyword, the command may take it for a value.
fn is_ambiguous(command: &Command, request: &Request<'_>) -> bool {
    command.keys.iter().any(|spec| match spec.begin {
        Begin::Keyword { word, .. } => {
            let same = |at: &usize| is_word(request.arg(*at), word);
            (1..request.argc()).filter(same).count() > 1
        }
        _ => false,
    })
}

/// Options of COPY from argument 3 on.
fn names_database(request: &Request<'_>) -> bool {
    (3..request.argc()).any(|at| is(request.arg(at), b"db"))
}

/// Options of XREAD from argument 1 on, as `xreadCommand` walks them.
fn blocks(request: &Request<'_>, group: bool) -> bool {
    let mut at = 1;
    while let Some(word) = request.get(at) {
        if is(word, b"block") {
            return true;
        }
        at += if is(word, b"streams") {
            return false;
        } else if is(word, b"count") {
            2
        } else if group && is(word, b"group") {
            3
        } else {
            1
        };
    }
    false
}
