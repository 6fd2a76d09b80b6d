//! `flect kv clone`: a copy of a store under another name.

use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::keyspace::{Pace, copy, has_slots};
use flect_agent::registry::{Record, RegistryError, Snapshot};
use flect_agent::store::{Prefix, Slug};
use flect_agent::transfer::copy_functions;
use serde_json::json;

use crate::Global;
use crate::operator::{Operator, block_on, slug};
use crate::progress::{Progress, keys};

/// The arguments of `flect kv clone`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The server copies key by key, with expiries, in all databases, and the libraries of functions;
nothing leaves it. The new store
has the limits of the old one and no token, and apps can use it when it is complete.

It is not a copy of one instant: what is written to the store meanwhile is copied as it was
before or after, and a key that is deleted after it was copied stays in the copy. For one
instant, stop the app. Copying one very large value occupies the server until it is done, as
COPY always does.

Interrupted, the same command goes on; `flect kv rm` removes what there is.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug)]
    name: Slug,
    /// The new store
    #[arg(value_parser = slug)]
    new_name: Slug,
    /// Copy at most so many keys per second
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

/// Where the record of a store that is being filled says what with.
const CLONE_OF: &str = "clone_of";

/// Copies, or goes on copying.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let mut connection = operator.admin.connection();
        if has_slots(&mut connection).await? {
            bail!(
                "this Valkey has a cluster's slots, between which it cannot copy; go by a pipe: flect kv create {new}; flect kv export {old} - | flect kv import {new} -",
                old = args.name,
                new = args.new_name
            );
        }
        let snapshot = operator.admin.registry().snapshot().await?;
        let (_, source) = snapshot.get(&args.name)?;
        if source.filling {
            bail!(
                "store {} is being filled itself; wait until that is done",
                args.name
            );
        }
        let from = source.prefix.clone();
        let to = match begun(&snapshot, &from, &args.new_name)? {
            Some(to) => to,
            None => {
                let made = |prefix| {
                    let mut record = Record::new(prefix, source.limits.clone());
                    record.filling = true;
                    record.other.insert(CLONE_OF.to_owned(), json!(from));
                    record
                };
                let registry = operator.admin.registry();
                registry.create_as(&args.new_name, made).await?.prefix
            }
        };
        let bar = Progress::new("copying");
        let mut pace = Pace::new(args.rate);
        let copying = copy::copy(&mut connection, &from, &to, &mut pace, |copied| {
            bar.set(copied.fraction, keys(copied.keys));
        });
        let go_on = "the copy is not complete; the same command goes on";
        let copied = tokio::select! {
            result = copying => result.context(go_on)?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; {go_on}"),
        };
        bar.finish();
        let databases = operator.admin.facts().databases;
        let functions = copy_functions(&mut connection, &from, &to, databases)
            .await
            .context(go_on)?;
        let registry = operator.admin.registry();
        let complete = |record: &mut Record| {
            record.filling = false;
            record.other.remove(CLONE_OF);
        };
        registry.change(&args.new_name, complete).await?;
        let shown = json!({
            "name": args.new_name,
            "prefix": to,
            "clone_of": args.name,
            "keys_copied": copied.keys,
            "libraries_copied": functions,
            "resumed": copied.resumed,
        });
        crate::output::print(global.json, &shown, |_| {
            let found = keys(copied.keys);
            format!(
                "store {} is a copy of {}: {found}",
                args.new_name, args.name
            )
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The copy that an earlier command has begun; an error when the name is something else's.
fn begun(snapshot: &Snapshot, from: &Prefix, new: &Slug) -> anyhow::Result<Option<Prefix>> {
    match snapshot.stores.get(new) {
        None => Ok(None),
        Some(record) if record.filling && record.other.get(CLONE_OF) == Some(&json!(from)) => {
            Ok(Some(record.prefix.clone()))
        }
        Some(_) => Err(RegistryError::Exists(new.clone()).into()),
    }
}
