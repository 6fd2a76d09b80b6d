//! Finding a command by its name.
//!
//! Invariant: names are matched as Valkey matches them (ASCII case ignored, nothing else), and no
//! lookup allocates.

use std::sync::{LazyLock, OnceLock};

use super::Command;
use super::generated::GENERATED;
use super::{learnt, rules};

/// What a request's first words name.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// This command or subcommand.
    Known(&'static Command),
    /// Nothing in the table.
    UnknownCommand,
    /// The container is known, its subcommand is not.
    UnknownSubcommand(&'static Command),
    /// The container was given alone, which has too few arguments.
    MissingSubcommand(&'static Command),
}

/// Finds what `name` means, and with a container `subcommand`, the next argument.
#[must_use]
pub fn lookup(name: &[u8], subcommand: Option<&[u8]>) -> Lookup {
    let table = &*TABLE;
    let Some(command) = table.find(name, None).or_else(|| learnt::find(name, None)) else {
        return Lookup::UnknownCommand;
    };
    if !command.container {
        return Lookup::Known(command);
    }
    match subcommand {
        Some(subcommand) => match table
            .find(name, Some(subcommand))
            .or_else(|| learnt::find(name, Some(subcommand)))
        {
            Some(command) => Lookup::Known(command),
            None => Lookup::UnknownSubcommand(command),
        },
        None if command.accepts(1) => Lookup::Known(command),
        None => Lookup::MissingSubcommand(command),
    }
}

/// Every command and subcommand, sorted by name.
#[must_use]
pub fn all() -> &'static [Command] {
    &TABLE.commands
}

static HIDDEN: OnceLock<&[&str]> = OnceLock::new();

/// Makes a table without these commands, as if a newer server had brought them: for tests of that, before
/// anything is looked up. It can only take away.
#[doc(hidden)]
pub fn hide(names: &'static [&'static str]) {
    // The first call counts.
    let _ = HIDDEN.set(names);
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

struct Table {
    commands: Vec<Command>,
    /// Indices into `commands`, placed by hash, the next free slot after a collision.
    slots: Box<[u16; SLOTS]>,
}

/// A power of two, more than twice the number of commands: most lookups end at their first slot.
const SLOTS: usize = 1024;

/// No command stands here.
const FREE: u16 = u16::MAX;

const _: () = assert!(GENERATED.len() * 2 < SLOTS);

impl Table {
    fn new() -> Self {
        let commands: Vec<Command> = GENERATED
            .iter()
            .filter(|entry| {
                !HIDDEN
                    .get()
                    .is_some_and(|names| names.contains(&entry.name))
            })
            .zip(0..)
            .map(|(entry, number)| {
                let rule = rules::of(entry.name);
                let container = GENERATED.iter().any(|other| {
                    other
                        .name
                        .strip_prefix(entry.name)
                        .is_some_and(|rest| rest.starts_with('|'))
                });
                Command {
                    name: entry.name,
                    arity: entry.arity,
                    flags: entry.flags,
                    keys: entry.keys,
                    names: rule.names,
                    policy: rule.policy,
                    reply: rule.reply,
                    placement: rule.placement,
                    since: entry.since,
                    container,
                    number,
                }
            })
            .collect();
        let mut slots = Box::new([FREE; SLOTS]);
        for (index, command) in commands.iter().enumerate() {
            let (name, subcommand) = match command.name.split_once('|') {
                Some((name, subcommand)) => (name, Some(subcommand.as_bytes())),
                None => (command.name, None),
            };
            let mut slot = slot_of(name.as_bytes(), subcommand);
            while slots[slot] != FREE {
                slot = (slot + 1) % SLOTS;
            }
            // There are far fewer commands than u16 can count.
            slots[slot] = index as u16;
        }
        Self { commands, slots }
    }

    #[inline]
    fn find(&self, name: &[u8], subcommand: Option<&[u8]>) -> Option<&Command> {
        let mut slot = slot_of(name, subcommand);
        loop {
            let command = self.commands.get(usize::from(self.slots[slot]))?;
            if matches(command.name.as_bytes(), name, subcommand) {
                return Some(command);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// Whether the table's `full` name is this name, or this name, a bar and this subcommand.
#[inline]
fn matches(full: &[u8], name: &[u8], subcommand: Option<&[u8]>) -> bool {
    match subcommand {
        // A client's own bar makes no subcommand: `xgroup|create` as a name is unknown.
        None => full.eq_ignore_ascii_case(name) && !full.contains(&b'|'),
        Some(subcommand) => {
            full.len() == name.len() + 1 + subcommand.len()
                && full[name.len()] == b'|'
                && full[..name.len()].eq_ignore_ascii_case(name)
                && full[name.len() + 1..].eq_ignore_ascii_case(subcommand)
        }
    }
}

/// FNV-1a over the bytes with the bit set that tells ASCII cases apart. Names longer than any command
/// are cut, so that a hostile name costs nothing.
#[inline]
fn slot_of(name: &[u8], subcommand: Option<&[u8]>) -> usize {
    let hash = |seed: u32, bytes: &[u8]| {
        bytes
            .iter()
            .take(HASHED_BYTES_MAX)
            .fold(seed, |hash, &byte| {
                (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193)
            })
    };
    let mut value = hash(0x811c_9dc5, name);
    if let Some(subcommand) = subcommand {
        value = hash(hash(value, b"|"), subcommand);
    }
    (value ^ (value >> 15)) as usize % SLOTS
}

/// The longest word in the table has 21 bytes.
const HASHED_BYTES_MAX: usize = 24;
