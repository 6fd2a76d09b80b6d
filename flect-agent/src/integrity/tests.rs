//! Names are found wherever they stand and however a reply is cut; what looks like them is let out.

use proptest::prelude::*;

use super::*;
use crate::rewrite::reply::{ReplyPlan, ReplyRewriter};

fn own() -> OwnNames {
    OwnNames::new(&Prefix::parse("{k7m2x}").unwrap())
}

fn all() -> Integrity {
    let all = Integrity::new(true, ["10.0.0.1:6379".to_owned()]);
    let prefixes = ["{k7m2x}", "{n3b0r}"].map(|text| Prefix::parse(text).unwrap());
    all.know(&prefixes);
    all
}

#[test]
fn own_names_are_whole_names() {
    for (text, found) in [
        ("{k7m2x}:", true),
        ("$8\r\n{k7m2x}:\r\n", true),
        ("{k7m2x}/3:a", true),
        ("+flect.k7m2x", true),
        ("flect.k7m2x.sort", true),
        ("k7m2x k7m2x} {k7m2x}:x", true),
        ("k7m2x", false),
        ("{k7m2x}", false),
        ("{k7m2x},", false),
        ("\"prefix\":\"{k7m2x}\"", false),
        ("{k7m2y}:a", false),
        ("{k7m2x:}", false),
        ("{\"k7m2x\":1}", false),
        ("flect.k7m2y", false),
    ] {
        assert_eq!(own().are_in(text.as_bytes()), found, "{text}");
    }
}

#[test]
fn foreign_names_are_known_ones() {
    for (text, found) in [
        ("-ERR {n3b0r}:secret", true),
        ("{{n3b0r}/12:x", true),
        ("flect.n3b0r.sort", true),
        ("flect.housekeeper", true),
        ("flect.", false),
        ("flect.other", false),
        ("{n3b0}:x {n3b0rr}:x {other}:x {}:", false),
        ("{n3b0r}", false),
        ("{0123456789012345678}:", false),
    ] {
        assert_eq!(all().foreign_in(text.as_bytes()), found, "{text}");
    }
    assert!(all().in_error(b"-MOVED 1 10.0.0.1:6379") && !all().foreign_in(b"10.0.0.1:6379"));
}

/// What a client gets of a reply that comes in these pieces, as the worker passes it on.
fn let_out(pieces: &[&[u8]], plan: ReplyPlan) -> (Vec<u8>, Option<Verdict>) {
    let (own, all) = (own(), all());
    let namespace = Prefix::parse("{k7m2x}").unwrap().namespace(0);
    let mut rewriter = ReplyRewriter::default();
    rewriter.start(plan);
    let mut guard = Guard::default();
    let (mut out, mut input, mut verdict) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut dropped = Vec::new();
        let hidden = guard.is_dropping();
        let to = if hidden { &mut dropped } else { &mut out };
        let from = to.len();
        if !hidden {
            guard.open(to);
        }
        let advance = rewriter.advance(&input, &namespace, to).unwrap();
        input.drain(..advance.consumed);
        if !hidden {
            let error = rewriter.met_error();
            match guard.look(&own, &all, to, from, error, advance.done) {
                Verdict::Clean => {}
                found => verdict = Some(found),
            }
        }
        if advance.done {
            guard.end();
        }
    }
    assert!(!rewriter.in_progress() && input.is_empty());
    (out, verdict)
}

/// Replies of commands whose rule is broken on purpose: they hold names and their plan says that they
/// do not.
const LEAKS: [&str; 6] = [
    "*2\r\n$1\r\na\r\n$10\r\n{k7m2x}:ab\r\n",
    "*1\r\n$12\r\n{k7m2x}/15:a\r\n",
    "$17\r\nuser=flect.k7m2x \r\n",
    "+{k7m2x}:a\r\n",
    "-ERR no such key '{n3b0r}:a'\r\n",
    "*2\r\n+OK\r\n-MOVED 12 10.0.0.1:6379\r\n",
];

#[test]
fn a_broken_rule_lets_nothing_out_wherever_a_reply_is_cut() {
    for leak in LEAKS {
        let bytes = leak.as_bytes();
        let (out, verdict) = let_out(&[bytes], ReplyPlan::Verbatim);
        assert_eq!((out, verdict), (vec![], Some(Verdict::Whole)), "{leak}");
        for at in 1..bytes.len() {
            let (out, verdict) = let_out(&[&bytes[..at], &bytes[at..]], ReplyPlan::Verbatim);
            assert!(verdict.is_some(), "{leak} cut at {at}");
            assert_eq!(
                verdict == Some(Verdict::Whole),
                out.is_empty(),
                "{leak} at {at}"
            );
            nothing_in(&out);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let (out, verdict) = let_out(&single, ReplyPlan::Verbatim);
        assert!(verdict.is_some(), "{leak} byte by byte");
        nothing_in(&out);
    }
}

/// Not even the beginning of a name is let out.
fn nothing_in(out: &[u8]) {
    for begun in [&b"{k"[..], b"flect", b"{n", b"10.0"] {
        assert!(memmem::find(out, begun).is_none(), "{}", out.escape_ascii());
    }
}

#[test]
fn the_right_plan_takes_names_out_and_nothing_is_found() {
    let reply = b"*2\r\n$8\r\n{k7m2x}:\r\n$10\r\n{k7m2x}:ab\r\n";
    let (out, verdict) = let_out(&[reply], ReplyPlan::Names);
    assert_eq!(
        (&out[..], verdict),
        (&b"*2\r\n$0\r\n\r\n$2\r\nab\r\n"[..], None)
    );
}

proptest! {
    #[test]
    fn whatever_has_no_name_passes_as_it_is(
        text in "(a|\\{|\\}|:|/|k7m2x|flect\\.|\\{k7m2|7m2x|\r\n){0,40}",
        error in any::<bool>(),
        cuts in prop::collection::vec(0..200_usize, 0..6),
    ) {
        let reply = if error {
            format!("-{}\r\n", text.replace(['\r', '\n'], " "))
        } else {
            format!("${}\r\n{text}\r\n", text.len())
        };
        let bytes = reply.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let (out, verdict) = let_out(&pieces, ReplyPlan::Verbatim);
        if own().are_in(bytes) && !error {
            prop_assert!(verdict.is_some());
            prop_assert!(!own().are_in(&out));
        } else if verdict.is_none() && !error {
            prop_assert_eq!(out, bytes);
        } else {
            prop_assert!(!own().are_in(&out));
        }
    }
}
