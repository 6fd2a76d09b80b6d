//! `flect env set`: memory of keys and clients, and eviction, which all stores of an environment share.

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use flect_agent::admin::CLIENT_MEMORY;

use crate::Global;
use crate::operator::{Operator, block_on};
use crate::output::parse_size;

/// The arguments of `flect env set`.
#[derive(clap::Args)]
pub struct Args {
    /// Memory of the whole Valkey, such as 4gb; 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_memory: Option<u64>,
    /// What all clients may hold in Valkey of requests, and of replies that they do not read; past it, those
    /// that hold most are disconnected. 0 is no limit [default: a quarter of Valkey's memory, 1gb at least]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_client_memory: Option<u64>,
    /// What goes first when memory is full; it may hit every store
    #[arg(long, value_name = "POLICY", value_enum)]
    eviction_policy: Option<Eviction>,
}

/// `maxmemory-policy` of `valkey.conf`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum Eviction {
    /// Nothing: commands that need memory are refused
    Noeviction,
    /// Least recently used keys
    AllkeysLru,
    /// Least frequently used keys
    AllkeysLfu,
    /// Any keys
    AllkeysRandom,
    /// Least recently used keys that have a time to live
    VolatileLru,
    /// Least frequently used keys that have a time to live
    VolatileLfu,
    /// Any keys that have a time to live
    VolatileRandom,
    /// Keys whose time to live ends first
    VolatileTtl,
}

/// Applies the settings at once, and writes them down so that agents apply them again after
/// Valkey has been restarted.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let mut settings = Vec::new();
    if let Some(bytes) = args.max_memory {
        settings.push(("maxmemory", bytes.to_string()));
    }
    if let Some(bytes) = args.max_client_memory {
        settings.push((CLIENT_MEMORY, bytes.to_string()));
    }
    if let Some(policy) = args.eviction_policy {
        let name = policy.to_possible_value().map(|v| v.get_name().to_owned());
        settings.push(("maxmemory-policy", name.unwrap_or_default()));
    }
    if settings.is_empty() {
        bail!("nothing to set: give --max-memory, --max-client-memory or --eviction-policy");
    }
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        operator.admin.apply_settings(&settings).await?;
        operator.admin.registry().keep_settings(&settings).await?;
        Ok(())
    })?;
    super::show::run(global, None)
}
