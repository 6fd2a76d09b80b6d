//! Requests: tables, and what a real server takes for keys.

mod model;
mod properties;

use redis_protocol::resp2::types::OwnedFrame;

use super::*;
use crate::commands::{self, Command, Lookup, Names, Policy};
use crate::resp::encode;
use crate::resp::request::{Request, RequestScanner, Scanned};
use crate::store::{Namespace, Prefix};

pub(super) fn namespace(database: u32) -> Namespace {
    Prefix::parse("{s}").unwrap().namespace(database)
}

fn command(args: &[Vec<u8>]) -> &'static Command {
    match commands::lookup(&args[0], args.get(1).map(Vec::as_slice)) {
        Lookup::Known(command) => command,
        other => panic!("{other:?}: {args:?}"),
    }
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn with_request<T>(args: &[Vec<u8>], use_it: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut bytes = Vec::new();
    encode::request(args, &mut bytes);
    let mut scanner = RequestScanner::default();
    assert_eq!(
        scanner.scan(&bytes),
        Ok(Scanned::Request {
            consumed: bytes.len()
        })
    );
    use_it(&scanner.request(&bytes))
}

fn rewritten(args: &[Vec<u8>], namespace: &Namespace) -> Vec<u8> {
    let mut out = Vec::new();
    with_request(args, |request| {
        rewrite(command(args), request, namespace, &mut out)
    });
    out
}

/// The arguments of one request, as redis-protocol reads them.
fn decode(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (frame, used) = redis_protocol::resp2::decode::decode(bytes)
        .unwrap()
        .unwrap();
    assert_eq!(used, bytes.len());
    let OwnedFrame::Array(args) = frame else {
        panic!("{frame:?}")
    };
    args.into_iter()
        .map(|arg| match arg {
            OwnedFrame::BulkString(bytes) => bytes,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[track_caller]
fn check(input: &str, expect: &str) {
    let out = decode(&rewritten(&words(input), &namespace(0)));
    let shown: Vec<_> = out
        .iter()
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect();
    // `@` stands for the prefix.
    assert_eq!(shown.join(" ").replace("{s}:", "@"), expect);
}

#[test]
fn keys_get_the_prefix() {
    check("GET a", "GET @a");
    check("get ", "get @");
    check("SET a b EX 5", "SET @a b EX 5");
    check("MSET a 1 b 2", "MSET @a 1 @b 2");
    check("DEL a b c", "DEL @a @b @c");
    check("BLPOP a b 0", "BLPOP @a @b 0");
    check("LMOVE a b LEFT RIGHT", "LMOVE @a @b LEFT RIGHT");
    check("BITOP AND d a b", "BITOP AND @d @a @b");
    check(
        "XGROUP CREATE a g $ MKSTREAM",
        "XGROUP CREATE @a g $ MKSTREAM",
    );
    check("OBJECT ENCODING a", "OBJECT ENCODING @a");
    check("MEMORY USAGE a SAMPLES 0", "MEMORY USAGE @a SAMPLES 0");
    check("COPY a b REPLACE", "COPY @a @b REPLACE");
    check(
        "GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 km STOREDIST",
        "GEOSEARCHSTORE @d @a FROMMEMBER m BYRADIUS 1 km STOREDIST",
    );
    check("WATCH a b", "WATCH @a @b");
    check("PING a", "PING a");
    check("HSCAN a 0 MATCH *", "HSCAN @a 0 MATCH *");
}

#[test]
fn numbers_of_keys_are_read_as_the_server_reads_them() {
    check("EVAL s 2 a b c", "EVAL s 2 @a @b c");
    check("EVAL s 0 c", "EVAL s 0 c");
    check(
        "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
        "ZUNIONSTORE @d 2 @a @b WEIGHTS 1 2",
    );
    check("LMPOP 1 a LEFT", "LMPOP 1 @a LEFT");
    check("BZMPOP 0 2 a b MIN", "BZMPOP 0 2 @a @b MIN");
    check("MSETEX 2 a 1 b 2 EX 5", "MSETEX 2 @a 1 @b 2 EX 5");
    // Whatever cannot be decided is taken for a name.
    for number in [
        "x",
        "-1",
        "3",
        "+1",
        "01",
        "1.0",
        " 1",
        "99999999999999999999",
    ] {
        let number = number.trim_end();
        if number.contains(' ') {
            continue;
        }
        check(
            &format!("EVAL s {number} a b"),
            &format!("EVAL s {number} @a @b"),
        );
    }
    check(
        "EVAL s 9223372036854775807 a",
        "EVAL s 9223372036854775807 @a",
    );
    check("MSETEX 2 a 1 b", "MSETEX 2 @a @1 @b");
}

#[test]
fn names_beyond_key_specs_get_the_prefix() {
    check(
        "SORT a BY w_* GET # GET o_*->f LIMIT 0 5 ASC ALPHA STORE d",
        "SORT @a BY @w_* GET # GET @o_*->f LIMIT 0 5 ASC ALPHA STORE @d",
    );
    check("SORT a STORE b STORE c", "SORT @a STORE @b STORE @c");
    check("SORT a LIMIT BY x STORE b", "SORT @a LIMIT BY x STORE @b");
    check("SORT a GET", "SORT @a @GET");
    check("SORT a FOO STORE b", "SORT @a @FOO @STORE @b");
    check("SORT_RO a STORE b", "SORT_RO @a @STORE @b");
    check(
        "GEORADIUS a 1 2 3 m STORE b STOREDIST c COUNT STORE",
        "GEORADIUS @a 1 2 3 m STORE @b STOREDIST @c COUNT STORE",
    );
    check(
        "GEORADIUS a STORE 2 3 m ASC",
        "GEORADIUS @a STORE 2 3 m ASC",
    );
    check(
        "GEORADIUSBYMEMBER a m 3 m STORE b",
        "GEORADIUSBYMEMBER @a m 3 m STORE @b",
    );
    check(
        "XREAD COUNT 1 STREAMS a b 0 0",
        "XREAD COUNT 1 STREAMS @a @b 0 0",
    );
    check(
        "XREAD BLOCK streams STREAMS a 0",
        "XREAD BLOCK streams STREAMS @a 0",
    );
    check(
        "XREADGROUP GROUP streams STREAMS STREAMS a >",
        "XREADGROUP GROUP streams STREAMS STREAMS @a >",
    );
    check(
        "XREADGROUP STREAMS a GROUP g",
        "XREADGROUP STREAMS @a @GROUP @g",
    );
    check("XREAD streams\0x a 0", "XREAD streams\0x @a 0");
    check("SORT a Store\0 b", "SORT @a Store\0 @b");
    check("XREAD STREAMS a b 0", "XREAD STREAMS @a @b @0");
    check(
        "XREAD GROUP g c STREAMS a 0",
        "XREAD @GROUP @g @c @STREAMS @a @0",
    );
    check("COPY a b DB 1", "COPY @a @b @DB @1");
}

#[test]
fn channels_get_the_prefix() {
    check("SUBSCRIBE a b", "SUBSCRIBE @a @b");
    check("PSUBSCRIBE a*", "PSUBSCRIBE @a*");
    check("UNSUBSCRIBE", "UNSUBSCRIBE");
    check("PUBLISH a b", "PUBLISH @a b");
    check("SPUBLISH a b", "SPUBLISH @a b");
    check("PUBSUB NUMSUB a b", "PUBSUB NUMSUB @a @b");
    // Keys know their database, channels do not.
    let out = rewritten(&words("SSUBSCRIBE a"), &namespace(7));
    assert_eq!(decode(&out)[1], b"{s}:a");
    let out = rewritten(&words("GET a"), &namespace(7));
    assert_eq!(decode(&out)[1], b"{s}/7:a");
}

#[test]
fn tracking_is_confined_to_the_store() {
    check("CLIENT TRACKING ON", "CLIENT TRACKING ON");
    check(
        "CLIENT TRACKING ON OPTIN NOLOOP",
        "CLIENT TRACKING ON OPTIN NOLOOP",
    );
    check(
        "CLIENT TRACKING ON BCAST",
        "CLIENT TRACKING ON BCAST PREFIX {s}",
    );
    check(
        "CLIENT TRACKING ON BCAST PREFIX a PREFIX b",
        "CLIENT TRACKING ON BCAST PREFIX @a PREFIX @b",
    );
    check(
        "CLIENT TRACKING ON PREFIX bcast",
        "CLIENT TRACKING ON PREFIX @bcast",
    );
    check(
        "CLIENT TRACKING ON REDIRECT 5",
        "CLIENT TRACKING ON @REDIRECT @5",
    );
}

/// The words after BCAST are read as the server reads them, so that no PREFIX is missed or imagined.
#[test]
fn broadcasting_never_goes_out_without_a_prefix() {
    check(
        "CLIENT TRACKING ON BCAST PREFIX",
        "CLIENT TRACKING ON BCAST @PREFIX PREFIX {s}",
    );
    check(
        "CLIENT TRACKING ON PREFIX prefix BCAST",
        "CLIENT TRACKING ON PREFIX @prefix BCAST",
    );
    check(
        "CLIENT TRACKING ON BCAST FOO",
        "CLIENT TRACKING ON BCAST @FOO PREFIX {s}",
    );
}

#[test]
fn commands_that_are_not_forwarded_would_leave_with_nothing_but_names() {
    check("KEYS *", "KEYS @*");
    check("SCAN 0 MATCH *", "SCAN @0 @MATCH @*");
    check("CONFIG SET a b", "CONFIG SET @a @b");
}

/// `COMMAND GETKEYS` of Valkey 9.1 for each line.
#[test]
fn what_a_server_takes_for_keys_gets_the_prefix() {
    for line in include_str!("tests/getkeys.tsv").lines() {
        let (request, keys) = line.split_once('\t').unwrap();
        let args = words(request);
        let out = decode(&rewritten(&args, &namespace(0)));
        let prefixed: Vec<&[u8]> = out
            .iter()
            .filter_map(|arg| arg.strip_prefix(b"{s}:"))
            .collect();
        let keys: Vec<&[u8]> = keys
            .split(' ')
            .filter(|key| !key.is_empty())
            .map(str::as_bytes)
            .collect();
        if ["sort", "msetex", "eval"]
            .iter()
            .any(|name| request.starts_with(name))
        {
            // Patterns, a STORE that does not count, a wrong number: more than keys.
            assert!(keys.iter().all(|key| prefixed.contains(key)), "{line}");
        } else {
            assert_eq!(prefixed, keys, "{line}");
        }
    }
}

#[test]
fn one_classifier_suffices() {
    for command in commands::all() {
        if command.names != Names::Specs {
            continue;
        }
        assert!(command.keys.len() <= 2, "{}", command.name);
        for spec in command.keys {
            assert!(
                matches!(spec.begin, commands::Begin::Index(_)),
                "{}",
                command.name
            );
            assert!(
                !matches!(spec.find, commands::Find::Unknown),
                "{}",
                command.name
            );
            assert!(
                !spec.flags.has(commands::KeyFlags::NOT_KEY),
                "{}",
                command.name
            );
            assert!(
                !spec.flags.has(commands::KeyFlags::INCOMPLETE),
                "{}",
                command.name
            );
        }
    }
    // And whatever has keys for the server has names here.
    for command in commands::all()
        .iter()
        .filter(|command| command.policy == Policy::Rewrite)
    {
        assert!(
            command.keys.is_empty() || command.names != Names::None,
            "{}",
            command.name
        );
    }
}

#[test]
fn arguments_decide_where_they_must() {
    use commands::{Need, Placement, Scoped};
    let policy = |text: &str| {
        let args = words(text);
        with_request(&args, |request| commands::policy(command(&args), request))
    };
    let placement = |text: &str| {
        let args = words(text);
        with_request(&args, |request| {
            commands::placement(command(&args), request)
        })
    };
    assert_eq!(policy("COPY a b"), Policy::Rewrite);
    assert_eq!(
        policy("COPY a b REPLACE DB 1"),
        Policy::Scoped(Scoped::CopyAcrossDatabases)
    );
    assert_eq!(policy("SORT a BY nosort LIMIT by get"), Policy::Rewrite);
    assert_eq!(
        policy("SORT a BY w_*"),
        Policy::Scoped(Scoped::SortWithPatterns)
    );
    assert_eq!(
        policy("SORT a GET #"),
        Policy::Scoped(Scoped::SortWithPatterns)
    );
    assert_eq!(
        policy("SORT_RO a GET #"),
        Policy::Scoped(Scoped::SortWithPatterns)
    );
    assert_eq!(policy("SORT a STORE get"), Policy::Rewrite);
    assert_eq!(
        policy("CLIENT TRACKING ON PREFIX redirect"),
        Policy::Rewrite
    );
    assert_eq!(placement("XREAD STREAMS block 0"), Placement::Shared);
    assert_eq!(
        placement("XREAD COUNT block STREAMS a 0"),
        Placement::Shared
    );
    assert_eq!(
        placement("XREAD BLOCK 0 STREAMS a 0"),
        Placement::Dedicated(Need::Blocking)
    );
    assert_eq!(
        placement("XREADGROUP GROUP streams c BLOCK 0 STREAMS a >"),
        Placement::Dedicated(Need::Blocking)
    );
    assert_eq!(placement("BLPOP a 0"), Placement::Dedicated(Need::Blocking));
}

#[test]
fn streams_end_where_requests_end() {
    let mut input = Vec::new();
    encode::request(&["SET", "a", &"v".repeat(100_000)], &mut input);
    let one = input.len();
    encode::request(&["GET", "a"], &mut input);
    let args = words("SET a v");
    let mut rewriter = StreamRewriter::begin(command(&args), 3);
    let mut out = Vec::new();
    let advance = rewriter.advance(&input, &namespace(0), &mut out);
    assert_eq!(
        advance,
        Ok(Advance {
            consumed: one,
            done: true
        })
    );
    assert_eq!(
        rewriter.advance(b"", &namespace(0), &mut out),
        Ok(Advance {
            consumed: 0,
            done: true
        })
    );
    assert_eq!(rewriter.plan(), ReplyPlan::Verbatim);
}

#[test]
fn streams_refuse_what_the_scanner_refuses() {
    use crate::resp::request::ProtocolError;
    let check = |input: &str, expect: ProtocolError| {
        let args = words("SET a v");
        let mut rewriter = StreamRewriter::begin(command(&args), 3);
        assert_eq!(
            rewriter.advance(input.as_bytes(), &namespace(0), &mut Vec::new()),
            Err(expect)
        );
    };
    check(
        "*3\r\n$3\r\nSET\r\n:1\r\n",
        ProtocolError::ExpectedBulk(b':'),
    );
    check(
        "*3\r\n$3\r\nSET\r\n$536870913\r\n",
        ProtocolError::InvalidBulkLength,
    );
    // With the prefix the key is longer than the server reads.
    check(
        "*3\r\n$3\r\nSET\r\n$536870912\r\n",
        ProtocolError::InvalidBulkLength,
    );
    check("*2\r\n", ProtocolError::InvalidMultibulkLength);
}
