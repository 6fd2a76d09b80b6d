//! `flect kv set`: a store's limits.

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
}

/// Changes them; agents apply them within a second.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    if args.limits.is_empty() {
        bail!("nothing to set: give --max-memory, --max-connections or --rate, or 'none' for one");
    }
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let change = |record: &mut flect_agent::registry::Record| {
            args.limits.apply(&mut record.limits);
        };
        let record = operator.admin.registry().change(&args.name, change).await?;
        let shown = Shown::new(&operator.environment, &args.name, &record);
        crate::output::print(global.json, &shown, |shown| {
            format!("{}: limits {}", shown.name, shown.limits_text())
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
