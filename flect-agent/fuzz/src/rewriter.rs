//! The request rewriters.
//!
//! Holds, for each request that would be forwarded: what leaves is exactly one request; a reader that knows
//! nothing of the classifier finds the prefix in front of every name in it; each argument is the client's,
//! with at most the prefix in front; streamed in any pieces it is the same bytes; and no more comes out than
//! went in plus a prefix for each argument.

use flect_agent::commands::{self, Command, Lookup, Names, Policy};
use flect_agent::resp::encode;
use flect_agent::resp::request::{Request, RequestScanner, Scanned};
use flect_agent::rewrite::{self, StreamRewriter};
use flect_agent::store::Namespace;

use crate::{input, model, naive, requests};

/// The longest argument that is looked at as a word; behind a longer one a command's syntax is unknown.
const WORD_BYTES_MAX: usize = 4096;

/// The first byte chooses the database, the second how it is cut; the rest are a client's requests.
///
/// # Panics
/// When something does not hold.
pub fn run(mut data: &[u8]) {
    let namespace = input::namespace(input::byte(&mut data));
    let step = input::byte(&mut data);
    for bytes in requests::scan_all(data, &[data.len()]).requests {
        check(&bytes, &namespace, step);
    }
}

/// The first two bytes as above, then the command's number in the table, then its arguments in pieces.
///
/// # Panics
/// When something does not hold.
pub fn run_words(mut data: &[u8]) {
    let namespace = input::namespace(input::byte(&mut data));
    let step = input::byte(&mut data);
    let number = u16::from_be_bytes([input::byte(&mut data), input::byte(&mut data)]);
    let all = commands::all();
    let command = &all[usize::from(number) % all.len()];
    let args: Vec<&[u8]> = command
        .name
        .split('|')
        .map(str::as_bytes)
        .chain(input::pieces(data).take(ARGS_MAX))
        .collect();
    let mut bytes = Vec::new();
    encode::request(&args, &mut bytes);
    check(&bytes, &namespace, step);
}

/// More arguments show nothing that so many do not.
const ARGS_MAX: usize = 64;

fn check(bytes: &[u8], namespace: &Namespace, step: u8) {
    let mut scanner = RequestScanner::default();
    let scanned = scanner.scan(bytes);
    assert_eq!(
        scanned,
        Ok(Scanned::Request {
            consumed: bytes.len()
        })
    );
    let request = scanner.request(bytes);
    let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
        return;
    };
    if commands::policy(command, &request) != Policy::Rewrite {
        return;
    }
    let mut out = b"before".to_vec();
    let _ = rewrite::rewrite(command, &request, namespace, &mut out);
    let out = out.strip_prefix(b"before").expect("only appended");
    no_name_leaves_bare(command, &request, out, namespace);
    for key in rewrite::request::keys(command, &request) {
        assert!(request.args().any(|arg| arg == key));
    }
    if commands::streamable(command) {
        let streamed = stream(command, bytes, request.argc(), namespace, step);
        assert_eq!(streamed, out, "streamed otherwise than whole");
    }
}

fn no_name_leaves_bare(command: &Command, request: &Request<'_>, out: &[u8], names: &Namespace) {
    let args = naive::request(out).expect("exactly one request");
    let tracking = command.names == Names::Tracking;
    // CLIENT TRACKING BCAST gets the store's own PREFIX.
    let added = args.len() - request.argc();
    assert!(added == 0 || (tracking && added == 2));
    let prefix_max = names.keys().len() + 2;
    assert!(out.len() <= request.bytes().len() + args.len() * (prefix_max + 20) + 64);
    for (new, old) in args.iter().zip(request.args()) {
        let stripped = new
            .strip_prefix(names.keys())
            .or(new.strip_prefix(names.channels()));
        assert!(
            new == old || stripped == Some(old),
            "{old:?} became {new:?}"
        );
    }
    // The model knows the commands of the table, whose key specs all begin at a place.
    let found = model::names(command, &args);
    for at in found.keys {
        assert!(
            args[at].starts_with(names.keys()),
            "{}: key {at} of {args:?}",
            command.name
        );
    }
    for at in found.channels {
        assert!(
            args[at].starts_with(names.channels()),
            "{}: channel {at} of {args:?}",
            command.name
        );
    }
    // What the server understands of the client's own request it must understand of this one.
    let own: Vec<Vec<u8>> = request.args().map(<[u8]>::to_vec).collect();
    if !tracking && own.iter().all(|arg| arg.len() <= WORD_BYTES_MAX) {
        assert_eq!(model::names(command, &own), model::names(command, &args));
    }
}

fn stream(
    command: &'static Command,
    bytes: &[u8],
    argc: usize,
    namespace: &Namespace,
    step: u8,
) -> Vec<u8> {
    let mut rewriter = StreamRewriter::begin(command, argc);
    let mut out = Vec::new();
    let mut used = 0;
    let mut done = false;
    for end in input::cuts(step, bytes.len()) {
        let advance = rewriter
            .advance(&bytes[used..end], namespace, &mut out)
            .expect("what was scanned is a request");
        used += advance.consumed;
        done = advance.done;
    }
    assert!(done && used == bytes.len(), "{used} of {}", bytes.len());
    out
}
