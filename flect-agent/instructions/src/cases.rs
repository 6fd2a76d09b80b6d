//! The cases: requests and replies as apps send and get them, through one part each, and the same bytes
//! through what sets the limits.
//!
//! Limits are other people's code: redis-protocol's decoders, in the form that copies nothing, and memchr,
//! which does no more than look at each byte; for the rewriters a plain copy of the bytes, since they cannot
//! do without one.

use std::hint::black_box;

use flect_agent::commands::{self, Lookup};
use flect_agent::integrity::{Guard, Integrity, OwnNames};
use flect_agent::resp::encode;
use flect_agent::resp::request::{RequestScanner, Scanned};
use flect_agent::rewrite::{self, ReplyPlan, ReplyRewriter, StreamRewriter};
use flect_agent::store::{Namespace, Prefix};
use redis_protocol::resp2::decode::decode_range;

/// One way of taking the same bytes.
pub struct Case {
    /// The part of the agent, such as `scan`.
    pub part: &'static str,
    /// What goes through it.
    pub name: String,
    /// Whose code does it.
    pub by: By,
    /// How much goes through it at once; 0 where bytes say nothing.
    pub bytes: usize,
    /// Does it once.
    pub run: Box<dyn FnMut()>,
}

/// Whose code a case is.
#[derive(Clone, Copy)]
pub enum By {
    Flect,
    RedisProtocol,
    Memchr,
    Copy,
}

impl By {
    pub fn word(self) -> &'static str {
        match self {
            Self::Flect => "flect",
            Self::RedisProtocol => "redis-protocol",
            Self::Memchr => "memchr",
            Self::Copy => "copy",
        }
    }
}

/// Room for the largest request and reply of all, so that no case grows a buffer.
const OUT_BYTES: usize = 256 * 1024;

/// What the agent reads at once.
const PIECE_BYTES: usize = 64 * 1024;

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in requests() {
        scanning(&mut cases, name, &bytes);
    }
    for words in [
        &["GET"][..],
        &["get"],
        &["ZRANGEBYSCORE"],
        &["CLIENT", "SETINFO"],
        &["nosuchcommand"],
    ] {
        looking_up(&mut cases, words);
    }
    for (name, bytes) in requests() {
        rewriting(&mut cases, name, &bytes);
    }
    for (name, bytes) in requests() {
        whole_way(&mut cases, name, &bytes);
    }
    streaming(&mut cases);
    for (name, plan, bytes) in replies() {
        replying(&mut cases, name, &plan, &bytes);
    }
    cases
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let value = |bytes: usize| "v".repeat(bytes);
    let keys = (0..100).map(|number| format!("key:{number:012}"));
    let mget: Vec<String> = ["MGET".to_owned()].into_iter().chain(keys).collect();
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let all: [(&str, Vec<String>); 7] = [
        ("GET", strings(&["GET", "key:000000000001"])),
        (
            "SET of 16 B",
            strings(&["SET", "key:000000000001", &value(16)]),
        ),
        (
            "SET of 1 KiB",
            strings(&["SET", "key:000000000001", &value(1024)]),
        ),
        ("MGET of 100", mget),
        (
            "ZADD with options",
            strings(&[
                "ZADD", "scores", "GT", "CH", "17.5", "player:1", "3", "player:2",
            ]),
        ),
        (
            "XADD of 3 fields",
            strings(&[
                "XADD", "events", "MAXLEN", "~", "1000", "*", "kind", "click", "page", "/a",
                "user", "17",
            ]),
        ),
        (
            "EVALSHA of 1 key",
            strings(&["EVALSHA", &"a".repeat(40), "1", "counter:1", "10", "60"]),
        ),
    ];
    all.map(|(name, words)| {
        let mut bytes = Vec::new();
        encode::request(&words, &mut bytes);
        (name, bytes)
    })
    .into()
}

fn replies() -> Vec<(&'static str, ReplyPlan, Vec<u8>)> {
    let bulks = |count: usize, make: &dyn Fn(usize) -> String| {
        let mut bytes = Vec::new();
        encode::array(count, &mut bytes);
        for number in 0..count {
            encode::bulk(make(number), &mut bytes);
        }
        bytes
    };
    let bulk = |text: &str| {
        let mut bytes = Vec::new();
        encode::bulk(text, &mut bytes);
        bytes
    };
    let names = bulks(100, &|number| format!("{PREFIX}:key:{number:012}"));
    let scanned = [b"*2\r\n$1\r\n0\r\n".as_slice(), &names].concat();
    vec![
        ("+OK", ReplyPlan::Verbatim, b"+OK\r\n".to_vec()),
        ("16 B", ReplyPlan::Verbatim, bulk(&"v".repeat(16))),
        ("1 KiB", ReplyPlan::Verbatim, bulk(&"v".repeat(1024))),
        ("60 KiB", ReplyPlan::Verbatim, bulk(&"v".repeat(60 * 1024))),
        (
            "HGETALL of 20 fields",
            ReplyPlan::Verbatim,
            bulks(40, &|number| format!("field:{number:04}")),
        ),
        (
            "LRANGE of 600",
            ReplyPlan::Verbatim,
            bulks(600, &|number| format!("element:{number}")),
        ),
        ("100 names", ReplyPlan::Names, names),
        ("SCAN of 100 names", ReplyPlan::Cursor, scanned),
        (
            "an error",
            ReplyPlan::Verbatim,
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec(),
        ),
    ]
}

const PREFIX: &str = "{k7m2x}";

fn prefix() -> Prefix {
    Prefix::parse(PREFIX).expect("it is one")
}

fn namespace() -> Namespace {
    prefix().namespace(0)
}

fn case(part: &'static str, name: &str, by: By, bytes: usize, run: impl FnMut() + 'static) -> Case {
    Case {
        part,
        name: name.to_owned(),
        by,
        bytes,
        run: Box::new(run),
    }
}

fn scanning(cases: &mut Vec<Case>, name: &str, bytes: &[u8]) {
    let length = bytes.len();
    let mut scanner = RequestScanner::default();
    let input = bytes.to_vec();
    cases.push(case("scan", name, By::Flect, length, move || {
        let scanned = scanner.scan(black_box(&input));
        assert_eq!(scanned, Ok(Scanned::Request { consumed: length }));
        black_box(scanner.request(&input));
    }));
    limits(cases, "scan", name, bytes);
}

/// What reads the same bytes and does nothing with them.
fn limits(cases: &mut Vec<Case>, part: &'static str, name: &str, bytes: &[u8]) {
    let length = bytes.len();
    let input = bytes.to_vec();
    cases.push(case(part, name, By::RedisProtocol, length, move || {
        let decoded = decode_range(black_box(&input)).expect("it is RESP");
        black_box(decoded.expect("it is whole"));
    }));
    let input = bytes.to_vec();
    cases.push(case(part, name, By::Memchr, length, move || {
        // Of a byte that is not there: one pass over all, and nothing to do at any place.
        black_box(memchr::memchr(0, black_box(&input)));
    }));
}

fn looking_up(cases: &mut Vec<Case>, words: &[&str]) {
    let owned: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    cases.push(case("look up", &words.join(" "), By::Flect, 0, move || {
        let subcommand = owned.get(1).map(Vec::as_slice);
        black_box(commands::lookup(black_box(&owned[0]), subcommand));
    }));
}

fn rewriting(cases: &mut Vec<Case>, name: &str, bytes: &[u8]) {
    let length = bytes.len();
    let input = bytes.to_vec();
    let mut scanner = RequestScanner::default();
    assert!(matches!(scanner.scan(&input), Ok(Scanned::Request { .. })));
    let namespace = namespace();
    let mut out = Vec::with_capacity(OUT_BYTES);
    cases.push(case("rewrite", name, By::Flect, length, move || {
        let request = scanner.request(black_box(&input));
        let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
            unreachable!("all are known");
        };
        out.clear();
        black_box(rewrite::rewrite(command, &request, &namespace, &mut out));
    }));
    copying(cases, "rewrite", name, bytes);
}

fn copying(cases: &mut Vec<Case>, part: &'static str, name: &str, bytes: &[u8]) {
    let input = bytes.to_vec();
    let mut out: Vec<u8> = Vec::with_capacity(OUT_BYTES);
    cases.push(case(part, name, By::Copy, bytes.len(), move || {
        out.clear();
        out.extend_from_slice(black_box(&input));
        black_box(&mut out);
    }));
}

/// All that the protocol's parts do for one request, as the worker calls them.
fn whole_way(cases: &mut Vec<Case>, name: &str, bytes: &[u8]) {
    let length = bytes.len();
    let input = bytes.to_vec();
    let mut scanner = RequestScanner::default();
    let namespace = namespace();
    let mut out = Vec::with_capacity(OUT_BYTES);
    cases.push(case("request", name, By::Flect, length, move || {
        let scanned = scanner.scan(black_box(&input));
        assert!(matches!(scanned, Ok(Scanned::Request { .. })));
        let request = scanner.request(&input);
        let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
            unreachable!("all are known");
        };
        black_box(command.accepts(request.argc()));
        black_box(commands::policy(command, &request));
        black_box(commands::placement(command, &request));
        out.clear();
        black_box(rewrite::rewrite(command, &request, &namespace, &mut out));
    }));
}

/// A request that fits no buffer, piece by piece.
fn streaming(cases: &mut Vec<Case>) {
    let mut input = Vec::new();
    let value = "v".repeat(3 * PIECE_BYTES);
    encode::request(&["SET", "key:000000000001", &value], &mut input);
    let Lookup::Known(command) = commands::lookup(b"SET", None) else {
        unreachable!("it is known");
    };
    let namespace = namespace();
    let mut out = Vec::with_capacity(OUT_BYTES);
    let bytes = input.clone();
    cases.push(case(
        "stream",
        "SET of 192 KiB",
        By::Flect,
        input.len(),
        move || {
            let mut rewriter = StreamRewriter::begin(command, 3);
            for piece in black_box(&input).chunks(PIECE_BYTES) {
                out.clear();
                let advance = rewriter.advance(piece, &namespace, &mut out);
                assert!(advance.is_ok_and(|advance| advance.consumed == piece.len()));
            }
        },
    ));
    copying(cases, "stream", "SET of 192 KiB", &bytes);
}

fn replying(cases: &mut Vec<Case>, name: &'static str, plan: &ReplyPlan, bytes: &[u8]) {
    let length = bytes.len();
    let namespace = namespace();
    let mut rewriter = ReplyRewriter::default();
    let mut out = Vec::with_capacity(OUT_BYTES);
    let (input, own_plan) = (bytes.to_vec(), plan.clone());
    cases.push(case("reply", name, By::Flect, length, move || {
        out.clear();
        rewriter.start(own_plan.clone());
        let advance = rewriter.advance(black_box(&input), &namespace, &mut out);
        assert!(advance.is_ok_and(|advance| advance.done));
    }));
    limits(cases, "reply", name, bytes);
    guarding(cases, name, plan, bytes);
}

/// The second look of integrity mode at what the rewriter has made.
fn guarding(cases: &mut Vec<Case>, name: &'static str, plan: &ReplyPlan, bytes: &[u8]) {
    let mut rewriter = ReplyRewriter::default();
    let mut out = Vec::with_capacity(OUT_BYTES);
    rewriter.start(plan.clone());
    let advance = rewriter.advance(bytes, &namespace(), &mut out);
    assert!(advance.is_ok_and(|advance| advance.done));
    let own = OwnNames::new(&prefix());
    let all = Integrity::new(true, ["10.0.0.1:6379".to_owned()]);
    all.know([&prefix()]);
    let error = rewriter.met_error();
    let mut guard = Guard::default();
    cases.push(case("guard", name, By::Flect, out.len(), move || {
        black_box(guard.look(&own, &all, black_box(&mut out), 0, error, true));
        guard.end();
    }));
}
