//! Replies: tables, each whole and cut at every byte.

mod messages;
mod properties;

use super::*;
use crate::rewrite::tests::namespace;

/// Feeds `input` in pieces that end at `cuts`, as a connection would; the output and the summary.
fn run(
    plan: &ReplyPlan,
    input: &[u8],
    cuts: &[usize],
    database: u32,
) -> Result<(Vec<u8>, Option<Ack>), ReplyError> {
    let namespace = namespace(database);
    let mut rewriter = ReplyRewriter::default();
    rewriter.start(plan.clone());
    let mut out = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let end = end.clamp(start, input.len());
        let advance = rewriter.advance(&input[start..end], &namespace, &mut out)?;
        assert_eq!(advance.done, !rewriter.in_progress());
        start += advance.consumed;
        if advance.done {
            assert_eq!(
                start,
                input.len(),
                "bytes after the reply: {:?}",
                String::from_utf8_lossy(input)
            );
            return Ok((out, rewriter.pubsub_summary()));
        }
        // What waits for more bytes is a header, the beginning of a name, or a look ahead.
        assert!(end - start < 256, "{} bytes held", end - start);
    }
    panic!("no end: {:?}", String::from_utf8_lossy(input));
}

fn every_byte(input: &[u8]) -> Vec<usize> {
    (0..input.len()).collect()
}

/// In `input` and `expect` a space stands for CR LF, and `^` for a space.
fn lines(text: &str) -> Vec<u8> {
    text.replace(' ', "\r\n").replace('^', " ").into_bytes()
}

#[track_caller]
fn check(plan: ReplyPlan, input: &str, expect: Result<&str, ReplyError>) {
    let input = lines(input);
    let expect = expect.map(|text| String::from_utf8(lines(text)).unwrap());
    for cuts in [vec![], every_byte(&input)] {
        let got = run(&plan, &input, &cuts, 0).map(|(out, _)| String::from_utf8(out).unwrap());
        assert_eq!(got, expect, "{cuts:?}");
    }
}

#[test]
fn values_without_names_stay_as_they_are() {
    for same in [
        "+OK ",
        "+a\nb ",
        "+a\r\r\n",
        "*2 +\n+OK\n\r^ :1 ",
        ":-5 ",
        "$-1 ",
        "*-1 ",
        "_ ",
        "#t ",
        ",1.5 ",
        ",inf ",
        "(123456789012345678901234567890 ",
        "$5 {s}:a ",
        "$0  ",
        "*0 ",
        "%0 ",
        "~0 ",
        "=7 txt:abc ",
        "*2 $1 a *2 :1 *1 *0 ",
        "%1 +a *2 :1 $1 b ",
        "~2 :1 :2 ",
        "|1 +a :1 $1 b ",
        "|0 :1 ",
        "*2 |1 +a :1 $1 b :2 ",
        ">2 +a :1 ",
        "+{s}:a ",
    ] {
        check(ReplyPlan::Verbatim, same, Ok(same));
    }
}

#[test]
fn coordinates_become_numbers() {
    use ReplyPlan::*;
    check(Places, "*2 $1 a $1 b ", Ok("*2 $1 a $1 b "));
    check(
        Places,
        "*1 *4 $1 a $3 1.5 :7 *2 $4 13.5 $2 -1 ",
        Ok("*1 *4 $1 a $3 1.5 :7 *2 ,13.5 ,-1 "),
    );
    check(Places, "-ERR^no ", Ok("-ERR^no "));
    check(Places, ":2 ", Ok(":2 "));
    check(Places, "*0 ", Ok("*0 "));
    check(
        Exec(vec![Places, Verbatim]),
        "*2 *1 *2 $1 a *2 $1 1 $1 2 *1 *1 *1 $1 3 ",
        Ok("*2 *1 *2 $1 a *2 ,1 ,2 *1 *1 *1 $1 3 "),
    );
}

#[test]
fn names_lose_their_prefix() {
    use ReplyPlan::*;
    check(Name, "$5 {s}:a ", Ok("$1 a "));
    check(Name, "$4 {s}: ", Ok("$0  "));
    check(Name, "$8 {s}:{s}: ", Ok("$4 {s}: "));
    check(Name, "$-1 ", Ok("$-1 "));
    check(Name, "_ ", Ok("_ "));
    check(FirstName, "*2 $5 {s}:a $5 {s}:b ", Ok("*2 $1 a $5 {s}:b "));
    check(
        FirstName,
        "*2 $5 {s}:a *1 *2 $1 x ,1 ",
        Ok("*2 $1 a *1 *2 $1 x ,1 "),
    );
    check(FirstName, "*-1 ", Ok("*-1 "));
    check(Names, "*2 $5 {s}:a $6 {s}:bc ", Ok("*2 $1 a $2 bc "));
    check(Names, "*0 ", Ok("*0 "));
    check(Names, "*1 |1 +ttl :1 $5 {s}:a ", Ok("*1 |1 +ttl :1 $1 a "));
    check(Channels, "*1 $5 {s}:a ", Ok("*1 $1 a "));
    check(
        Cursor,
        "*2 $2 17 *2 $5 {s}:a $5 {s}:b ",
        Ok("*2 $2 17 *2 $1 a $1 b "),
    );
    check(Cursor, "*2 $1 0 *0 ", Ok("*2 $1 0 *0 "));
    let entries = "*1 *2 $3 1-1 *2 $1 f $5 {s}:v ";
    check(
        StreamNames,
        &format!("*2 *2 $5 {{s}}:a {entries}*2 $5 {{s}}:b *0 "),
        Ok(&format!("*2 *2 $1 a {entries}*2 $1 b *0 ")),
    );
    check(
        StreamNames,
        &format!("%2 $5 {{s}}:a {entries}$5 {{s}}:b *0 "),
        Ok(&format!("%2 $1 a {entries}$1 b *0 ")),
    );
    check(StreamNames, "*-1 ", Ok("*-1 "));
    check(
        PubsubNumsub,
        "*4 $5 {s}:a :1 $5 {s}:b :0 ",
        Ok("*4 $1 a :1 $1 b :0 "),
    );
    check(PubsubNumsub, "%1 $5 {s}:a :1 ", Ok("%1 $1 a :1 "));
    let info = |names: &str| format!("*6 $5 flags *1 $5 bcast $8 redirect :0 $8 prefixes {names}");
    check(
        TrackingInfo,
        &info("*3 $3 {s} $5 {s}:a $7 {s}/3:b "),
        Ok(&info("*3 $0  $1 a $1 b ")),
    );
    let info = |names: &str| format!("%3 $5 flags ~1 $5 bcast $8 redirect :0 $8 prefixes {names}");
    check(TrackingInfo, &info("*1 $3 {s} "), Ok(&info("*1 $0  ")));
}

#[test]
fn a_database_has_names_of_its_own() {
    let of_three = lines("*1 $7 {s}/3:a ");
    let (out, _) = run(&ReplyPlan::Names, &of_three, &[], 3).unwrap();
    assert_eq!(out, lines("*1 $1 a "));
    for (database, name) in [
        (0, "$7 {s}/3:a "),
        (3, "$5 {s}:a "),
        (3, "$8 {s}/33:a "),
        (33, "$7 {s}/3:a "),
    ] {
        let input = lines(name);
        assert_eq!(
            run(&ReplyPlan::Name, &input, &[], database),
            Err(ReplyError::ForeignName),
            "{name}"
        );
    }
}

#[test]
fn foreign_names_are_never_passed_on() {
    use ReplyPlan::*;
    let foreign = Err(ReplyError::ForeignName);
    for name in [
        "$5 {t}:a ",
        "$0  ",
        "$3 {s} ",
        "$1 { ",
        "$7 {s}/3:a ",
        "$5 {S}:a ",
        "$5 x{s}: ",
        "$6 a{s}:a ",
    ] {
        check(Name, name, foreign);
        check(Names, &format!("*2 $5 {{s}}:a {name}"), foreign);
        check(FirstName, &format!("*2 {name}$1 a "), foreign);
        check(StreamNames, &format!("%1 {name}*0 "), foreign);
        check(Cursor, &format!("*2 $1 0 *1 {name}"), foreign);
        check(
            Exec(vec![Verbatim, Name]),
            &format!("*2 {name}{name}"),
            foreign,
        );
    }
    check(PubsubNumsub, "*2 $7 {s}/3:a :1 ", foreign);
    check(Pubsub, ">3 $7 message $5 {t}:a $1 x ", foreign);
    check(Pubsub, ">2 $10 invalidate *1 $5 {t}:a ", foreign);
    check(Pubsub, ">2 $10 invalidate *1 $3 {s} ", foreign);
    check(Pubsub, ">2 $10 invalidate *2 $5 {s}:a $7 {s}/0:a ", foreign);
}

#[test]
fn a_reply_of_another_shape_is_not_passed_on() {
    use ReplyPlan::*;
    let unexpected = Err(ReplyError::UnexpectedShape);
    check(Name, "*1 $5 {s}:a ", unexpected);
    check(Names, "$5 {s}:a ", unexpected);
    check(FirstName, ":1 ", unexpected);
    check(Exec(vec![]), ":1 ", unexpected);
    check(StreamNames, "*1 :1 ", unexpected);
    check(Names, "*1 *1 $5 {s}:a ", unexpected);
    check(Name, "=9 txt:{s}:a ", unexpected);
    check(StreamNames, "$1 a ", unexpected);
    check(Exec(vec![Verbatim]), "*2 :1 :2 ", unexpected);
    check(Pubsub, "$1 a ", unexpected);
    check(Pubsub, ">1 *1 :1 ", unexpected);
    check(Pubsub, ">1 $6 gossip ", Err(ReplyError::UnknownPush));
    check(Pubsub, ">1 $99 ", Err(ReplyError::UnknownPush));
}

#[test]
fn nulls_and_lines_pass_under_every_plan() {
    use ReplyPlan::*;
    for plan in [
        Name,
        FirstName,
        Names,
        StreamNames,
        Cursor,
        PubsubNumsub,
        Channels,
        Pubsub,
        TrackingInfo,
        Exec(vec![]),
    ] {
        for same in ["+QUEUED ", "$-1 ", "*-1 ", "_ ", "-ERR^no "] {
            check(plan.clone(), same, Ok(same));
        }
    }
}

#[test]
fn transactions_have_a_plan_for_each_reply() {
    use ReplyPlan::*;
    check(
        Exec(vec![Verbatim, FirstName, StreamNames, Name, Names]),
        "*5 $5 {s}:a *2 $5 {s}:k $1 v *1 *2 $5 {s}:k *0 -ERR^{s}:x *1 $5 {s}:n ",
        Ok("*5 $5 {s}:a *2 $1 k $1 v *1 *2 $1 k *0 -ERR^x *1 $1 n "),
    );
    check(Exec(vec![]), "*0 ", Ok("*0 "));
    check(Exec(vec![Name]), "-EXECABORT^no ", Ok("-EXECABORT^no "));
}

#[test]
fn errors_hold_no_names_and_no_users() {
    let check = |input: &str, expect: &str| {
        super::tests::check(
            ReplyPlan::Verbatim,
            &format!("-{input} "),
            Ok(&format!("-{expect} ")),
        );
        super::tests::check(
            ReplyPlan::Verbatim,
            &format!("*2 -{input} :1 "),
            Ok(&format!("*2 -{expect} :1 ")),
        );
        let text = |text: &str| format!("!{} {text} ", text.len());
        super::tests::check(ReplyPlan::Name, &text(input), Ok(&text(expect)));
    };
    check("ERR", "ERR");
    check("ERR^{t}:a^{^{s^s}", "ERR^{t}:a^{^{s^s}");
    check(
        "NOGROUP^No^such^key^'{s}:a'^or^group^'{s}/12:b'",
        "NOGROUP^No^such^key^'a'^or^group^'b'",
    );
    check("ERR^{s}:{s}:", "ERR^");
    check("ERR^{s}/x:^{s}/:^{s}", "ERR^/x:^/:^");
    check("ERR^{s}/99999999999:", "ERR^/99999999999:");
    check("ERR^{{s}:a", "ERR^{a");
    check(
        "NOPERM^User^flect-s^has^no^permissions^to^run^the^'x'^command",
        "NOPERM^User^default^has^no^permissions^to^run^the^'x'^command",
    );
    check(
        "ERR^ACL^failure^in^script:^User^flect-s^has^no^permissions^to^run",
        "ERR^ACL^failure^in^script:^User^default^has^no^permissions^to^run",
    );
    check("ERR^User^has^no^permissions", "ERR^User^has^no^permissions");
    check(
        "ERR^User^a^b^has^no^permissions^User",
        "ERR^User^a^b^has^no^permissions^User",
    );
    check(
        "ERR^UUser^a^has^no^permissionsU",
        "ERR^UUser^default^has^no^permissionsU",
    );
    let long = "x".repeat(128);
    check(
        &format!("ERR^User^{long}^has^no^permissions"),
        &format!("ERR^User^{long}^has^no^permissions"),
    );
}

#[test]
fn errors_of_any_length_pass_in_bounded_memory() {
    let input = lines(&format!("-ERR^{}{{s}}:a ", "x{".repeat(100_000)));
    let expect = lines(&format!("-ERR^{}a ", "x{".repeat(100_000)));
    let cuts: Vec<usize> = (0..input.len()).step_by(97).collect();
    assert_eq!(
        run(&ReplyPlan::Verbatim, &input, &cuts, 0).unwrap().0,
        expect
    );
    check(
        ReplyPlan::Verbatim,
        "!65537 ",
        Err(ReplyError::ErrorTooLong),
    );
}

/// A script's error on a server before 8.1: the carriage return is part of the line, wherever it is cut.
#[test]
fn a_carriage_return_ends_no_error() {
    for input in ["-ERR\rx\r\n", "-\r\r\n", "-ERR a\rb\rc\r\n"] {
        let input = input.as_bytes();
        for cut in 0..input.len() {
            let got = run(&ReplyPlan::Verbatim, input, &[cut], 0);
            assert_eq!(got, Ok((input.to_vec(), None)), "cut at {cut}");
        }
    }
}

/// A name that is taken out does not bring together what ends a line.
#[test]
fn a_name_taken_out_ends_no_error() {
    for (input, expect) in [
        ("-ERR \r{s}:\n+OK\r\n", "-ERR \r +OK\r\n"),
        ("-\r{s}\n\r\n", "-\r \r\n"),
        ("-\r{s}:{s}/3:\n\r\n", "-\r \r\n"),
        ("-a{s}:\r\n", "-a\r\n"),
    ] {
        let input = input.as_bytes();
        for cut in 0..input.len() {
            let got = run(&ReplyPlan::Verbatim, input, &[cut], 0);
            assert_eq!(got, Ok((expect.as_bytes().to_vec(), None)), "cut at {cut}");
        }
    }
}

#[test]
fn what_is_not_resp_is_not_passed_on() {
    for bad in [
        "PONG ",
        "$x ",
        "$-2 ",
        "*-2 ",
        "%-1 ",
        "*? ",
        "$? ",
        "$ ",
        "$01 ",
        "*99999999999999999999 ",
        "!-1 ",
        "$1\rx",
        "$0000000000000000000000001 ",
    ] {
        let input = lines(bad);
        let got = run(&ReplyPlan::Verbatim, &input, &[], 0);
        assert!(
            matches!(got, Err(ReplyError::Malformed(_))),
            "{bad}: {got:?}"
        );
    }
}

/// A hostile server's numbers neither overflow nor reserve memory.
#[test]
fn great_promises_are_only_counted() {
    let mut rewriter = ReplyRewriter::default();
    rewriter.start(ReplyPlan::Verbatim);
    let mut out = Vec::new();
    let input = lines(&"*9223372036854775807 ".repeat(2));
    let advance = rewriter.advance(&input, &namespace(0), &mut out).unwrap();
    assert!(!advance.done);
    let third = rewriter.advance(&input, &namespace(0), &mut out);
    assert!(matches!(third, Err(ReplyError::Malformed(_))));
}

#[test]
fn deep_replies_need_no_stack() {
    let depth = 200_000;
    let input = lines(&("*1 ".repeat(depth) + ":1 "));
    assert_eq!(run(&ReplyPlan::Verbatim, &input, &[], 0).unwrap().0, input);
}

#[test]
fn the_agents_own_replies_take_their_places() {
    use ReplyPlan::*;
    let own = || Replace(b":7\r\n".to_vec().into());
    check(own(), "+OK ", Ok(":7 "));
    check(own(), "$5 hello ", Ok(":7 "));
    check(own(), "-ERR^no ", Ok(":7 "));
    check(own(), "*1 :1 ", Err(ReplyError::UnexpectedShape));
    check(
        Exec(vec![own(), Name, own(), Verbatim]),
        "*4 $1 a $5 {s}:a +PONG *1 :1 ",
        Ok("*4 :7 $1 a :7 *1 :1 "),
    );
}

/// A reply that nobody waits for is read to its end, whatever it names.
#[test]
fn forgotten_replies_only_end() {
    let input = lines("*3 $5 {s}:a $5 {t}:b *1 $5 {t}:c ");
    for cut in 0..input.len() {
        let mut rewriter = ReplyRewriter::default();
        rewriter.start(ReplyPlan::Names);
        let mut out = Vec::new();
        let Ok(first) = rewriter.advance(&input[..cut], &namespace(0), &mut out) else {
            continue;
        };
        rewriter.forget_names();
        let rest = rewriter
            .advance(&input[first.consumed..], &namespace(0), &mut out)
            .unwrap();
        assert!(rest.done);
        assert_eq!(first.consumed + rest.consumed, input.len());
    }
}

/// Each session and each upstream connection holds one of these: they must not grow unnoticed.
#[test]
fn state_stays_small() {
    assert!(
        size_of::<ReplyRewriter>() <= 328,
        "{}",
        size_of::<ReplyRewriter>()
    );
    assert!(size_of::<ReplyPlan>() <= 24);
    assert!(size_of::<crate::rewrite::StreamRewriter>() <= 192);
    assert!(size_of::<crate::resp::request::RequestScanner>() <= 128);
}
