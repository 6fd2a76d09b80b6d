//! Rewriting a request that is there in full.
//!
//! Invariant: the output is the request with the store's prefix before every name, and nothing else
//! changed; the old bytes are copied in runs, only the length of a name is written anew.

use super::classify::{ArgClass, Classifier};
use super::reply::{ReplyPlan, store_prefix};
use super::words::{WORD_BYTES_MAX, is};
use crate::commands::{Command, Names};
use crate::resp::encode;
use crate::resp::number;
use crate::resp::request::Request;
use crate::store::Namespace;
use crate::weakened::{self, Weakness};

/// Appends the rewritten request to `out` and says how its reply must be read. EXEC's plan is empty:
/// the plans of the queued commands belong in it.
pub fn rewrite(
    command: &Command,
    request: &Request<'_>,
    namespace: &Namespace,
    out: &mut Vec<u8>,
) -> ReplyPlan {
    let bytes = request.bytes();
    out.reserve(bytes.len() + ROOM_FOR_NAMES);
    let mut copied = 0;
    let everything = command.names == Names::Tracking && broadcasts_everything(request);
    if everything {
        // Two arguments more; the old first line is left out.
        encode::array(request.argc() + 2, out);
        copied = header_of(request, 0);
    }
    let spared = match weakened::has(Weakness::LastKey) {
        true => last_name(command, request),
        false => None,
    };
    let mut classifier = Classifier::new(command, request.argc());
    for i in 0..request.argc() {
        let arg = request.arg(i);
        let word = (arg.len() <= WORD_BYTES_MAX).then_some(arg);
        let prefix = match classifier.class(i, word) {
            _ if spared == Some(i) => None,
            ArgClass::Verbatim => None,
            ArgClass::Key => Some(namespace.keys()),
            ArgClass::Channel => Some(namespace.channels()),
        };
        if let Some(prefix) = prefix {
            out.extend_from_slice(&bytes[copied..header_of(request, i)]);
            encode::header(b'$', arg.len() + prefix.len(), out);
            out.extend_from_slice(prefix);
            copied = request.range(i).start as usize;
        }
        if classifier.settled(i) {
            break;
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    if everything {
        encode::bulk("PREFIX", out);
        encode::bulk(store_prefix(namespace), out);
    }
    match command.names {
        // Only a weakened agent gets here with one.
        Names::Never => ReplyPlan::Verbatim,
        _ => ReplyPlan::of(command.reply),
    }
}

/// Where the last name of a request stands.
fn last_name(command: &Command, request: &Request<'_>) -> Option<usize> {
    let mut classifier = Classifier::new(command, request.argc());
    let mut is_name = |i: &usize| {
        let arg = request.arg(*i);
        let word = (arg.len() <= WORD_BYTES_MAX).then_some(arg);
        classifier.class(*i, word) != ArgClass::Verbatim
    };
    (0..request.argc()).filter(&mut is_name).last()
}

/// The keys of a request, as the app wrote them, in their order.
pub fn keys<'a>(command: &Command, request: &'a Request<'a>) -> impl Iterator<Item = &'a [u8]> {
    let mut classifier = Classifier::new(command, request.argc());
    let mut settled = false;
    (0..request.argc())
        .map_while(move |i| {
            if settled {
                return None;
            }
            let arg = request.arg(i);
            let word = (arg.len() <= WORD_BYTES_MAX).then_some(arg);
            let is_key = classifier.class(i, word) == ArgClass::Key;
            settled = classifier.settled(i);
            Some(is_key.then_some(arg))
        })
        .flatten()
}

/// Most requests have one or two names, and a prefix with its longer length takes less than this.
const ROOM_FOR_NAMES: usize = 64;

/// Where the header of argument `i` begins: before it `$`, the digits of the length, CR LF.
#[inline]
fn header_of(request: &Request<'_>, i: usize) -> usize {
    let range = request.range(i);
    range.start as usize - (number::digits(u64::from(range.end - range.start)) + 3)
}

/// CLIENT TRACKING in broadcasting mode without a PREFIX: the server would tell of every key that it
/// has. It gets the beginning of all the store's keys, whatever their database, for invalidations know
/// no databases.
fn broadcasts_everything(request: &Request<'_>) -> bool {
    let mut broadcasts = false;
    let mut at = 3;
    while let Some(word) = request.get(at) {
        if is(word, b"prefix") && at + 1 < request.argc() {
            return false;
        }
        broadcasts |= is(word, b"bcast");
        at += 1;
    }
    broadcasts
}
