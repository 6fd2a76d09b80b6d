//! Commands that the table has not: of newer servers, and of modules.
//!
//! Invariant: what is learnt is what the server itself declares (`COMMAND INFO`), and the server checks
//! the store's rights by the same declaration. A command is forwarded only when every key that it has
//! stands where a complete key spec says; everything else is refused by name, with its reason. The table
//! comes first: what it has is never learnt.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use redis_protocol::resp2::types::OwnedFrame;

use super::generate::{GenerateError, array, key_spec, number, text, words};
use super::{
    Begin, Command, Find, Flags, KeyFlags, KeySpec, Names, Need, Placement, Policy, ReplyShape,
    Version, table,
};

/// Definitions that an agent keeps at most: they are never given back, and a server that shows more
/// different ones is not one that was upgraded now and then. Valkey with all its modules has 600.
const KEPT_MAX: usize = 4096;

/// Names longer than any that a module has.
const NAME_BYTES_MAX: usize = 64;

/// Key specs of one command that the rewriters follow: each costs every request under way 32 bytes.
pub(crate) const SPECS_MAX: usize = 3;

/// Not a place in the table: counted with what is unknown.
const NO_NUMBER: u16 = u16::MAX;

const NO_KEYS: &str = "the agent does not know it, and it names no keys: what it shows or changes may be the whole server's";
const UNDECLARED: &str = "the agent does not know it, and its key positions are not declared";
const SERVERS: &str = "the agent does not know it, and the server calls it dangerous, administrative or a matter of the connection";
const UNREADABLE: &str =
    "the agent does not know it, and cannot read what the server declares of it";

/// What has become of the commands that the table has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Forwarded by their key specs.
    pub forwarded: Vec<&'static str>,
    /// Refused, with the reason.
    pub refused: Vec<(&'static str, &'static str)>,
}

/// By name, lower case.
type Found = HashMap<&'static [u8], &'static Command>;

static FOUND: LazyLock<ArcSwap<Found>> = LazyLock::new(ArcSwap::default);

/// Every definition there has been.
static KEPT: Mutex<Vec<&'static Command>> = Mutex::new(Vec::new());

/// A learnt command by its name, or its name and its subcommand's.
#[cold]
pub(super) fn find(name: &[u8], subcommand: Option<&[u8]>) -> Option<&'static Command> {
    let mut full = [0; NAME_BYTES_MAX];
    let bar: &[u8] = if subcommand.is_some() { b"|" } else { b"" };
    let mut length = 0;
    // A client's own bar makes no subcommand.
    if name.contains(&b'|') {
        return None;
    }
    for part in [name, bar, subcommand.unwrap_or_default()] {
        let to = full.get_mut(length..length + part.len())?;
        to.copy_from_slice(part);
        to.make_ascii_lowercase();
        length += part.len();
    }
    FOUND.load().get(&full[..length]).copied()
}

/// What has been learnt, to be forwarded or refused.
pub fn learnt() -> Vec<&'static Command> {
    FOUND.load().values().copied().collect()
}

/// Those of a server's commands, lower case, that the table has not.
#[must_use]
pub fn unknown<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let known: HashSet<&str> = table::all().iter().map(|command| command.name).collect();
    let mut unknown: Vec<&str> = names
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// Learns what the server says of [`unknown`] commands: its reply to `COMMAND INFO name ...`. What was
/// learnt before is forgotten.
#[must_use]
pub fn learn(names: &[&str], reply: &OwnedFrame) -> Learnt {
    let none = Vec::new();
    let described = array(reply).unwrap_or(&none);
    let mut found = Found::new();
    let mut learnt = Learnt::default();
    for (index, name) in names.iter().enumerate() {
        let container = names.iter().any(|other| {
            other
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('|'))
        });
        let read = described
            .get(index)
            .map(|entry| read(name, entry, container));
        let definition = match read {
            Some(Ok(definition)) => definition,
            _ => Definition::refused(UNREADABLE),
        };
        let Some(command) = keep(name, definition) else {
            continue;
        };
        found.insert(command.name.as_bytes(), command);
        match command.policy {
            Policy::Operator(why) => learnt.refused.push((command.name, why)),
            _ if command.container => {}
            _ => learnt.forwarded.push(command.name),
        }
    }
    FOUND.store(std::sync::Arc::new(found));
    learnt
}

/// What a command turns out to be.
#[derive(Debug)]
struct Definition {
    arity: i16,
    flags: Flags,
    keys: Vec<KeySpec>,
    policy: Policy,
    container: bool,
}

impl Definition {
    /// Any number of arguments is answered with the reason.
    fn refused(why: &'static str) -> Self {
        Self {
            arity: -1,
            flags: Flags::NONE,
            keys: Vec::new(),
            policy: Policy::Operator(why),
            container: false,
        }
    }
}

/// Groups (`ACL CAT`) of commands whose meaning is not in their keys alone.
const BEYOND_KEYS: [&str; 6] = [
    "@admin",
    "@dangerous",
    "@pubsub",
    "@connection",
    "@transaction",
    "@scripting",
];

fn read(name: &str, entry: &OwnedFrame, container: bool) -> Result<Definition, GenerateError> {
    let [told, arity, flags, _, _, _, groups, _, specs, ..] = array(entry)?.as_slice() else {
        return Ok(Definition::refused(UNREADABLE));
    };
    if !text(told)?.eq_ignore_ascii_case(name) {
        return Ok(Definition::refused(UNREADABLE));
    }
    let arity: i16 = number(arity)?;
    if container {
        // Without a subcommand it is short of an argument; each subcommand is judged by itself.
        return Ok(Definition {
            arity: arity.min(-2),
            policy: Policy::Rewrite,
            container,
            ..Definition::refused(NO_KEYS)
        });
    }
    // `module` says where it comes from; another flag that nobody knows may mean anything.
    let words_of_flags = words(flags)?.into_iter().filter(|word| *word != "module");
    let Ok(flags) = Flags::from_words(words_of_flags) else {
        return Ok(Definition::refused(UNREADABLE));
    };
    let beyond = words(groups)?
        .iter()
        .any(|group| BEYOND_KEYS.contains(group));
    let beyond = beyond
        || [Flags::ADMIN, Flags::PUBSUB, Flags::NO_AUTH, Flags::ASKING]
            .iter()
            .any(|flag| flags.has(*flag));
    if beyond {
        return Ok(Definition::refused(SERVERS));
    }
    let specs = array(specs)?;
    if specs.is_empty() {
        let movable = flags.has(Flags::MOVABLEKEYS);
        return Ok(Definition::refused(if movable {
            UNDECLARED
        } else {
            NO_KEYS
        }));
    }
    let keys: Vec<KeySpec> = specs.iter().filter_map(usable).collect();
    // The server marks what is found by its key specs' numbers and words as movable; where they have
    // none, a function of the module's own says where keys are.
    let fixed = |spec: &KeySpec| {
        matches!(
            (spec.begin, spec.find),
            (Begin::Index(_), Find::Range { limit: 0 | 1, .. })
        )
    };
    let own_function = flags.has(Flags::MOVABLEKEYS) && keys.iter().all(fixed);
    if keys.len() < specs.len() || keys.len() > SPECS_MAX || own_function {
        return Ok(Definition::refused(UNDECLARED));
    }
    Ok(Definition {
        arity,
        flags,
        keys,
        policy: Policy::Rewrite,
        container,
    })
}

/// A key spec that says all about its keys and that the rewriters can follow.
fn usable(spec: &OwnedFrame) -> Option<KeySpec> {
    let described = key_spec(spec).ok()?;
    let flags = described.flags;
    if flags.has(KeyFlags::NOT_KEY) || flags.has(KeyFlags::INCOMPLETE) {
        return None;
    }
    let begins = match described.begin {
        Begin::Index(at) => at > 0,
        // From the end it could not be told while a request streams; at 0 the server finds nothing.
        Begin::Keyword { from, .. } => from > 0,
        Begin::Unknown => false,
    };
    let finds = match described.find {
        Find::Range {
            limit: 0 | 1, step, ..
        } => step > 0,
        Find::Range { last, step, .. } => last == -1 && step > 0,
        Find::Keynum { step, .. } => step > 0,
        Find::Unknown => false,
    };
    (begins && finds).then_some(KeySpec {
        flags,
        begin: described.begin,
        find: described.find,
    })
}

/// The command for good: the same one when it has been learnt before.
fn keep(name: &str, definition: Definition) -> Option<&'static Command> {
    let Definition {
        arity,
        flags,
        keys,
        policy,
        container,
    } = definition;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let same = kept.iter().find(|command| {
        command.name == name
            && command.arity == arity
            && command.flags == flags
            && command.keys == keys
            && command.policy == policy
            && command.container == container
    });
    if let Some(same) = same {
        return Some(same);
    }
    if kept.len() >= KEPT_MAX || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let by_word = |spec: &KeySpec| matches!(spec.begin, Begin::Keyword { .. });
    let names = match policy {
        Policy::Rewrite if container => Names::None,
        Policy::Rewrite if keys.iter().any(by_word) => Names::Keywords,
        Policy::Rewrite => Names::Specs,
        _ => Names::Never,
    };
    let placement = if flags.has(Flags::BLOCKING) {
        Placement::Dedicated(Need::Blocking)
    } else {
        Placement::Shared
    };
    let command = Command {
        name: name.to_owned().leak(),
        arity,
        flags,
        keys: keys.leak(),
        names,
        policy,
        // Names that stand in it all the same are what integrity mode finds.
        reply: ReplyShape::Verbatim,
        placement,
        since: Version { major: 0, minor: 0 },
        container,
        number: NO_NUMBER,
    };
    let command: &'static Command = Box::leak(Box::new(command));
    kept.push(command);
    Some(command)
}

#[cfg(test)]
mod tests;
