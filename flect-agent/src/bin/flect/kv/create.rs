//! `flect kv create`: a new store.

use std::process::ExitCode;

use flect_agent::registry::Limits;
use flect_agent::store::Slug;

use super::{LimitArgs, Shown};
use crate::Global;
use crate::operator::{Operator, block_on, slug};

/// The arguments of `flect kv create`.
#[derive(clap::Args)]
pub struct Args {
    /// The store's name: a-z, 0-9 and '-', such as my-cache
    #[arg(value_parser = slug)]
    name: Slug,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Makes the store and says how an app gets it.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let mut limits = Limits::default();
        args.limits.apply(&mut limits);
        let record = operator.admin.registry().create(&args.name, limits).await?;
        let shown = Shown::new(&operator.environment, &args.name, &record);
        crate::output::print(global.json, &shown, |shown| {
            format!(
                "created store {0} in environment {1} ({2})\n\nTo give it to an app: the node's agent.toml binds it, in the app's [[app]]:\n\n  stores = [\"{0}\"]\n\nand the app's flect.toml names the variable:\n\n  [[kv]]\n  binding = \"CACHE\"\n  name = \"{0}\"",
                shown.name, shown.environment, shown.prefix
            )
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
