//! `flect kv list`: the stores of an environment.

use std::process::ExitCode;

use flect_agent::registry::Removal;
use serde::Serialize;

use super::Shown;
use crate::Global;
use crate::operator::{Operator, block_on};
use crate::output::{FAINT, WARN, table};

/// The arguments of `flect kv list`.
#[derive(clap::Args)]
pub struct Args {}

#[derive(Serialize)]
struct Listing<'a> {
    environment: &'a str,
    stores: Vec<Shown<'a>>,
    /// Removed stores whose keys are not all deleted.
    removed: &'a [Removal],
}

/// Lists them.
pub fn run(global: &Global, _: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let stores = snapshot.stores.iter();
        let listing = Listing {
            environment: &operator.environment,
            stores: stores
                .map(|(slug, record)| Shown::new(&operator.environment, slug, record))
                .collect(),
            removed: &snapshot.removed,
        };
        crate::output::print(global.json, &listing, text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn text(listing: &Listing<'_>) -> String {
    let mut out = if listing.stores.is_empty() {
        format!(
            "environment {} has no stores yet: flect kv create NAME\n",
            listing.environment
        )
    } else {
        let head = ["NAME", "PREFIX", "TOKEN", "LIMITS"].map(str::to_owned);
        let mut rows = vec![head.to_vec()];
        for store in &listing.stores {
            let token = if store.token { "yes" } else { "no" };
            let mut limits = store.limits_text();
            if store.filling {
                limits.push_str(" (being filled)");
            }
            rows.push(vec![
                store.name.to_string(),
                store.prefix.to_owned(),
                token.to_owned(),
                limits,
            ]);
        }
        table(&rows)
    };
    for removal in listing.removed {
        out.push_str(&format!(
            "{WARN}{} {} is removed, its keys are not all deleted{WARN:#} {FAINT}(flect kv rm {}){FAINT:#}\n",
            removal.slug, removal.prefix, removal.slug
        ));
    }
    out
}
