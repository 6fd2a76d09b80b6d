//! Rewriting a request that is there in full.
//!
//! Invariant: the output is the request with the store's prefix before every name, and nothing else
//! changed; the old bytes are copied in runs, only the length of a name is written anew.

use super::classify::{ArgClass, Classifier};
use super::reply::ReplyPlan;
use super::words::{WORD_BYTES_MAX, is};
use crate::commands::{Command, Names};
use crate::resp::encode;
use crate::resp::number;
use crate::resp::request::Request;
use crate::store::Namespace;

/// Appends the rewritten request to `out` and says how its reply must be read. EXEC's plan is empty:
/// the plans of the queued commands belong in it.
pub fn rewrite(
    command: &Command,
    request: &Request<'_>,
    namespace: &Namespace,
    out: &mut Vec<u8>,
) -> ReplyPlan {
    if command.names == Names::Tracking && broadcasts_everything(request) {
        return track_everything(command, request, namespace, out);
    }
    let bytes = request.bytes();
    out.reserve(bytes.len() + ROOM_FOR_NAMES);
    let mut classifier = Classifier::new(command, request.argc());
    let mut copied = 0;
    for i in 0..request.argc() {
        let arg = request.arg(i);
        let word = (arg.len() <= WORD_BYTES_MAX).then_some(arg);
        let prefix = match classifier.class(i, word) {
            ArgClass::Verbatim => None,
            ArgClass::Key => Some(namespace.keys()),
            ArgClass::Channel => Some(namespace.channels()),
        };
        if let Some(prefix) = prefix {
            let start = request.range(i).start as usize;
            // `$`, the digits of the length, CR LF.
            let header = start - (number::digits(arg.len() as u64) + 3);
            out.extend_from_slice(&bytes[copied..header]);
            encode::header(b'$', arg.len() + prefix.len(), out);
            out.extend_from_slice(prefix);
            copied = start;
        }
        if classifier.settled(i) {
            break;
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    ReplyPlan::of(command.reply)
}

/// Most requests have one or two names, and a prefix with its longer length takes less than this.
const ROOM_FOR_NAMES: usize = 64;

/// CLIENT TRACKING in broadcasting mode without a PREFIX: the server would tell of every store's keys.
fn broadcasts_everything(request: &Request<'_>) -> bool {
    let option = |word: &[u8]| (3..request.argc()).any(|i| is(request.arg(i), word));
    option(b"bcast") && !option(b"prefix")
}

/// The request with the beginning of all the store's keys as its PREFIX, whatever their database:
/// invalidations know no databases.
fn track_everything(
    command: &Command,
    request: &Request<'_>,
    namespace: &Namespace,
    out: &mut Vec<u8>,
) -> ReplyPlan {
    encode::array(request.argc() + 2, out);
    for arg in request.args() {
        encode::bulk(arg, out);
    }
    encode::bulk("PREFIX", out);
    encode::bulk(super::reply::store_prefix(namespace), out);
    ReplyPlan::of(command.reply)
}
