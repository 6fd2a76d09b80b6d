//! `flect kv token`: what proves who may use a store where no cgroup does.

use std::process::ExitCode;

use flect_agent::registry::{Record, TokenDigest, new_token};
use flect_agent::store::Slug;
use serde_json::json;

use crate::Global;
use crate::operator::{Operator, block_on, slug};

/// The arguments of `flect kv token`.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// Make a token, in place of the one there is; it is shown once
    #[arg(long, conflicts_with = "remove")]
    new: bool,
    /// Remove the token: explicit mode refuses the store, interception asks for none
    #[arg(long)]
    remove: bool,
}

/// Without options tells whether there is a token.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let registry = operator.admin.registry();
        if args.new {
            let token = new_token();
            let digest = TokenDigest::of(token.as_bytes());
            let change = |record: &mut Record| record.token = Some(digest.clone());
            registry.change(&args.name, change).await?;
            let shown = json!({ "name": args.name, "token": token });
            crate::output::print(global.json, &shown, |_| token.clone())?;
            if !global.json {
                eprintln!(
                    "This is shown once. In a URL: redis://{}:TOKEN@HOST:PORT",
                    args.name
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
        if args.remove {
            registry
                .change(&args.name, |record| record.token = None)
                .await?;
        }
        let snapshot = registry.snapshot().await?;
        let (name, record) = snapshot.get(&args.name)?;
        let shown = json!({ "name": name, "token_set": record.token.is_some() });
        crate::output::print(global.json, &shown, |_| {
            let state = if record.token.is_some() { "a" } else { "no" };
            format!("{name} has {state} token")
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
