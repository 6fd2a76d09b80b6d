use super::super::{BLOCKED, MULTI, TRACKING};
use super::*;
use crate::clients::Shown;
use crate::environment::{Look, Named};

const V8_0: Version = Version { major: 8, minor: 0 };
const V8_1: Version = Version { major: 8, minor: 1 };
const V9_1: Version = Version { major: 9, minor: 1 };

fn read(release: Version, line: &str) -> Result<Filter, String> {
    let asked = Asked {
        release,
        databases: 16,
        is_user: &|user| user == b"default" || user == b"shop",
    };
    let words: Vec<&[u8]> = line.split(' ').skip(1).map(unquoted).collect();
    let filter = match line.split(' ').next() {
        Some("KILL") => Filter::kill(&words, &asked),
        _ => Filter::list(&words, &asked),
    };
    filter.map_err(|error| String::from_utf8(error).unwrap())
}

fn unquoted(word: &str) -> &[u8] {
    if word == "\"\"" { b"" } else { word.as_bytes() }
}

/// As the three servers answered.
#[test]
fn what_makes_no_sense_is_refused_in_the_servers_words() {
    let check = |release: Version, line: &str, expect: &str| {
        let got = read(release, line).err().unwrap_or_default();
        let expect = match expect {
            "" => String::new(),
            "syntax" => "-ERR syntax error\r\n".to_owned(),
            text => format!("-ERR {text}\r\n"),
        };
        assert_eq!(got, expect, "{line} on {release:?}");
    };
    for release in [V8_0, V8_1, V9_1] {
        check(release, "KILL anything", "");
        check(release, "KILL ID 0", "client-id should be greater than 0");
        check(release, "KILL ID -1", "client-id should be greater than 0");
        check(release, "KILL ID 1 x", "syntax");
        check(release, "KILL TYPE x", "Unknown client type 'x'");
        check(release, "KILL USER nobody", "No such user 'nobody'");
        check(release, "KILL USER shop SKIPME x", "syntax");
        check(
            release,
            "KILL MAXAGE x",
            "maxage is not an integer or out of range",
        );
        check(release, "KILL MAXAGE 0", "maxage should be greater than 0");
        check(release, "KILL FOO bar", "syntax");
        check(release, "KILL ID 1 TYPE", "syntax");
        check(release, "LIST TYPE x", "Unknown client type 'x'");
        check(release, "LIST ID", "syntax");
        check(release, "LIST FOO", "syntax");
    }
    check(V8_0, "KILL ID x", "client-id should be greater than 0");
    check(V8_0, "KILL ID 1 2", "syntax");
    check(V8_0, "LIST ID x", "Invalid client ID");
    check(V8_0, "LIST ID 0", "");
    check(V8_0, "LIST ADDR x", "syntax");
    for release in [V8_1, V9_1] {
        check(release, "KILL ID x", "syntax");
        check(release, "KILL ID 1 2 TYPE normal", "");
        check(release, "LIST ID 0", "client-id should be greater than 0");
        check(release, "LIST ID x", "syntax");
        check(release, "LIST USER nobody", "No such user 'nobody'");
        check(release, "LIST SKIPME yes MAXAGE 10", "");
    }
    for line in [
        "KILL NAME x",
        "KILL NOT-ID 1",
        "KILL IDLE 1",
        "KILL FLAGS P",
        "LIST IP x",
        "LIST DB 1",
        "LIST CAPA r",
    ] {
        check(V8_1, line, "syntax");
        check(V9_1, line, "");
    }
    check(V9_1, "KILL DB x", "DB is not an integer or out of range");
    check(V9_1, "KILL DB 16", "DB number should be between 0 and 15");
    check(
        V9_1,
        "KILL FLAGS xQ",
        "Unknown flags found in the provided filter: xQ",
    );
    check(
        V9_1,
        "KILL CAPA q",
        "Unknown capa found in the provided filter: q",
    );
    check(V9_1, "KILL IDLE 0", "idle should be greater than 0");
    check(V9_1, "KILL NOT-USER x", "No such user 'x'");
    for line in ["KILL NOT-MAXAGE 3", "KILL NOT-IDLE 3", "KILL NOT-SKIPME no"] {
        check(V9_1, line, "syntax");
    }
}

fn with_client(asks: bool, what: impl FnOnce(&Client<'_>)) {
    let named = Named {
        name: b"worker".to_vec(),
        user: b"shop".to_vec(),
        database: 3,
        protocol: 2,
        ..Named::default()
    };
    let look = Look {
        flags: MULTI | BLOCKED,
        queued: 2,
        ..crate::environment::Live::default().look()
    };
    let entry = crate::worker::entry_for_tests(7, "10.0.0.5:4000", "10.0.0.1:6379");
    what(&Client {
        entry: &entry,
        named: &named,
        look: &look,
        asks,
        age_seconds: 20,
        idle_seconds: 5,
    });
}

#[test]
fn filters_choose_who_fits_all_of_them() {
    let check = |line: &str, expect: bool| {
        let filter = read(V9_1, line).unwrap();
        with_client(false, |client| {
            assert_eq!(filter.matches(client), expect, "{line}")
        });
    };
    check("KILL 10.0.0.5:4000", true);
    check("KILL 10.0.0.5:4001", false);
    for (line, expect) in [
        ("ID 7", true),
        ("ID 1 7 9", true),
        ("ID 1 ID 7", true),
        ("ID 1", false),
        ("NOT-ID 1 7", false),
        ("TYPE normal", true),
        ("TYPE pubsub", false),
        ("NOT-TYPE replica", true),
        ("ADDR 10.0.0.5:4000 LADDR 10.0.0.1:6379", true),
        ("ADDR 10.0.0.5:4000 LADDR 10.0.0.2:6379", false),
        ("IP 10.0.0.5", true),
        ("NOT-IP 10.0.0.5", false),
        ("USER shop", true),
        ("USER default", false),
        ("DB 3 NAME worker", true),
        ("NOT-DB 3", false),
        ("NAME other", false),
        ("LIB-NAME \"\"", false),
        ("NOT-LIB-NAME \"\"", true),
        ("FLAGS x", true),
        ("FLAGS xb", true),
        ("FLAGS xbt", false),
        ("FLAGS \"\"", true),
        ("NOT-FLAGS xt", true),
        ("NOT-FLAGS x", false),
        ("NOT-FLAGS \"\"", false),
        ("CAPA r", false),
        ("NOT-CAPA r", true),
        ("MAXAGE 20 IDLE 5", true),
        ("MAXAGE 21", false),
        ("IDLE 6", false),
    ] {
        check(&format!("KILL {line} SKIPME yes"), expect);
        check(&format!("LIST {line}"), expect);
    }
}

#[test]
fn who_asks_is_spared_only_by_the_new_form_of_kill() {
    let check = |line: &str, expect: bool| {
        let filter = read(V9_1, line).unwrap();
        with_client(true, |client| {
            assert_eq!(filter.matches(client), expect, "{line}")
        });
    };
    check("KILL 10.0.0.5:4000", true);
    check("KILL ID 7", false);
    check("KILL ID 7 SKIPME no", true);
    check("LIST ID 7", true);
    check("LIST ID 7 SKIPME yes", false);
}

#[test]
fn lines_say_what_their_server_says() {
    let line = |release: Version| {
        let mut out = String::new();
        let shown = Shown {
            release,
            argument_bytes: 10,
        };
        with_client(true, |client| super::super::line(client, shown, &mut out));
        out
    };
    assert_eq!(
        line(V8_0),
        "id=7 addr=10.0.0.5:4000 laddr=10.0.0.1:6379 fd=14 name=worker age=20 idle=5 flags=xb db=3 sub=0 psub=0 ssub=0 multi=2 watch=0 qbuf=0 qbuf-free=0 argv-mem=10 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=1930 events=r cmd=NULL user=shop redir=-1 resp=2 lib-name= lib-ver= tot-net-in=0 tot-net-out=0 tot-cmds=0\n"
    );
    assert!(line(V8_1).contains(" flags=xb capa= db=3 "));
    assert_eq!(super::super::letters(0), "N");
    assert_eq!(super::super::letters(TRACKING), "t");
}
