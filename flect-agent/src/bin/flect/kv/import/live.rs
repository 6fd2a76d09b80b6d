//! `flect kv import --from`: another server's database.

use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::config::Tls;
use flect_agent::keyspace::info_field;
use flect_agent::reach::Link;
use flect_agent::store::Prefix;
use flect_agent::transfer::{Choice, Source, connect_to, copy_live};

use super::{Args, Target, report};
use crate::Global;
use crate::failure::Failure;
use crate::kv::rate::paces;
use crate::operator::block_on;
use crate::output::WARN;
use crate::progress::{Progress, keys};

/// The variable with the other server's password.
const PASSWORD: &str = "FLECT_FROM_PASSWORD";

/// Copies its keys.
pub fn run(global: &Global, args: &Args, from: &str) -> anyhow::Result<ExitCode> {
    let source = source(args, from)?;
    block_on(async {
        let mut other = connect_to(&source)
            .await
            .with_context(|| format!("the other server at {}", source.shown()))
            .context(Failure::Unreachable)?;
        let mut target = Target::open(global, args).await?;
        target.refuse_conflicts(args).await?;
        let mut restorer = target.restorer(args).await?;
        let bar = Progress::new("copying");
        let mut paces = paces(args.rate);
        let matching = args.pattern.as_deref().unwrap_or("*");
        let choice = Choice {
            matching: matching.as_bytes().to_vec(),
            stores: neighbours(&mut target, &mut other).await?,
            database: args.to_database,
            by_type: args.by_type,
        };
        let copying = copy_live(&mut other, &choice, &mut restorer, &mut paces, |live| {
            bar.set(live.fraction, keys(live.found))
        });
        let go_on = "go on with --on-conflict skip, or replace";
        let live = tokio::select! {
            result = copying => result.context(go_on)?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; {go_on}"),
        };
        bar.finish();
        target.complete().await?;
        if live.recreated > 0 && !args.by_type {
            anstream::eprintln!(
                "{WARN}note:{WARN:#} {} of a newer server {} written anew, type by type",
                keys(live.recreated),
                if live.recreated == 1 { "was" } else { "were" }
            );
        }
        report(global, args, &restorer.restored(), false, &source.shown())
    })
}

/// The stores that live in the very database that is copied: an app's old keys may stand beside them.
async fn neighbours(target: &mut Target, other: &mut Link) -> anyhow::Result<Vec<Prefix>> {
    let mut own = target.operator.admin.connection();
    let here = info_field(&mut own, "server", "run_id").await?;
    let there = info_field(other, "server", "run_id").await?;
    if here != there {
        return Ok(Vec::new());
    }
    let snapshot = target.operator.admin.registry().snapshot().await?;
    let stores = snapshot.stores.values().map(|record| &record.prefix);
    let removed = snapshot.removed.iter().map(|removal| &removal.prefix);
    Ok(stores.chain(removed).cloned().collect())
}

/// The other server with its password, which should not stand in the URL.
fn source(args: &Args, from: &str) -> anyhow::Result<Source> {
    let mut source = Source::parse(from)?;
    let tls = args.tls.to_config();
    match &mut source.tls {
        Some(spoken) => *spoken = tls,
        None if tls != Tls::default() => bail!("--tls options: begin the URL with rediss://"),
        None => {}
    }
    if source.password.is_some() {
        anstream::eprintln!(
            "{WARN}note:{WARN:#} others can see the password in the list of processes; better: {PASSWORD} or --from-password-file"
        );
    }
    if let Some(path) = &args.from_password_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("password file {}", path.display()))?;
        source.password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    } else if let Ok(password) = std::env::var(PASSWORD) {
        source.password = Some(password);
    }
    Ok(source)
}
