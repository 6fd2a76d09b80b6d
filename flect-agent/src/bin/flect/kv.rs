//! `flect kv`: stores.

mod clone;
mod create;
mod export;
mod import;
mod list;
mod rate;
mod relocate;
mod rename;
mod rm;
mod set;
mod shell;
mod show;
mod token;
mod usage;

use std::process::ExitCode;

use clap::Subcommand;
use flect_agent::registry::{Limits, Record};
use flect_agent::store::{Slot, Slug};
use serde::Serialize;

use crate::Global;
use crate::output::{parse_size, size};

/// The arguments of `flect kv`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a store.
    Create(create::Args),
    /// List the environment's stores.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one store: prefix, limits, how apps reach it.
    Show(show::Args),
    /// Change a store's limits, and who may answer its reads.
    Set(set::Args),
    /// Give a store another name; its keys stay where they are.
    Rename(rename::Args),
    /// Make, replace or remove the token that proves who may use a store.
    Token(token::Args),
    /// Remove a store and delete its keys.
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Show what stores hold: keys, bytes, types, the biggest keys, when they expire.
    Usage(usage::Args),
    /// A prompt inside a store, or one command in it.
    Shell(shell::Args),
    /// Copy a store into a new one, inside the server.
    Clone(clone::Args),
    /// Move a store to another shard of its cluster; apps stay connected.
    Move(relocate::Args),
    /// Write a store into a file.
    Export(export::Args),
    /// Read a file, or another server's database, into a store.
    Import(import::Args),
}

/// Runs a subcommand.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Create(args) => create::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Show(args) => show::run(global, args),
        Command::Set(args) => set::run(global, args),
        Command::Rename(args) => rename::run(global, args),
        Command::Token(args) => token::run(global, args),
        Command::Rm(args) => rm::run(global, args),
        Command::Usage(args) => usage::run(global, args),
        Command::Shell(args) => shell::run(global, args),
        Command::Clone(args) => clone::run(global, args),
        Command::Move(args) => relocate::run(global, args),
        Command::Export(args) => export::run(global, args),
        Command::Import(args) => import::run(global, args),
    }
}

/// Limits as options; `none` takes a limit away.
#[derive(clap::Args)]
struct LimitArgs {
    /// Bytes of keys and values, such as 100mb; past it commands that need memory are refused
    #[arg(long, value_name = "SIZE", value_parser = parse_limit_size)]
    max_memory: Option<Setting<u64>>,
    /// Open connections on each node; past it connections are refused
    #[arg(long, value_name = "N", value_parser = parse_limit_number)]
    max_connections: Option<Setting<u32>>,
    /// Connections to Valkey that clients have for themselves, on each node: those that block, subscribe
    /// or are in a transaction
    #[arg(long, value_name = "N", value_parser = parse_limit_number)]
    max_upstreams: Option<Setting<u32>>,
    /// Memory for requests and replies on their way, on each node, such as 64mb; past it the client
    /// that takes most is disconnected
    #[arg(long, value_name = "SIZE", value_parser = parse_limit_size)]
    max_buffers: Option<Setting<u64>>,
    /// Commands per second on each node; past it they wait
    #[arg(long, value_name = "N", value_parser = parse_limit_number)]
    rate: Option<Setting<u32>>,
}

/// A limit as it was typed.
#[derive(Clone, Copy, Debug)]
enum Setting<T> {
    None,
    To(T),
}

impl<T: Copy> Setting<T> {
    fn apply(setting: Option<Self>, limit: &mut Option<T>) {
        match setting {
            Some(Self::None) => *limit = None,
            Some(Self::To(value)) => *limit = Some(value),
            None => {}
        }
    }
}

fn parse_limit_size(text: &str) -> Result<Setting<u64>, String> {
    match text {
        "none" => Ok(Setting::None),
        _ => match parse_size(text)? {
            0 => Err("0 would refuse every write; 'none' takes the limit away".to_owned()),
            bytes => Ok(Setting::To(bytes)),
        },
    }
}

fn parse_limit_number(text: &str) -> Result<Setting<u32>, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(Setting::None),
        (_, Ok(0)) => Err("0 would refuse everything; 'none' takes the limit away".to_owned()),
        (_, Ok(number)) => Ok(Setting::To(number)),
        _ => Err(format!(
            "'{text}' is no number: expected 1 to {} or 'none'",
            u32::MAX
        )),
    }
}

impl LimitArgs {
    fn apply(&self, limits: &mut Limits) {
        Setting::apply(self.max_memory, &mut limits.memory_bytes);
        Setting::apply(self.max_connections, &mut limits.connections);
        Setting::apply(self.max_upstreams, &mut limits.upstreams);
        Setting::apply(self.max_buffers, &mut limits.buffer_bytes);
        Setting::apply(self.rate, &mut limits.commands_per_second);
    }

    fn is_empty(&self) -> bool {
        self.max_memory.is_none()
            && self.max_connections.is_none()
            && self.max_upstreams.is_none()
            && self.max_buffers.is_none()
            && self.rate.is_none()
    }
}

/// A store as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a Slug,
    environment: &'a str,
    prefix: &'a str,
    /// Where a Valkey Cluster has it, or would have it.
    slot: u16,
    /// How many other stores are in the same slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot_shared_with: Option<u32>,
    /// The primary that has the slot, in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    created_at: u64,
    limits: ShownLimits,
    token: bool,
    /// Replicas may answer what only reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replica_reads: bool,
    /// Somebody is filling it: apps cannot use it yet.
    filling: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier_names: Vec<&'a Slug>,
}

#[derive(Clone, Copy, Serialize)]
struct ShownLimits {
    memory_bytes: Option<u64>,
    connections: Option<u32>,
    upstreams: Option<u32>,
    buffer_bytes: Option<u64>,
    commands_per_second: Option<u32>,
}

impl<'a> Shown<'a> {
    fn new(environment: &'a str, name: &'a Slug, record: &'a Record) -> Self {
        Self {
            name,
            environment,
            prefix: record.prefix.as_str(),
            slot: Slot::of_store(&record.prefix).number(),
            slot_shared_with: None,
            shard: None,
            created_at: record.created_at,
            limits: ShownLimits {
                memory_bytes: record.limits.memory_bytes,
                connections: record.limits.connections,
                upstreams: record.limits.upstreams,
                buffer_bytes: record.limits.buffer_bytes,
                commands_per_second: record.limits.commands_per_second,
            },
            token: record.token.is_some(),
            replica_reads: record.replica_reads,
            filling: record.filling,
            earlier_names: Vec::new(),
        }
    }

    /// The limits in words.
    fn limits_text(&self) -> String {
        let limits = self.limits;
        let parts: Vec<String> = [
            limits
                .memory_bytes
                .map(|bytes| format!("memory {}", size(bytes))),
            limits
                .connections
                .map(|n| format!("{n} connections a node")),
            limits
                .upstreams
                .map(|n| format!("{n} connections of clients' own to Valkey a node")),
            limits
                .buffer_bytes
                .map(|bytes| format!("buffers {} a node", size(bytes))),
            limits
                .commands_per_second
                .map(|n| format!("{n} commands a second and node")),
        ]
        .into_iter()
        .flatten()
        .collect();
        match parts.as_slice() {
            [] => "none".to_owned(),
            parts => parts.join(", "),
        }
    }
}
