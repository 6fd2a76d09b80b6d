//! The command table as the shim reads it.
//!
//! Invariant: made of the table that requests are rewritten by, so the two cannot drift; what is not
//! in it goes to the server as the script said it, whose ACL then decides.
//!
//! Each is `;name:code`. Key specs are `first.last.step`, or `#at.first.step` behind a number of keys, and
//! `1` where the first argument is the only key; words are functions of the shim, with the least number
//! of arguments; after `>` comes how to read the reply.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use crate::commands::{
    self, Begin, Command, Find, Flags, KeySpec, Local, Lookup, Names, Policy, ReplyShape, Scoped,
    Version,
};

/// All commands that hold names, with their codes.
static CODES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let coded = |command: &'static Command| Some((command.name, code(command)?));
    everything().filter_map(coded).collect()
});

/// The same as one text, for names that a script makes up as it goes.
pub(super) static COMMANDS: LazyLock<String> = LazyLock::new(|| {
    everything()
        .filter_map(|command| Some(format!(";{}:{}", command.name, CODES.get(command.name)?)))
        .chain([";".to_owned()])
        .collect()
});

/// Commands that change nothing, in the same form: a script that has run no others may begin anew.
pub(super) static READS: LazyLock<String> = LazyLock::new(|| {
    commands::all()
        .iter()
        .filter(|command| command.flags.has(Flags::READONLY))
        .map(|command| command.name)
        .chain(["time", "ping", "echo", "select"])
        .map(|name| format!(";{name}"))
        .chain([";".to_owned()])
        .collect()
});

/// Whether a script's string is the name of a command that may change something.
pub(super) fn writes(word: &[u8]) -> bool {
    matches!(commands::lookup(word, None), Lookup::Known(command) if command.flags.has(Flags::WRITE))
        || word.eq_ignore_ascii_case(b"xgroup")
}

/// The table's commands, and what had been learnt by the first script. A command that comes later is not
/// known to scripts, and its keys there have no prefix: the server refuses them.
fn everything() -> impl Iterator<Item = &'static Command> {
    let has = |command: &&Command| {
        RELEASE
            .get()
            .is_none_or(|release| command.since <= *release)
    };
    commands::all().iter().filter(has).chain(commands::learnt())
}

static RELEASE: OnceLock<Version> = OnceLock::new();

/// Scripts call commands of this release of the server; a newer one is as unknown there as to the server.
pub fn of_release(release: Version) {
    // The first call counts: an agent serves one environment.
    let _ = RELEASE.set(release);
}

/// The code of the command that is spelt so.
pub(super) fn code_of(name: &[u8], subcommand: Option<&[u8]>) -> Option<&'static str> {
    let command = match commands::lookup(name, subcommand) {
        Lookup::Known(command) => command,
        // The container alone.
        Lookup::MissingSubcommand(command) | Lookup::UnknownSubcommand(command) => {
            return subcommand.is_none().then_some(CODES.get(command.name)?);
        }
        Lookup::UnknownCommand => return None,
    };
    CODES.get(command.name).map(String::as_str)
}

fn code(command: &Command) -> Option<String> {
    if command.container {
        return Some("container".to_owned());
    }
    // The server refuses these in its own words.
    if command.flags.has(Flags::NOSCRIPT) {
        return None;
    }
    let least = command.arity.unsigned_abs();
    let special = |name: &str| Some(format!("{name}{least}"));
    match command.policy {
        Policy::Rewrite => {}
        Policy::Scoped(Scoped::Move) => return special("move"),
        Policy::Local(Local::Select) => return special("select"),
        Policy::Local(Local::ClusterDisabled) => return special("standalone"),
        Policy::Local(Local::ReadOnly) => return special("ok"),
        Policy::Scoped(Scoped::Keys) => return special("keys"),
        Policy::Scoped(Scoped::Scan) => return special("scan"),
        Policy::Scoped(Scoped::DbSize) => return special("dbsize"),
        Policy::Scoped(Scoped::RandomKey) => return special("randomkey"),
        Policy::Scoped(Scoped::FlushDb) => return special("flushdb"),
        Policy::Scoped(Scoped::FlushAll) => return special("flushall"),
        Policy::Scoped(Scoped::SwapDb) => return special("swapdb"),
        Policy::Scoped(_) | Policy::Local(_) => return special("store"),
        Policy::Operator(_) => return special("operator"),
    }
    let code = match command.names {
        Names::None => return None,
        Names::Specs => specs(command.keys),
        Names::Channel => format!("channel{least}"),
        Names::Channels(_) | Names::ChannelPatterns(_) => format!("numsub{least}"),
        Names::Sort { .. } => format!("sort{least}"),
        Names::Georadius { options } => format!("georadius{least}.{options}"),
        Names::Xread { group } => format!("xread{least}.{}", u8::from(group)),
        Names::Copy => format!("copy{least}"),
        Names::Keywords | Names::Tracking | Names::Never => format!("operator{least}"),
    };
    Some(match reply(command.reply) {
        Some(reply) => format!("{code}>{reply}"),
        None => code,
    })
}

fn reply(shape: ReplyShape) -> Option<&'static str> {
    match shape {
        ReplyShape::FirstName => Some("first"),
        ReplyShape::StreamNames => Some("streams"),
        ReplyShape::PubsubNumsub => Some("numsub"),
        _ => None,
    }
}

/// `1` where the first argument is the only key.
fn specs(keys: &[KeySpec]) -> String {
    let specs: Vec<String> = keys.iter().map(spec).collect();
    match specs.as_slice() {
        [only] if only == "1.0.1" => "1".to_owned(),
        _ => specs.join(" "),
    }
}

fn spec(key: &KeySpec) -> String {
    match (key.begin, key.find) {
        (Begin::Index(at), Find::Range { last, step, .. }) => {
            format!("{at}.{last}.{}", step.max(1))
        }
        (Begin::Index(begin), Find::Keynum { at, first, step }) => {
            let (at, first) = (begin + u16::from(at), begin + u16::from(first));
            format!("#{at}.{first}.{}", step.max(1))
        }
        // Tested not to be: as a name, so that the server refuses it.
        _ => "1.-1.1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the shim finds, by the same search.
    fn found(name: &str) -> Option<&'static str> {
        let (_, rest) = COMMANDS.split_once(&format!(";{name}:"))?;
        rest.split(';').next()
    }

    #[test]
    fn commands_are_found_with_what_they_mean() {
        for (name, code) in [
            ("get", Some("1")),
            ("mget", Some("1.-1.1")),
            ("mset", Some("1.-1.2")),
            ("zunionstore", Some("1.0.1 #2.3.1")),
            ("lmpop", Some("#1.2.1>first")),
            ("blpop", Some("1.-2.1>first")),
            ("xread", Some("xread4.0>streams")),
            ("xreadgroup", Some("xread7.1>streams")),
            ("georadius", Some("georadius6.6")),
            ("xgroup", Some("container")),
            ("xgroup|create", Some("2.0.1")),
            ("publish", Some("channel3")),
            ("select", Some("select2")),
            ("keys", Some("keys2")),
            ("flushall", Some("flushall1")),
            ("swapdb", Some("swapdb3")),
            ("info", Some("store1")),
            // Nothing in them is a name, or the server refuses them.
            ("ping", None),
            ("time", None),
            ("multi", None),
            ("nosuch", None),
        ] {
            assert_eq!(found(name), code, "{name}");
            let (command, subcommand) = match name.split_once('|') {
                Some((command, subcommand)) => (command, Some(subcommand.as_bytes())),
                None => (name, None),
            };
            assert_eq!(code_of(command.as_bytes(), subcommand), code, "{name}");
        }
    }

    #[test]
    fn every_key_spec_can_be_said() {
        for command in commands::all() {
            if command.names == Names::Specs {
                for key in command.keys {
                    let known = matches!(
                        (key.begin, key.find),
                        (
                            Begin::Index(_),
                            Find::Range { limit: 0 | 1, .. } | Find::Keynum { .. }
                        )
                    );
                    assert!(known, "{}", command.name);
                }
            }
        }
    }
}
