//! What a server may declare, and what becomes of it.

use redis_protocol::resp2::types::OwnedFrame as F;

use super::*;

fn bulk(text: &str) -> F {
    F::BulkString(text.as_bytes().to_vec())
}

fn list(words: &str) -> F {
    F::Array(words.split_whitespace().map(bulk).collect())
}

fn fields(pairs: Vec<(&str, F)>) -> F {
    let flat = pairs
        .into_iter()
        .flat_map(|(name, value)| [bulk(name), value]);
    F::Array(flat.collect())
}

/// `index 1` or `keyword KEYS 2`, and `range LAST STEP LIMIT` or `keynum AT FIRST STEP`.
fn spec(flags: &str, begin: &str, find: &str) -> F {
    let number = |text: &str| F::Integer(text.parse().unwrap());
    let begin: Vec<&str> = begin.split(' ').collect();
    let begin_spec = match begin[..] {
        ["index", at] => fields(vec![("index", number(at))]),
        ["keyword", word, from] => {
            fields(vec![("keyword", bulk(word)), ("startfrom", number(from))])
        }
        _ => fields(vec![]),
    };
    let find: Vec<&str> = find.split(' ').collect();
    let find_spec = match find[..] {
        ["range", last, step, limit] => fields(vec![
            ("lastkey", number(last)),
            ("keystep", number(step)),
            ("limit", number(limit)),
        ]),
        ["keynum", at, first, step] => fields(vec![
            ("keynumidx", number(at)),
            ("firstkey", number(first)),
            ("keystep", number(step)),
        ]),
        _ => fields(vec![]),
    };
    let part = |kind: &str, spec: F| fields(vec![("type", bulk(kind)), ("spec", spec)]);
    fields(vec![
        ("flags", list(flags)),
        ("begin_search", part(begin[0], begin_spec)),
        ("find_keys", part(find[0], find_spec)),
    ])
}

fn described(name: &str, flags: &str, groups: &str, specs: Vec<F>) -> F {
    let zero = || F::Integer(0);
    F::Array(vec![
        bulk(name),
        F::Integer(-2),
        list(flags),
        zero(),
        zero(),
        zero(),
        list(groups),
        list(""),
        F::Array(specs),
        list(""),
    ])
}

/// The policy of one command that is described so. Learning replaces what was learnt, and tests run at
/// once, so each asks what would be kept.
fn judged(name: &str, entry: &F) -> (Policy, Names, Placement) {
    let definition = read(name, entry, false).unwrap();
    let command = keep(name, definition).unwrap();
    (command.policy, command.names, command.placement)
}

const SHARED: Placement = Placement::Shared;

#[test]
fn complete_key_specs_are_followed() {
    let one = || spec("RW access", "index 1", "range 0 1 0");
    for (specs, names) in [
        (vec![one()], Names::Specs),
        (vec![spec("RO", "index 2", "keynum 0 1 1")], Names::Specs),
        (
            vec![spec("RO", "keyword KEYS 2", "range -1 1 2")],
            Names::Keywords,
        ),
        (vec![one(), one(), one()], Names::Specs),
    ] {
        let judged = judged("m.a", &described("m.a", "write module", "@write", specs));
        assert_eq!(judged, (Policy::Rewrite, names, SHARED));
    }
    let (policy, _, placement) = judged(
        "m.wait",
        &described("M.WAIT", "blocking", "@slow", vec![one()]),
    );
    assert_eq!(
        (policy, placement),
        (Policy::Rewrite, Placement::Dedicated(Need::Blocking))
    );
}

#[test]
fn what_is_not_declared_is_refused_with_its_reason() {
    let one = || spec("RW", "index 1", "range 0 1 0");
    for (flags, groups, specs, why) in [
        ("write", "", vec![], NO_KEYS),
        ("write movablekeys", "", vec![], UNDECLARED),
        ("write movablekeys", "", vec![one()], UNDECLARED),
        (
            "",
            "",
            vec![spec("RO incomplete", "index 1", "range 0 1 0")],
            UNDECLARED,
        ),
        (
            "",
            "",
            vec![one(), spec("RO", "unknown", "unknown")],
            UNDECLARED,
        ),
        (
            "",
            "",
            vec![spec("RO", "keyword KEYS -1", "range -1 1 0")],
            UNDECLARED,
        ),
        (
            "",
            "",
            vec![spec("not_key", "index 1", "range 0 1 0")],
            UNDECLARED,
        ),
        (
            "",
            "",
            vec![spec("shiny", "index 1", "range 0 1 0")],
            UNDECLARED,
        ),
        ("", "", (0..4).map(|_| one()).collect(), UNDECLARED),
        ("admin", "", vec![one()], SERVERS),
        ("", "@dangerous", vec![one()], SERVERS),
        ("", "@transaction", vec![one()], SERVERS),
        ("shiny", "", vec![one()], UNREADABLE),
    ] {
        let (policy, names, _) = judged("m.b", &described("m.b", flags, groups, specs));
        assert_eq!(
            (policy, names),
            (Policy::Operator(why), Names::Never),
            "{flags} {groups}"
        );
    }
    let other = read("m.b", &described("m.c", "", "", vec![one()]), false).unwrap();
    assert_eq!(other.policy, Policy::Operator(UNREADABLE));
}

#[test]
fn learnt_commands_are_found_and_forgotten_again() {
    let one = || spec("RW access", "index 1", "range 0 1 0");
    let names = unknown([
        "get",
        "config|get",
        "t.get",
        "t.all",
        "t",
        "t|sub",
        "xinfo|new",
    ]);
    assert_eq!(names, ["t", "t.all", "t.get", "t|sub", "xinfo|new"]);
    let reply = F::Array(vec![
        described("t", "", "", vec![]),
        F::Null,
        described("t.get", "readonly", "", vec![one()]),
        described("t|sub", "", "", vec![spec("RO", "index 2", "range 0 1 0")]),
        described("xinfo|new", "", "", vec![]),
    ]);
    let learnt = learn(&names, &reply);
    assert_eq!(learnt.forwarded, ["t.get", "t|sub"]);
    assert_eq!(
        learnt.refused,
        [("t.all", UNREADABLE), ("xinfo|new", NO_KEYS)]
    );
    let known = |name: &[u8], sub: Option<&[u8]>| match super::super::lookup(name, sub) {
        super::super::Lookup::Known(command) => Some(command),
        _ => None,
    };
    let get = known(b"T.Get", Some(b"k")).unwrap();
    assert_eq!((get.name, get.policy), ("t.get", Policy::Rewrite));
    assert_eq!(known(b"T", Some(b"SUB")).unwrap().name, "t|sub");
    assert!(known(b"T", Some(b"OTHER")).is_none() && known(b"t|sub", None).is_none());
    assert_eq!(
        known(b"xinfo", Some(b"NEW")).unwrap().policy,
        Policy::Operator(NO_KEYS)
    );
    assert!(known(&[b't'; 100], None).is_none());
    assert_eq!(learn(&[], &F::Array(vec![])), Learnt::default());
    assert!(known(b"t.get", Some(b"k")).is_none());
    // The same definition is the same command.
    assert!(std::ptr::eq(
        get,
        keep(
            "t.get",
            read(
                "t.get",
                &described("t.get", "readonly", "", vec![one()]),
                false
            )
            .unwrap()
        )
        .unwrap()
    ));
}

/// Which arguments of a learnt command get the prefix.
fn prefixed(specs: Vec<F>, line: &str) -> String {
    let definition = read("m.r", &described("m.r", "", "", specs), false).unwrap();
    let command = keep("m.r", definition).unwrap();
    let bytes = format!("{line}\r\n").into_bytes();
    let mut scanner = crate::resp::request::RequestScanner::default();
    scanner.scan(&bytes).unwrap();
    let request = scanner.request(&bytes);
    if let Policy::Operator(why) = super::super::policy(command, &request) {
        return why.to_owned();
    }
    let namespace = crate::store::Prefix::parse("{s}").unwrap().namespace(0);
    let mut out = Vec::new();
    crate::rewrite::rewrite(command, &request, &namespace, &mut out);
    let text = String::from_utf8(out).unwrap();
    let words = text.split("\r\n").skip(2).step_by(2);
    words.collect::<Vec<_>>().join(" ").replace("{s}:", "~")
}

#[test]
fn learnt_keys_get_the_prefix() {
    let keys = |begin: &str, find: &str| vec![spec("RO", begin, find)];
    for (specs, line, expected) in [
        (
            keys("index 1", "range -1 2 0"),
            "m.r a 1 b 2",
            "m.r ~a 1 ~b 2",
        ),
        (
            keys("index 2", "range -1 1 2"),
            "m.r x a b 1 2",
            "m.r x ~a ~b 1 2",
        ),
        (
            keys("index 2", "keynum 0 1 1"),
            "m.r x 2 a b c",
            "m.r x 2 ~a ~b c",
        ),
        (
            keys("keyword KEYS 1", "range -1 1 0"),
            "m.r x keys a b",
            "m.r x keys ~a ~b",
        ),
        (
            keys("keyword KEYS 1", "range -1 1 2"),
            "m.r KEYS a b 1 2",
            "m.r KEYS ~a ~b 1 2",
        ),
        (
            keys("keyword KEYS 3", "range 0 1 0"),
            "m.r x y KEYS a b",
            "m.r x y KEYS ~a b",
        ),
        (
            keys("keyword KEYS 1", "keynum 0 1 1"),
            "m.r KEYS 1 a b",
            "m.r KEYS 1 ~a b",
        ),
        // The last argument is no keyword, and without one there are no keys.
        (
            keys("keyword KEYS 1", "range -1 1 0"),
            "m.r x KEYS",
            "m.r x KEYS",
        ),
        (
            [
                keys("index 1", "range 0 1 0"),
                keys("keyword STORE 2", "range 0 1 0"),
            ]
            .concat(),
            "m.r a x STORE b c",
            "m.r ~a x STORE ~b c",
        ),
        (
            keys("keyword KEYS 1", "range 0 1 0"),
            "m.r KEYS x keys other",
            "a word that its keys stand behind comes twice, so they cannot be told from values",
        ),
    ] {
        assert_eq!(prefixed(specs, line), expected, "{line}");
    }
}
