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
        (vec![one(), one(), one(), one()], Names::Specs),
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
        ("", "", vec![one(); 5], UNDECLARED),
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
