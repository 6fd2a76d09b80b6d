//! `flect kv rename`: another name for a store.

use std::process::ExitCode;

use flect_agent::store::Slug;

use super::Shown;
use crate::Global;
use crate::operator::{Operator, block_on, slug};

/// The arguments of `flect kv rename`.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// Its new name
    #[arg(value_parser = slug)]
    new_name: Slug,
}

/// Renames it. No key is touched, no session ends.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let registry = operator.admin.registry();
        let record = registry.rename(&args.name, &args.new_name).await?;
        let shown = Shown::new(&operator.environment, &args.new_name, &record);
        crate::output::print(global.json, &shown, |shown| {
            format!(
                "{} is called {} now; apps that are bound to {} keep working until a store of that name is made",
                args.name, shown.name, args.name
            )
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
