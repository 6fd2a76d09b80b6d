//! The scanner against a table measured on real servers, against redis-protocol, and against itself
//! with its input cut anywhere.

use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame as _};

use super::*;
use crate::resp::{BULK_BYTES_MAX, encode};

/// What a connection sees: its requests, and the error that ends it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    /// Bytes left over.
    rest: usize,
}

/// Feeds `input` in pieces that end at `cuts`, as a connection would.
fn scan_all(input: &[u8], cuts: &[usize]) -> Outcome {
    let mut scanner = RequestScanner::default();
    let mut outcome = Outcome::default();
    let mut start = 0;
    let ends = cuts.iter().copied().chain([input.len()]);
    for end in ends.filter(|&end| end <= input.len()) {
        loop {
            let buf = &input[start..end.max(start)];
            match scanner.scan(buf) {
                Ok(Scanned::Request { consumed }) => {
                    let request = scanner.request(buf);
                    assert_well_formed(&request);
                    outcome
                        .requests
                        .push(request.args().map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Ok(Scanned::Empty { consumed }) => start += consumed,
                Ok(Scanned::Incomplete) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        if let Some(head) = scanner.head(&input[start..end.max(start)]) {
            assert!(head.args_complete < head.argc);
            assert!((0..head.args_complete).all(|i| head.arg(i).is_some()));
            assert!(head.arg(head.args_complete).is_none());
        }
    }
    outcome.rest = input.len() - start;
    outcome
}

/// redis-protocol reads the same arguments from the request's bytes.
fn assert_well_formed(request: &Request<'_>) {
    let (frame, bytes) = redis_protocol::resp2::decode::decode(request.bytes())
        .unwrap()
        .unwrap();
    assert_eq!(bytes, request.bytes().len());
    let args = request
        .args()
        .map(|arg| OwnedFrame::BulkString(arg.to_vec()))
        .collect();
    assert_eq!(frame, OwnedFrame::Array(args));
    for i in 0..request.argc() {
        let range = request.range(i);
        assert_eq!(
            &request.bytes()[range.start as usize..range.end as usize],
            request.arg(i)
        );
    }
}

fn every_byte(input: &[u8]) -> Vec<usize> {
    (1..input.len()).collect()
}

#[track_caller]
fn check(input: impl AsRef<[u8]>, expect: Result<&[&[&str]], &str>) {
    let input = input.as_ref();
    let whole = scan_all(input, &[]);
    let requests: Vec<Vec<Vec<u8>>> = expect
        .unwrap_or_default()
        .iter()
        .map(|request| request.iter().map(|arg| arg.as_bytes().to_vec()).collect())
        .collect();
    assert_eq!(whole.requests, requests);
    let error = whole
        .error
        .map(|error| String::from_utf8_lossy(&error.reply()).into_owned());
    assert_eq!(error, expect.err().map(|text| format!("-{text}\r\n")));
    assert_eq!(scan_all(input, &every_byte(input)), whole);
}

#[test]
fn requests_are_found() {
    check("*1\r\n$4\r\nPING\r\n", Ok(&[&["PING"]]));
    check("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", Ok(&[&["GET", ""]]));
    check(
        "*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n*1\r\n$1\r\nx\r\n",
        Ok(&[&["GET", "a\r\n"], &["x"]]),
    );
    check(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello, world\r\n",
        Ok(&[&["SET", "k", "hello, world"]]),
    );
}

#[test]
fn nothing_is_answered_with_nothing() {
    for nothing in [
        "\r\n",
        "\n",
        "  \r\n",
        "*0\r\n",
        "*-1\r\n",
        "*-99999999999\r\n",
        "\t\x0b \n",
    ] {
        check(nothing, Ok(&[]));
        check(format!("{nothing}PING\r\n"), Ok(&[&["PING"]]));
    }
}

/// Each verdict was measured on Valkey 8.0.1.
#[test]
fn protocol_errors_are_valkeys() {
    let multibulk = Err("ERR Protocol error: invalid multibulk length");
    for bad in [
        "*x\r\n",
        "*\r\n",
        "*+1\r\n",
        "*01\r\n",
        "*-0\r\n",
        "*1 \r\n",
        "*2147483648\r\n",
    ] {
        check(bad, multibulk);
    }
    let bulk = Err("ERR Protocol error: invalid bulk length");
    for bad in [
        "$-1",
        "$536870913",
        "$x",
        "$",
        "$000",
        "$01",
        "$+1",
        "$1 ",
        "$999999999999999999999",
    ] {
        check(format!("*1\r\n{bad}\r\n"), bulk);
    }
    check(
        "*1\r\nPING\r\n",
        Err("ERR Protocol error: expected '$', got 'P'"),
    );
    check(
        "*1\r\n\r\n",
        Err("ERR Protocol error: expected '$', got ' '"),
    );
    check(
        "*1\r\n:4\r\n",
        Err("ERR Protocol error: expected '$', got ':'"),
    );
    check(
        "PING \"a\n",
        Err("ERR Protocol error: unbalanced quotes in request"),
    );
    check(
        "PING 'a\n",
        Err("ERR Protocol error: unbalanced quotes in request"),
    );
    check(
        "PING \"a\"b\n",
        Err("ERR Protocol error: unbalanced quotes in request"),
    );
    check(
        "PING 'a''b'\n",
        Err("ERR Protocol error: unbalanced quotes in request"),
    );
}

#[test]
fn an_unexpected_byte_is_shown_as_it_came() {
    assert_eq!(
        ProtocolError::ExpectedBulk(0xff).reply(),
        b"-ERR Protocol error: expected '$', got '\xff'\r\n"
    );
    assert_eq!(
        ProtocolError::ExpectedBulk(b'\n').reply(),
        b"-ERR Protocol error: expected '$', got ' '\r\n"
    );
}

/// Cut in few places: a verdict needs more than 64 KiB.
#[test]
fn lines_end_within_64_kib() {
    let check_long = |input: String, expect: Result<usize, ProtocolError>| {
        for cuts in [vec![], vec![1], vec![65_536], vec![65_537], vec![3, 70_000]] {
            let outcome = scan_all(input.as_bytes(), &cuts);
            assert_eq!(outcome.error, expect.err(), "{} {cuts:?}", &input[..8]);
            assert_eq!(outcome.requests.len(), expect.unwrap_or(0));
        }
    };
    check_long("x".repeat(65_536) + "\n", Ok(1));
    check_long("x".repeat(65_537) + "\n", Err(ProtocolError::TooBigInline));
    check_long("x".repeat(65_537), Err(ProtocolError::TooBigInline));
    check_long("x".repeat(65_536), Ok(0));
    let digits = "1".repeat(70_000);
    check_long(
        format!("*{digits}"),
        Err(ProtocolError::TooBigMultibulkCount),
    );
    check_long(
        format!("*1\r\n${digits}"),
        Err(ProtocolError::TooBigBulkCount),
    );
    check_long(
        format!("*{}\r\n", &digits[..1000]),
        Err(ProtocolError::InvalidMultibulkLength),
    );
}

#[test]
fn big_numbers_only_promise() {
    check("*2147483647\r\n", Ok(&[]));
    check(format!("*1\r\n${BULK_BYTES_MAX}\r\nabc"), Ok(&[]));
    let mut scanner = RequestScanner::default();
    let buf = b"*2147483647\r\n$3\r\nDEL\r\n$99999999\r\n";
    assert_eq!(scanner.scan(buf), Ok(Scanned::Incomplete));
    let head = scanner.head(buf).unwrap();
    assert_eq!(
        (head.argc, head.args_complete, head.next_bytes),
        (2_147_483_647, 1, Some(99_999_999))
    );
    assert_eq!(head.arg(0), Some(&b"DEL"[..]));
}

#[test]
fn inline_requests_are_split_as_sdssplitargs_does() {
    check("PING\r\n", Ok(&[&["PING"]]));
    check(
        " SET\ta  \"b c\" 'd e'\n",
        Ok(&[&["SET", "a", "b c", "d e"]]),
    );
    check(
        "ECHO \"\\x41\\n\\r\\t\\b\\a\\q\\\"\\\\ \\xzz\"\n",
        Ok(&[&["ECHO", "A\n\r\t\x08\x07q\"\\ xzz"]]),
    );
    check("ECHO 'a\\'b\\n'\n", Ok(&[&["ECHO", "a'b\\n"]]));
    check("ECHO a\"b c\"\n", Ok(&[&["ECHO", "ab c"]]));
    check("ECHO a\x0bb\n", Ok(&[&["ECHO", "a\x0bb"]]));
    check("\"\"\n", Ok(&[&[""]]));
    check("PING\r\r\n", Ok(&[&["PING"]]));
    check("$4\r\nPING\r\n", Ok(&[&["$4"], &["PING"]]));
    // A NUL hides the end of the line.
    check("PI\0NG\r\n", Ok(&[]));
}

/// Valkey 8.0 looks at the first byte of a line's end only, and at none of an argument's.
#[test]
fn wrong_line_ends_are_read_and_put_right() {
    check("*1\rX$4\r\nPING\r\n", Ok(&[&["PING"]]));
    check("*1\r\n$4\rXPINGab", Ok(&[&["PING"]]));
    check(
        "*2\r\n$4\r\nPINGxx$1\r\nay.*1\r\n$1\r\nb\r\n",
        Ok(&[&["PING", "a"], &["b"]]),
    );
}

#[test]
fn memory_of_a_great_request_is_given_back() {
    let mut input = Vec::new();
    encode::request(&vec!["x"; 100_000], &mut input);
    let mut scanner = RequestScanner::default();
    assert!(matches!(scanner.scan(&input), Ok(Scanned::Request { .. })));
    assert_eq!(scanner.scan(b""), Ok(Scanned::Incomplete));
    assert!(scanner.args.capacity() < 1024);
}

/// Bytes that a scanner finds interesting, in any order.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*1\r\n".to_vec()),
        Just(b"*2\r\n".to_vec()),
        Just(b"*0\r\n".to_vec()),
        Just(b"$3\r\nGET\r\n".to_vec()),
        Just(b"$1\r\nk\r\n".to_vec()),
        Just(b"$2\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"PING \"a b\" 'c'\r\n".to_vec()),
        prop::collection::vec(
            prop::sample::select(b"*$-+0123 \r\n\"'\\x\0ab".to_vec()),
            0..6
        ),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn requests() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let arg = prop::collection::vec(any::<u8>(), 0..20);
    let request = prop::collection::vec(arg, 1..6);
    prop::collection::vec(request, 0..5)
}

proptest! {
    #[test]
    fn any_cut_gives_the_same(input in garbage(), cuts in prop::collection::vec(0usize..80, 0..10)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = scan_all(&input, &[]);
        prop_assert_eq!(&scan_all(&input, &cuts), &whole);
        prop_assert_eq!(&scan_all(&input, &every_byte(&input)), &whole);
    }

    #[test]
    fn valid_requests_are_read_as_redis_protocol_reads_them(requests in requests(), cut in 0usize..400) {
        let mut input = Vec::new();
        for request in &requests {
            let frame = OwnedFrame::Array(request.iter().cloned().map(OwnedFrame::BulkString).collect());
            let mut encoded = vec![0; frame.encode_len(false)];
            redis_protocol::resp2::encode::encode(&mut encoded, &frame, false).unwrap();
            input.extend_from_slice(&encoded);
        }
        let outcome = scan_all(&input, &[cut.min(input.len())]);
        prop_assert_eq!(outcome, Outcome { requests, ..Outcome::default() });
    }
}
