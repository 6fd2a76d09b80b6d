//! Requests: properties over hostile arguments.

use proptest::prelude::*;

use super::model;
use super::*;

/// Words that some command understands, in the spellings that a server takes for the same, numbers, and
/// names.
fn arg() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"streams",
        b"STREAMS",
        b"Streams\0x",
        b"block",
        b"count",
        b"group",
        b"noack",
        b"store",
        b"STORE\0",
        b"storedist",
        b"by",
        b"get",
        b"limit",
        b"asc",
        b"alpha",
        b"withdist",
        b"any",
        b"#",
        b"#\0",
        b"nosort",
        b"w_*->f",
        b"replace",
        b"db",
        b"bcast",
        b"prefix",
        b"redirect",
        b"optin",
        b"0",
        b"1",
        b"2",
        b"3",
        b"-1",
        b"2 ",
        b"x2",
        b"9999999999",
        b"",
        b"a",
        b"b",
        b"{t}:foreign",
        b"{s}:own",
        b"\r\n",
        b"k\xff\0",
    ];
    prop_oneof![
        20 => prop::sample::select(words.iter().map(|word| word.to_vec()).collect::<Vec<_>>()),
        1 => prop::collection::vec(any::<u8>(), 0..10),
        1 => Just(vec![b'x'; words::WORD_BYTES_MAX + 1]),
        1 => Just([b"STREAMS\0".to_vec(), vec![b'x'; words::WORD_BYTES_MAX]].concat()),
    ]
}

/// A forwarded command, one with options more often, and any arguments.
fn request() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let of = |intricate: bool| -> Vec<&'static str> {
        commands::all()
            .iter()
            .filter(|command| command.policy == Policy::Rewrite && !command.container)
            .filter(|command| {
                !intricate
                    || !matches!(command.names, Names::None)
                        && (command.names != Names::Specs
                            || command.flags.has(commands::Flags::MOVABLEKEYS))
            })
            .map(|command| command.name)
            .collect()
    };
    let name = prop_oneof![
        prop::sample::select(of(true)),
        prop::sample::select(of(false))
    ];
    (name, prop::collection::vec(arg(), 0..10)).prop_map(|(name, args)| {
        name.split('|')
            .map(|word| word.as_bytes().to_vec())
            .chain(args)
            .collect()
    })
}

fn stream(input: &[u8], args: &[Vec<u8>], cuts: &[usize], discard: bool) -> Vec<u8> {
    let mut rewriter = if discard {
        StreamRewriter::discard(args.len())
    } else {
        StreamRewriter::begin(command(args), args.len())
    };
    let mut out = Vec::new();
    let mut start = 0;
    let mut done = false;
    for end in cuts.iter().copied().chain([input.len()]) {
        let advance = rewriter
            .advance(
                &input[start..end.clamp(start, input.len())],
                &namespace(0),
                &mut out,
            )
            .unwrap();
        start += advance.consumed;
        done = advance.done;
    }
    assert!(done, "{start} of {}", input.len());
    assert_eq!(start, input.len());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The server's own reading of what leaves finds no key without the prefix.
    #[test]
    fn no_key_leaves_without_the_prefix(args in request(), database in 0u32..3) {
        let namespace = namespace(database);
        let command = command(&args);
        let out = decode(&rewritten(&args, &namespace));
        let names = model::names(command, &out);
        for name in &names.keys {
            prop_assert!(out[*name].starts_with(namespace.keys()), "{args:?} -> {out:?}: {name}");
        }
        for name in &names.channels {
            prop_assert!(out[*name].starts_with(namespace.channels()), "{args:?} -> {out:?}: {name}");
        }
        // Nothing else is changed: each argument is the old one, or the old one with the prefix.
        if command.names != Names::Tracking {
            prop_assert_eq!(out.len(), args.len());
        }
        for (new, old) in out.iter().zip(&args) {
            let stripped = new.strip_prefix(namespace.keys()).or(new.strip_prefix(namespace.channels()));
            prop_assert!(new == old || stripped == Some(old), "{args:?} -> {out:?}");
        }
        // And the server finds names where it would have found them in the client's own request: no
        // request that it understands is spoilt. (Words in front of 4 KiB, and redirections, are.)
        let spoilt = args.iter().any(|arg| arg.len() > words::WORD_BYTES_MAX);
        if !spoilt && command.names != Names::Tracking {
            prop_assert_eq!(model::names(command, &args), names);
        }
    }

    #[test]
    fn streaming_changes_nothing(args in request(), cuts in prop::collection::vec(0usize..9000, 0..8)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        if commands::streamable(command(&args)) {
            let mut input = Vec::new();
            encode::request(&args, &mut input);
            let whole = rewritten(&args, &namespace(0));
            prop_assert_eq!(&stream(&input, &args, &cuts, false), &whole);
            if input.len() < 300 {
                let every: Vec<usize> = (0..input.len()).collect();
                prop_assert_eq!(&stream(&input, &args, &every, false), &whole);
            }
            prop_assert!(stream(&input, &args, &cuts, true).is_empty());
        }
    }
}
