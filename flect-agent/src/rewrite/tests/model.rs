//! How a server finds names, written a second time: after the C sources, over all arguments at once,
//! and knowing nothing of prefixes.
//!
//! Invariant: shares no code with the classifier.

use crate::commands::{Begin, Command, Find};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) keys: Vec<usize>,
    pub(super) channels: Vec<usize>,
}

/// The places of names in `argv`; none when the command ends in a syntax error before it looks at any.
pub(super) fn names(command: &Command, argv: &[Vec<u8>]) -> Names {
    let argc = argv.len();
    let mut names = Names::default();
    if !command.accepts(argc) {
        return names;
    }
    match command.name {
        "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe"
        | "sunsubscribe" => {
            names.channels = (1..argc).collect();
        }
        "publish" | "spublish" => names.channels = vec![1],
        "pubsub|numsub" | "pubsub|shardnumsub" => names.channels = (2..argc).collect(),
        "sort" => names.keys = sort(argv, true),
        "sort_ro" => names.keys = sort(argv, false),
        "georadius" => names.keys = georadius(argv, 6),
        "georadiusbymember" => names.keys = georadius(argv, 5),
        "xread" => names.keys = xread(argv, false),
        "xreadgroup" => names.keys = xread(argv, true),
        "client|tracking" => names.keys = tracking(argv),
        _ => names.keys = key_specs(command, argv),
    }
    names
}

fn strcasecmp(arg: &[u8], word: &str) -> bool {
    let end = arg.iter().position(|byte| *byte == 0).unwrap_or(arg.len());
    arg[..end].to_ascii_lowercase() == word.as_bytes()
}

fn sort(argv: &[Vec<u8>], can_store: bool) -> Vec<usize> {
    let mut keys = vec![1];
    let mut j = 2;
    while j < argv.len() {
        let left = argv.len() - j - 1;
        let is = |word| strcasecmp(&argv[j], word);
        if is("asc") || is("desc") || is("alpha") {
        } else if is("limit") && left >= 2 {
            j += 2;
        } else if (is("by") || (can_store && is("store"))) && left >= 1 {
            keys.push(j + 1);
            j += 1;
        } else if is("get") && left >= 1 {
            if argv[j + 1] != b"#" {
                keys.push(j + 1);
            }
            j += 1;
        } else {
            return vec![];
        }
        j += 1;
    }
    keys
}

fn georadius(argv: &[Vec<u8>], base: usize) -> Vec<usize> {
    let mut keys = vec![1];
    let mut i = base;
    while i < argv.len() {
        let is = |word| strcasecmp(&argv[i], word);
        let next = i + 1 < argv.len();
        if ["withdist", "withhash", "withcoord", "any", "asc", "desc"]
            .iter()
            .any(|word| is(word))
        {
        } else if is("count") && next {
            i += 1;
        } else if (is("store") || is("storedist")) && next {
            keys.push(i + 1);
            i += 1;
        } else {
            return vec![];
        }
        i += 1;
    }
    keys
}

fn xread(argv: &[Vec<u8>], xreadgroup: bool) -> Vec<usize> {
    let mut i = 1;
    while i < argv.len() {
        let more = argv.len() - i - 1;
        let is = |word| strcasecmp(&argv[i], word);
        if (is("block") || is("count")) && more > 0 {
            i += 1;
        } else if is("streams") && more > 0 {
            let first = i + 1;
            let count = argv.len() - first;
            return if count.is_multiple_of(2) {
                (first..first + count / 2).collect()
            } else {
                vec![]
            };
        } else if is("group") && more >= 2 {
            if !xreadgroup {
                return vec![];
            }
            i += 2;
        } else if is("noack") {
            if !xreadgroup {
                return vec![];
            }
        } else {
            return vec![];
        }
        i += 1;
    }
    vec![]
}

fn tracking(argv: &[Vec<u8>]) -> Vec<usize> {
    let mut prefixes = vec![];
    let mut bcast = false;
    let mut j = 3;
    while j < argv.len() {
        let more = argv.len() - 1 - j;
        let is = |word| strcasecmp(&argv[j], word);
        if is("redirect") && more > 0 {
            j += 1;
        } else if is("bcast") {
            bcast = true;
        } else if is("optin") || is("optout") || is("noloop") {
        } else if is("prefix") && more > 0 {
            j += 1;
            // The whole store, in all its databases, is a beginning of its own.
            if argv[j] != b"{s}" {
                prefixes.push(j);
            }
        } else {
            return vec![];
        }
        j += 1;
    }
    if bcast { prefixes } else { vec![] }
}

/// `getKeysUsingKeySpecs`.
fn key_specs(command: &Command, argv: &[Vec<u8>]) -> Vec<usize> {
    let argc = argv.len();
    let mut keys = vec![];
    for spec in command.keys {
        let Begin::Index(first) = spec.begin else {
            panic!("{}", command.name);
        };
        let mut first = usize::from(first);
        let (last, step) = match spec.find {
            Find::Range { last, step, .. } if last >= 0 => (first + last as usize, step),
            Find::Range { last, step, .. } => {
                let Some(last) = argc.checked_sub(usize::from(last.unsigned_abs())) else {
                    return vec![];
                };
                (last, step)
            }
            Find::Keynum {
                at,
                first: offset,
                step,
            } => {
                let Some(number) = argv.get(first + usize::from(at)) else {
                    return vec![];
                };
                let text = std::str::from_utf8(number).unwrap_or("");
                let Ok(number) = text.parse::<i64>() else {
                    return vec![];
                };
                if number.to_string() != text || number <= 0 || number > 1000 {
                    // EVAL without keys, or an error.
                    continue;
                }
                first += usize::from(offset);
                // The commands themselves check the number of arguments.
                (first + (number as usize - 1) * usize::from(step), step)
            }
            Find::Unknown => panic!("{}", command.name),
        };
        if last >= argc {
            return vec![];
        }
        keys.extend((first..=last).step_by(usize::from(step)));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}
