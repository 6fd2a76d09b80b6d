//! `flect kv set`: a store's limits, and who may answer its reads.

use std::process::ExitCode;

use anyhow::bail;
use flect_agent::store::Slug;

use super::{LimitArgs, Shown};
use crate::Global;
use crate::operator::{Operator, block_on, slug};

/// The arguments of `flect kv set`.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    #[command(flatten)]
    limits: LimitArgs,
    /// Whether replicas may answer commands that only read. They may be behind: what one client has written,
    /// another may not see yet
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    replica_reads: Option<bool>,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

/// Changes them; agents apply them within a second.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    if args.limits.is_empty() && args.replica_reads.is_none() {
        bail!(
            "nothing to set: give --max-memory, --max-connections or --rate, or 'none' for one, or --replica-reads"
        );
    }
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let change = |record: &mut flect_agent::registry::Record| {
            args.limits.apply(&mut record.limits);
            if let Some(allowed) = args.replica_reads {
                record.replica_reads = allowed;
            }
        };
        let record = operator.admin.registry().change(&args.name, change).await?;
        let shown = Shown::new(&operator.environment, &args.name, &record);
        crate::output::print(global.json, &shown, |shown| {
            let reads = if shown.replica_reads {
                ", replicas may answer reads"
            } else {
                ""
            };
            format!("{}: limits {}{reads}", shown.name, shown.limits_text())
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
