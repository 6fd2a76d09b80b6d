//! An example of every command of the table, with a store and with a private Valkey.
//!
//! Invariant: what the table says is judged. A command whose policy is `Operator` goes to the store
//! only, which must refuse it with the table's own sentence; every other one must be answered as
//! the private Valkey answers it. When a command leaves the operator's group nothing changes here.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use flect_agent::commands::{self, Command, Lookup, Policy};

use super::super::campaign;
use super::super::duel::Tally;
use super::super::exceptions::Exceptions;
use super::super::step::{Request, Step};
use crate::pair::{Pair, Side, shown};

/// Groups of examples; each begins on empty sides.
const EXAMPLES: &[(&str, &str)] = &[
    ("data", include_str!("../examples/data.txt")),
    ("server", include_str!("../examples/server.txt")),
];
/// What may differ in them, beside the exceptions of random requests.
const DIFFERENT: &[(&str, &str)] = &[
    ("command", "its order is that of a hash table"),
    (
        "client|list",
        "the private one has the operator's connections as well",
    ),
    ("client|info", "its numbers are its own"),
    ("info", "trials of its own compare its fields"),
    (
        "acl|log",
        "an app's AUTH is judged by the agent, which keeps no log",
    ),
    (
        "function|list",
        "the order of functions is that of a hash table",
    ),
    (
        "function|dump",
        "the texts may be compressed; a trial of its own restores them",
    ),
    (
        "memory|malloc-stats",
        "as of a server with another allocator",
    ),
    ("memory|stats", "a trial of its own compares its fields"),
    ("monitor", "it ends the talk; trials of its own hold it"),
    (
        "client|kill",
        "an address is no store's matter; trials of its own hold it",
    ),
];

pub fn every(pair: &Pair) -> Result<()> {
    let exceptions = Exceptions::known()?;
    let sides = campaign::sides(pair);
    let duel = campaign::duel(&sides, &exceptions);
    let mut missing: BTreeSet<_> = commands::all().iter().map(|command| command.name).collect();
    let mut differences = Vec::new();
    for (group, text) in EXAMPLES {
        let mut compared = Vec::new();
        for step in Step::parse_all(text).context(*group)? {
            let Some(request) = step.request() else {
                compared.push(step);
                continue;
            };
            let command = meant(request)
                .with_context(|| format!("{group}: an example of no command: {step}"))?;
            missing.remove(command.name);
            match command.policy {
                _ if DIFFERENT.iter().any(|(name, _)| *name == command.name) => {}
                Policy::Operator(why) => {
                    let expect = commands::refusal(command, why);
                    let mut wire = pair.connect(Side::Store)?;
                    wire.send(&request.args)?;
                    let said = wire.read_bytes()?;
                    // A wrong number of arguments is told first, as Valkey does.
                    if said != expect && command.accepts(request.args.len()) {
                        differences.push(format!("{step}: {}", shown(&said)));
                    }
                }
                _ => compared.push(step),
            }
        }
        // One difference would hide the rest: take its step out and go on.
        while let Some(difference) = duel.run(&compared, &mut Tally::default())? {
            differences.push(format!(
                "{}\n   Valkey: {}\n   store:  {}",
                difference.request, difference.valkey, difference.store
            ));
            if difference.step >= compared.len() {
                break;
            }
            compared.remove(difference.step);
        }
    }
    ensure!(missing.is_empty(), "no example of {missing:?}");
    ensure!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn meant(request: &Request) -> Option<&'static Command> {
    let [name, rest @ ..] = request.args.as_slice() else {
        return None;
    };
    match commands::lookup(name, rest.first().map(Vec::as_slice)) {
        Lookup::Known(command) | Lookup::MissingSubcommand(command) => Some(command),
        Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => None,
    }
}
