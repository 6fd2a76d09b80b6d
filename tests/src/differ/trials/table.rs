//! The command table and `COMMAND` of a real server: neither has a command that the other lacks.
//!
//! Invariant: what the table says a version has, that version has; so each command of a server has a policy
//! that was written for it, and an example (`examples`).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use flect_agent::commands::{self, Version};

use crate::pair::{Pair, Side};
use crate::wire::{Value, Wire};

/// What took other numbers of arguments before the newest version: the one is refused with any, of the other
/// a conversation tries all (`equality/newer.txt`).
const CHANGED: [&str; 2] = ["cluster|replicate", "script|debug"];

pub fn whole(pair: &Pair) -> Result<()> {
    let mut server = pair.connect(Side::Private)?;
    let version = version(&mut server)?;
    let all = commands::all();
    let newest = all.iter().map(|command| command.since).max();
    let table: BTreeMap<_, _> = all
        .iter()
        .filter(|command| command.since <= version)
        .map(|command| (command.name.to_owned(), i64::from(command.arity)))
        .collect();
    let mut told = BTreeMap::new();
    let reply = server.command(&["COMMAND"])?;
    let count = reply.items().len();
    gather(&reply, &mut told)?;
    ensure!(told.len() > 370, "COMMAND told only of {}", told.len());
    let lacking: Vec<_> = table
        .keys()
        .filter(|name| !told.contains_key(*name))
        .collect();
    ensure!(lacking.is_empty(), "the server lacks {lacking:?}");
    // A later release may have others: COMMAND INFO tells of them, or they are refused by name.
    if Some(version) <= newest {
        let unknown: Vec<_> = told
            .keys()
            .filter(|name| !table.contains_key(*name))
            .collect();
        ensure!(unknown.is_empty(), "the table lacks {unknown:?}");
    }
    // Those that have changed since: the agent knows of each.
    let others: Vec<_> = table
        .iter()
        .filter(|(name, arity)| told.get(*name) != Some(*arity))
        .filter(|(name, _)| Some(version) == newest || !CHANGED.contains(&name.as_str()))
        .map(|(name, arity)| format!("{name}: {arity}, the server says {:?}", told.get(name)))
        .collect();
    ensure!(others.is_empty(), "other numbers of arguments: {others:?}");
    let listed = server.command(&["COMMAND", "LIST"])?;
    let listed: BTreeSet<_> = listed.items().iter().map(Value::text).collect();
    let names = told.into_keys().collect();
    ensure!(listed == names, "COMMAND LIST differs from COMMAND");
    let counted = server.command(&["COMMAND", "COUNT"])?;
    ensure!(
        counted == Value::Int(count.try_into()?),
        "{counted} of {count}"
    );
    Ok(())
}

/// Names and numbers of arguments, subcommands included.
fn gather(reply: &Value, told: &mut BTreeMap<String, i64>) -> Result<()> {
    for entry in reply.items() {
        let [name, arity, ..] = entry.items() else {
            anyhow::bail!("COMMAND told {entry}");
        };
        told.insert(name.text(), arity.text().parse().context("an arity")?);
        if let Some(subcommands) = entry.items().get(9) {
            gather(subcommands, told)?;
        }
    }
    Ok(())
}

fn version(server: &mut Wire) -> Result<Version> {
    let info = server.command(&["INFO", "server"])?.text();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("valkey_version:"));
    let mut parts = line.context("INFO tells no valkey_version")?.split('.');
    let mut next = || parts.next().context("a part of the version");
    Ok(Version {
        major: next()?.parse()?,
        minor: next()?.parse()?,
    })
}
