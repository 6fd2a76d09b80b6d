//! The table as a whole, lookups, and Valkey's words.

use proptest::prelude::*;

use super::*;

fn name_of(lookup: Lookup) -> Option<&'static str> {
    match lookup {
        Lookup::Known(command) => Some(command.name),
        _ => None,
    }
}

#[test]
fn every_command_is_found_by_its_name_in_any_case() {
    for command in all() {
        let (name, subcommand) = match command.name.split_once('|') {
            Some((name, subcommand)) => (name, Some(subcommand)),
            None => (command.name, None),
        };
        for change in [str::to_ascii_lowercase, str::to_ascii_uppercase] {
            let subcommand = subcommand.map(change);
            let found = lookup(
                change(name).as_bytes(),
                subcommand.as_deref().map(str::as_bytes),
            );
            match found {
                Lookup::Known(found) | Lookup::MissingSubcommand(found) => {
                    assert_eq!(found.name, command.name);
                }
                other => panic!("{}: {other:?}", command.name),
            }
        }
    }
    assert!(all().is_sorted_by_key(|command| command.name));
}

#[test]
fn what_is_unknown_is_said_to_be() {
    assert!(
        matches!(lookup(b"GET", Some(b"anything")), Lookup::Known(command) if command.name == "get")
    );
    assert!(
        matches!(lookup(b"COMMAND", None), Lookup::Known(command) if command.name == "command")
    );
    assert!(
        matches!(lookup(b"CONFIG", None), Lookup::MissingSubcommand(command) if command.name == "config")
    );
    assert!(
        matches!(lookup(b"config", Some(b"nope")), Lookup::UnknownSubcommand(command) if command.name == "config")
    );
    for unknown in [
        &b"nope"[..],
        b"",
        b"GET\0",
        b"GET ",
        b"xgroup|create",
        b"G\xc5T",
        b"get|",
        &[b'x'; 100_000],
    ] {
        assert!(
            matches!(lookup(unknown, Some(b"create")), Lookup::UnknownCommand),
            "{unknown:?}"
        );
    }
    assert!(matches!(
        lookup(b"xgroup", Some(b"")),
        Lookup::UnknownSubcommand(_)
    ));
    assert!(matches!(
        lookup(b"xgroup", Some(b"create|")),
        Lookup::UnknownSubcommand(_)
    ));
}

#[test]
fn containers_are_known_from_their_subcommands() {
    let containers: Vec<_> = all()
        .iter()
        .filter(|command| command.container)
        .map(|command| command.name)
        .collect();
    assert_eq!(
        containers,
        [
            "acl",
            "client",
            "cluster",
            "command",
            "commandlog",
            "config",
            "function",
            "latency",
            "memory",
            "module",
            "object",
            "pubsub",
            "script",
            "slowlog",
            "xgroup",
            "xinfo"
        ]
    );
}

/// Counts of Valkey 8.0.1, 8.1.1 and 9.1.2.
#[test]
fn each_server_has_its_commands() {
    let known = |major, minor| {
        all()
            .iter()
            .filter(|command| command.since <= Version { major, minor })
            .count()
    };
    assert_eq!((known(8, 0), known(8, 1), known(9, 1)), (373, 379, 399));
}

#[test]
fn arities_are_the_servers() {
    let accepts = |name: &str, argc| match lookup(name.as_bytes(), None) {
        Lookup::Known(command) => command.accepts(argc),
        other => panic!("{other:?}"),
    };
    assert!(accepts("get", 2) && !accepts("get", 1) && !accepts("get", 3));
    assert!(accepts("set", 3) && accepts("set", 9) && !accepts("set", 2));
    assert_eq!(name_of(lookup(b"ping", None)), Some("ping"));
}

/// Each reply as Valkey 8.0.1 and 9.1.2 gave it.
#[test]
fn errors_are_valkeys() {
    let check = |args: &[&[u8]], expect: &str| {
        let text = unknown_command_error(args.iter().copied());
        assert_eq!(String::from_utf8_lossy(&text), expect);
    };
    check(
        &[b"foo"],
        "-ERR unknown command 'foo', with args beginning with: \r\n",
    );
    check(
        &[b"foo", b"bar", b""],
        "-ERR unknown command 'foo', with args beginning with: 'bar' '' \r\n",
    );
    check(
        &[b"foo", b"a\r\nb\0c"],
        "-ERR unknown command 'foo', with args beginning with: 'a  b' \r\n",
    );
    check(
        &[b"f\0o"],
        "-ERR unknown command 'f', with args beginning with: \r\n",
    );
    check(
        &[b""],
        "-ERR unknown command '', with args beginning with: \r\n",
    );
    let long = [b'x'; 200];
    check(
        &[&long],
        &format!(
            "-ERR unknown command '{}', with args beginning with: \r\n",
            "x".repeat(128)
        ),
    );
    check(
        &[b"foo", &long, b"y"],
        &format!(
            "-ERR unknown command 'foo', with args beginning with: '{}' \r\n",
            "x".repeat(128)
        ),
    );
    check(
        &[b"foo", &long[..100], &long, b"y"],
        &format!(
            "-ERR unknown command 'foo', with args beginning with: '{}' '{}' \r\n",
            "x".repeat(100),
            "x".repeat(25)
        ),
    );
    let subcommand = |container: &[u8], subcommand: &[u8]| {
        String::from_utf8(unknown_subcommand_error(container, subcommand)).unwrap()
    };
    assert_eq!(
        subcommand(b"config", b"foo"),
        "-ERR unknown subcommand 'foo'. Try CONFIG HELP.\r\n"
    );
    assert_eq!(
        subcommand(b"XGroup", b"f\no\0x"),
        "-ERR unknown subcommand 'f o'. Try XGROUP HELP.\r\n"
    );
    let arity = |name: &[u8], subcommand| match lookup(name, subcommand) {
        Lookup::Known(command) | Lookup::MissingSubcommand(command) => {
            String::from_utf8(arity_error(command)).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        arity(b"GET", None),
        "-ERR wrong number of arguments for 'get' command\r\n"
    );
    assert_eq!(
        arity(b"XGROUP", Some(b"CREATE")),
        "-ERR wrong number of arguments for 'xgroup|create' command\r\n"
    );
    assert_eq!(
        arity(b"CONFIG", None),
        "-ERR wrong number of arguments for 'config' command\r\n"
    );
}

#[test]
fn refusals_say_why_and_who_can() {
    let Lookup::Known(command) = lookup(b"replicaof", None) else {
        panic!("no REPLICAOF")
    };
    let Policy::Operator(why) = command.policy else {
        panic!("{:?}", command.policy)
    };
    assert_eq!(
        String::from_utf8(refusal(command, why)).unwrap(),
        "-NOPERM REPLICAOF is not available in a store: whose copy the server is concerns all its stores; ask the operator of this Valkey\r\n"
    );
}

#[test]
fn browsers_are_known_by_their_first_word() {
    assert!(is_cross_protocol(b"POST") && is_cross_protocol(b"host:"));
    assert!(!is_cross_protocol(b"GET") && !is_cross_protocol(b"host"));
}

/// A wrong policy would be a hole; these are the ones that would be the widest.
#[test]
fn nothing_server_wide_is_forwarded() {
    for name in [
        "keys",
        "scan",
        "randomkey",
        "dbsize",
        "flushdb",
        "flushall",
        "swapdb",
        "move",
        "monitor",
        "debug",
        "sync",
        "psync",
        "replconf",
        "migrate",
        "config|set",
        "acl|setuser",
        "acl|log",
        "function|load",
        "fcall",
        "client|list",
        "client|kill",
        "pubsub|channels",
        "slowlog|get",
        "commandlog|get",
        "cluster|getkeysinslot",
        "clusterscan",
        "script|flush",
        "info",
        "shutdown",
        "replicaof",
        "failover",
        "module|load",
        "restore-asking",
        "select",
        "auth",
        "hello",
        "reset",
        "quit",
        "client|reply",
        "client|setname",
    ] {
        let command = all().iter().find(|command| command.name == name).unwrap();
        assert_ne!(command.policy, Policy::Rewrite, "{name}");
        assert_eq!(command.names, Names::Never, "{name}");
    }
    // And whatever the server itself calls administrative.
    for command in all()
        .iter()
        .filter(|command| command.flags.has(Flags::ADMIN))
    {
        let harmless = ["module|list"];
        assert!(
            command.policy != Policy::Rewrite || harmless.contains(&command.name),
            "{}",
            command.name
        );
    }
}

/// A command that may wait, or changes its connection, never travels with others.
#[test]
fn connections_are_shared_by_commands_that_leave_nothing_there() {
    for command in all()
        .iter()
        .filter(|command| command.policy == Policy::Rewrite)
    {
        let by_arguments = matches!(command.names, Names::Xread { .. });
        let waits = command.flags.has(Flags::BLOCKING) && !by_arguments;
        let shared = command.placement == Placement::Shared;
        assert!(!(waits && shared), "{}", command.name);
        if command.reply == ReplyShape::Pubsub {
            assert_eq!(
                command.placement,
                Placement::Dedicated(Need::Subscription),
                "{}",
                command.name
            );
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_looked_up(name in prop::collection::vec(any::<u8>(), 0..30), subcommand in prop::option::of(prop::collection::vec(any::<u8>(), 0..30))) {
        let found = lookup(&name, subcommand.as_deref());
        if let Lookup::Known(command) = found {
            let full = command.name.as_bytes();
            prop_assert!(full[..name.len()].eq_ignore_ascii_case(&name));
        }
        let args = [&name[..]].into_iter().chain(subcommand.as_deref());
        let error = unknown_command_error(args);
        prop_assert!(error.ends_with(b"\r\n") && error.len() < 512);
        prop_assert!(!error[..error.len() - 2].contains(&b'\n'));
    }
}
