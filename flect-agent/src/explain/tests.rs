//! Explanations: tables, and the property that they say what the agent does.

use proptest::prelude::*;

use super::*;
use crate::commands::Names;

fn place() -> Place {
    Place {
        prefix: Prefix::parse("{s}").unwrap(),
        database: 0,
    }
}

/// The explanation in one line: policy, connection, what is sent with `[added]` marked, the error.
fn short(text: &str) -> String {
    let Some(explained) = line(text.as_bytes(), &place()).unwrap() else {
        return "nothing".to_owned();
    };
    let sent: Vec<String> = explained
        .sent
        .iter()
        .map(|argument| {
            let own = String::from_utf8_lossy(&argument.own).into_owned();
            match String::from_utf8_lossy(&argument.added).as_ref() {
                "" => own,
                added => format!("[{added}]{own}"),
            }
        })
        .collect();
    let error = explained
        .error
        .map(|error| format!(" ! {error}"))
        .unwrap_or_default();
    format!(
        "{} {}: {}{error}",
        explained.policy,
        explained.connection,
        sent.join(" ")
    )
}

#[test]
fn every_policy_is_explained() {
    for (text, expect) in [
        ("SET a b", "rewrite shared: SET [{s}:]a b"),
        ("set 'a b' \"c\\x20d\"", "rewrite shared: set [{s}:]a b c d"),
        ("PING", "rewrite shared: PING"),
        ("BLPOP q 0", "rewrite own: BLPOP [{s}:]q 0"),
        (
            "XREAD COUNT 1 STREAMS a b 0 0",
            "rewrite shared: XREAD COUNT 1 STREAMS [{s}:]a [{s}:]b 0 0",
        ),
        (
            "XREAD BLOCK 0 STREAMS a 0",
            "rewrite own: XREAD BLOCK 0 STREAMS [{s}:]a 0",
        ),
        ("SUBSCRIBE news", "rewrite own: SUBSCRIBE [{s}:]news"),
        (
            "CLIENT TRACKING ON BCAST",
            "rewrite own: CLIENT TRACKING ON BCAST [PREFIX] [{s}]",
        ),
        ("SORT a", "rewrite shared: SORT [{s}:]a"),
        ("SORT a BY w_*", "scoped agent: SORT [{s}:]a BY [{s}:]w_*"),
        (
            "KEYS user:*",
            "scoped agent: SCAN 0 MATCH [{s}:]user:* COUNT 1000",
        ),
        (
            "SCAN 7 MATCH x* COUNT 5",
            "scoped agent: SCAN 7 MATCH [{s}:]x* COUNT 5",
        ),
        ("FLUSHALL", "scoped agent: SCAN 0 MATCH [{s}]* COUNT 1000"),
        ("MOVE a 3", "scoped agent: RENAMENX [{s}:]a [{s}]/3:a"),
        (
            "COPY a b DB 2 REPLACE",
            "scoped agent: COPY [{s}:]a [{s}]/2:b REPLACE",
        ),
        ("PUBSUB NUMPAT", "scoped none: "),
        ("MOVE a 16", "scoped none:  ! ERR DB index is out of range"),
        ("SCAN x", "scoped none:  ! ERR invalid cursor"),
        ("FLUSHDB NOW", "scoped none:  ! ERR syntax error"),
        ("SELECT 3", "local none: "),
        ("CONFIG SET a b", "scoped agent: CONFIG GET a"),
        (
            "REPLICAOF no one",
            "operator none:  ! NOPERM REPLICAOF is not available in a store: whose copy the server is concerns all its stores; ask the operator of this Valkey",
        ),
        (
            "GET",
            "rewrite shared: GET ! ERR wrong number of arguments for 'get' command",
        ),
        (
            "KEYS",
            "scoped none:  ! ERR wrong number of arguments for 'keys' command",
        ),
        (
            "CONFIG",
            "unknown none:  ! ERR wrong number of arguments for 'config' command",
        ),
        (
            "CONFIG NOPE",
            "unknown none:  ! ERR unknown subcommand 'NOPE'. Try CONFIG HELP.",
        ),
        (
            "JSON.GET a",
            "unknown none:  ! ERR unknown command 'JSON.GET', with args beginning with: 'a'",
        ),
        ("POST /", "unknown none: "),
        ("  ", "nothing"),
    ] {
        assert_eq!(short(text), expect, "{text}");
    }
    assert!(line(b"SET 'a", &place()).is_err());
    // A line is words, never the binary protocol.
    assert_eq!(
        short("*1"),
        "unknown none:  ! ERR unknown command '*1', with args beginning with:"
    );
}

#[test]
fn examples_of_replies_lose_the_prefix() {
    let example = |text: &str| line(text.as_bytes(), &place()).unwrap().unwrap().example;
    let pop = example("BLPOP q 0").unwrap();
    assert_eq!(
        (&*pop.server, &*pop.app),
        ("[\"{s}:q\", \"value\"]", "[\"q\", \"value\"]")
    );
    let read = example("XREAD STREAMS a 0").unwrap();
    assert_eq!(read.app, "[[\"a\", [[\"1-0\", [\"field\", \"value\"]]]]]");
    let heard = example("PSUBSCRIBE n*").unwrap();
    assert_eq!(heard.server, "[\"psubscribe\", \"{s}:n*\", 1]");
    assert_eq!(heard.app, "[\"psubscribe\", \"n*\", 1]");
    assert_eq!(example("GET a"), None);
}

#[test]
fn every_command_of_the_table_has_an_explanation() {
    let alone = |command: &&Command| !command.container || command.accepts(1);
    for command in commands::all().iter().filter(alone) {
        let mut words: Vec<Vec<u8>> = command
            .name
            .split('|')
            .map(|w| w.as_bytes().to_vec())
            .collect();
        while !command.accepts(words.len()) {
            words.push(b"1".to_vec());
        }
        let explained = super::words(&words, &place()).unwrap();
        assert_eq!(explained.command, name(command));
        let complete = !explained.reason.is_empty() && !explained.reply.is_empty();
        assert!(
            complete && !explained.connection.is_empty(),
            "{explained:?}"
        );
        for text in [
            &explained.reason,
            &explained.reply,
            &explained.connection_reason,
        ] {
            assert!(!text.contains("  "), "{text}");
        }
    }
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "a", "{s}:a", "1", "2", "0", "-1", "streams", "BY", "GET", "STORE", "DB", "REPLACE", "block", "bcast", "PREFIX", "", "*", "#", "on",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

fn any_request() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let names: Vec<&'static str> = commands::all().iter().map(|command| command.name).collect();
    let name = prop_oneof![
        9 => prop::sample::select(names).prop_map(str::to_owned),
        1 => "[a-z]{1,8}",
    ];
    (name, prop::collection::vec(argument(), 0..7)).prop_map(|(name, arguments)| {
        let words = name.split('|').map(|word| word.as_bytes().to_vec());
        words.chain(arguments).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is said to be sent is what the rewriter sends, byte for byte; without what is said to be
    /// added it is what the app sent.
    #[test]
    fn explanations_are_true(args in any_request(), database in 0u32..3) {
        let place = Place { database, ..place() };
        let explained = super::words(&args, &place).unwrap();
        let whole: Vec<Vec<u8>> = explained.sent.iter().map(|a| [&*a.added, &*a.own].concat()).collect();
        let mut bytes = Vec::new();
        encode::request(&args, &mut bytes);
        let mut scanner = RequestScanner::default();
        scanner.scan(&bytes).unwrap();
        let request = scanner.request(&bytes);
        let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
            prop_assert_eq!(explained.policy, UNKNOWN);
            prop_assert!(whole.is_empty());
            return Ok(());
        };
        let policy = commands::policy(command, &request);
        prop_assert_eq!(explained.policy, policy_name(policy));
        match policy {
            Policy::Rewrite => {
                let namespace = place.prefix.namespace(database);
                let mut rewritten = Vec::new();
                rewrite::rewrite(command, &request, &namespace, &mut rewritten);
                let mut said = Vec::new();
                encode::request(&whole, &mut said);
                prop_assert_eq!(said, rewritten);
                if command.names != Names::Tracking {
                    let own: Vec<Vec<u8>> = explained.sent.iter().map(|a| a.own.clone()).collect();
                    prop_assert_eq!(own, args);
                }
                let alone = commands::placement(command, &request) != Placement::Shared;
                prop_assert_eq!(explained.connection == "own", alone);
                prop_assert_eq!(explained.error.is_some(), !command.accepts(request.argc()));
            }
            Policy::Operator(why) if command.accepts(request.argc()) => {
                prop_assert!(whole.is_empty());
                prop_assert!(explained.error.unwrap().contains(why));
            }
            Policy::Operator(_) | Policy::Local(_) => prop_assert!(whole.is_empty()),
            // Whatever the agent asks for the store is about the store.
            Policy::Scoped(_) => for argument in &whole {
                let foreign = argument.starts_with(b"{") && !argument.starts_with(b"{s}");
                prop_assert!(!foreign || args.contains(argument), "{:?}", explained);
            },
        }
    }
}
