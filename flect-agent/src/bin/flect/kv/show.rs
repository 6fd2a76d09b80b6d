//! `flect kv show`: one store.

use std::process::ExitCode;

use flect_agent::registry::sharing;
use flect_agent::store::{Slot, Slug};

use super::Shown;
use crate::Global;
use crate::operator::{Operator, block_on, slug};

/// The arguments of `flect kv show`.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
}

/// Shows it.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let (name, record) = snapshot.get(&args.name)?;
        let mut shown = Shown::new(&operator.environment, name, record);
        shown.slot_shared_with = Some(sharing(&snapshot, &record.prefix));
        let topology = operator.admin.connection().topology();
        let slot = Slot::of_store(&record.prefix);
        let shard = topology.as_ref().and_then(|topology| topology.of(slot));
        shown.shard = shard.map(|shard| shard.primary.to_string());
        let aliases = snapshot.aliases.iter();
        shown.earlier_names = aliases
            .filter(|(_, prefix)| **prefix == record.prefix)
            .map(|(alias, _)| alias)
            .collect();
        crate::output::print(global.json, &shown, |shown| text(shown))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn slot_text(shown: &Shown<'_>) -> String {
    let mut text = shown.slot.to_string();
    match shown.slot_shared_with {
        None | Some(0) => {}
        Some(1) => text.push_str(", shared with another store"),
        Some(others) => text.push_str(&format!(", shared with {others} other stores")),
    }
    if let Some(shard) = &shown.shard {
        text.push_str(&format!(", at {shard}"));
    }
    text
}

fn text(shown: &Shown<'_>) -> String {
    let mut lines = vec![
        ("name", shown.name.to_string()),
        ("environment", shown.environment.to_owned()),
        ("prefix", shown.prefix.to_owned()),
        (
            "stored as",
            format!("{}:KEY, in database N {}/N:KEY", shown.prefix, shown.prefix),
        ),
        ("slot", slot_text(shown)),
        ("limits", shown.limits_text()),
        ("token", if shown.token { "set" } else { "none" }.to_owned()),
    ];
    if shown.replica_reads {
        let reads = "replicas may answer; they may be behind";
        lines.push(("reads", reads.to_owned()));
    }
    if shown.filling {
        lines.push(("state", "being filled; apps cannot use it yet".to_owned()));
    }
    let earlier: Vec<String> = shown
        .earlier_names
        .iter()
        .map(ToString::to_string)
        .collect();
    if !earlier.is_empty() {
        lines.push(("earlier names", earlier.join(", ")));
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:<13}  {value}\n"))
        .collect()
}
