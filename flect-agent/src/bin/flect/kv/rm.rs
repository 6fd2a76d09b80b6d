//! `flect kv rm`: the end of a store.
//!
//! The store leaves the registry first: agents stop serving it and its name is free. Then its keys
//! are deleted; whatever interrupts that, the registry remembers the removal until it is done.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::keyspace::{Pace, erase};
use flect_agent::registry::{Registry, Removal, Snapshot};
use flect_agent::store::{Prefix, Slug};
use flect_agent::usage::{Effort, survey};
use serde::Serialize;

use crate::Global;
use crate::operator::{Operator, block_on, slug};
use crate::output::{WARN, size};
use crate::progress::{Progress, count, keys};

/// The arguments of `flect kv rm`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The store is gone at once: its sessions end, its name is free. Deleting its keys takes a while
and may be interrupted; `flect kv list` shows what is left, and the same command goes on.")]
pub struct Args {
    /// The store
    #[arg(value_parser = slug, required_unless_present = "resume")]
    name: Option<Slug>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only go on with interrupted removals: of this name, or all
    #[arg(long)]
    resume: bool,
    /// Delete at most so many keys per second
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

#[derive(Serialize)]
struct Shown<'a> {
    environment: &'a str,
    removed: Vec<Done>,
}

#[derive(Serialize)]
struct Done {
    name: Slug,
    prefix: Prefix,
    keys_deleted: u64,
    /// An earlier command had begun it.
    resumed: bool,
}

/// Names to look at before asking: enough to say what is at stake, a fraction of a second.
const LOOK_BEFORE_ASKING: u64 = 50_000;

/// Removes it, or goes on removing.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let (removals, resumed) = match decide(&snapshot, args)? {
            Decision::Resume(removals) => (removals, true),
            Decision::Remove(name) => {
                if !args.yes {
                    ask(&mut operator, &snapshot, &name).await?;
                }
                (vec![operator.admin.registry().remove(&name).await?], false)
            }
        };
        let mut shown = Shown {
            environment: &operator.environment.clone(),
            removed: Vec::new(),
        };
        for removal in removals {
            let deleting = delete(&mut operator, &removal, args.rate);
            let keys_deleted = tokio::select! {
                result = deleting => result.with_context(|| go_on(&removal.slug))?,
                _ = tokio::signal::ctrl_c() => bail!("interrupted; {}", go_on(&removal.slug)),
            };
            shown.removed.push(Done {
                name: removal.slug,
                prefix: removal.prefix,
                keys_deleted,
                resumed,
            });
        }
        crate::output::print(global.json, &shown, text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn go_on(slug: &Slug) -> String {
    format!(
        "the store is gone, its keys are not all deleted; go on with: flect kv rm {slug} --resume"
    )
}

enum Decision {
    Remove(Slug),
    Resume(Vec<Removal>),
}

/// What is meant: a store may have the name of an earlier one whose keys are still being deleted.
fn decide(snapshot: &Snapshot, args: &Args) -> anyhow::Result<Decision> {
    let Some(name) = &args.name else {
        return Ok(Decision::Resume(snapshot.removed.clone()));
    };
    let pending: Vec<Removal> = snapshot
        .removed
        .iter()
        .filter(|removal| removal.slug == *name)
        .cloned()
        .collect();
    match (args.resume, pending.is_empty(), snapshot.stores.get(name)) {
        (true, true, Some(_)) => bail!(
            "nothing is left to delete of an earlier store {name}; to remove the store there is: flect kv rm {name}"
        ),
        (_, false, None) | (true, false, _) => Ok(Decision::Resume(pending)),
        (false, false, Some(record)) => bail!(
            "there is a store {name} ({}), and an earlier one of that name ({}) whose keys are not all deleted; finish that first: flect kv rm {name} --resume",
            record.prefix,
            pending[0].prefix
        ),
        (false, true, Some(_)) => Ok(Decision::Remove(name.clone())),
        (_, true, None) => match snapshot.get(name) {
            // Who names a store by an earlier name may not mean the store that has it now.
            Ok((current, _)) => {
                bail!("{name} is called {current} now: flect kv rm {current}")
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// The name is to be typed: what is deleted does not come back, and `y` is typed by habit.
async fn ask(operator: &mut Operator, snapshot: &Snapshot, name: &Slug) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!(
            "removing store {name} deletes its keys; without a terminal to ask on, say so: --yes"
        );
    }
    let (_, record) = snapshot.get(name)?;
    let effort = Effort {
        names_max: Some(LOOK_BEFORE_ASKING),
        error_max: 0.1,
        measured_min: 100,
        names_per_second: None,
    };
    let mut connection = operator.admin.connection();
    let told = survey(
        &mut connection,
        std::slice::from_ref(&record.prefix),
        effort,
    )
    .await?;
    let holds = told
        .values()
        .next()
        .map_or_else(String::new, |usage| match usage.found {
            0 if usage.walked_all => "; it is empty".to_owned(),
            0 => "; it has few keys".to_owned(),
            _ => format!(
                "; it has about {}, {}",
                keys(usage.keys.value as u64),
                size(usage.memory_bytes.value as u64)
            ),
        });
    anstream::eprint!(
        "{WARN}This deletes store {name} of environment {} for good{WARN:#}{holds}.\nType its name to go on: ",
        operator.environment
    );
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() != name.as_str() {
        bail!("not removed: that was not its name");
    }
    Ok(())
}

/// Deletes the keys of a removed store and forgets it; how many there were.
async fn delete(
    operator: &mut Operator,
    removal: &Removal,
    rate: Option<u64>,
) -> anyhow::Result<u64> {
    let mut connection = operator.admin.connection();
    // An agent that has not heard of the removal yet may make the users again, hence once more below.
    operator.admin.remove_users(&removal.prefix).await?;
    let bar = Progress::new("deleting");
    let erased = erase::erase(
        &mut connection,
        &removal.prefix,
        &mut Pace::new(rate),
        |erased| {
            let again = if erased.walks > 1 {
                ", looking again"
            } else {
                ""
            };
            bar.set(
                erased.fraction,
                format!("{} deleted{again}", keys(erased.keys)),
            );
        },
    )
    .await?;
    bar.finish();
    operator.admin.remove_users(&removal.prefix).await?;
    flect_agent::keyspace::copy::forget(&mut connection, &removal.prefix).await?;
    forget(operator.admin.registry(), removal).await?;
    Ok(erased.keys)
}

async fn forget(
    registry: &mut Registry<flect_agent::reach::Link>,
    removal: &Removal,
) -> anyhow::Result<()> {
    Ok(registry.forget(removal).await?)
}

fn text(shown: &Shown<'_>) -> String {
    if shown.removed.is_empty() {
        return format!(
            "no removal is under way in environment {}",
            shown.environment
        );
    }
    let lines = shown.removed.iter().map(|done| {
        let again = if done.resumed { "the rest of " } else { "" };
        format!(
            "removed {again}store {} ({}): {} key{} deleted\n",
            done.name,
            done.prefix,
            count(done.keys_deleted),
            if done.keys_deleted == 1 { "" } else { "s" }
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flect_agent::registry::{Limits, Record};

    fn snapshot(stores: &[&str], removed: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for name in stores {
            let prefix = Prefix::parse("{new}").unwrap();
            let record = Record::new(prefix, Limits::default());
            snapshot.stores.insert(slug(name).unwrap(), record);
        }
        for name in removed {
            snapshot.removed.push(Removal {
                slug: slug(name).unwrap(),
                prefix: Prefix::parse("{old}").unwrap(),
                removed_at: 0,
            });
        }
        snapshot
    }

    fn decided(stores: &[&str], removed: &[&str], name: Option<&str>, resume: bool) -> String {
        let args = Args {
            name: name.map(|name| slug(name).unwrap()),
            yes: true,
            resume,
            rate: None,
        };
        match decide(&snapshot(stores, removed), &args) {
            Ok(Decision::Remove(name)) => format!("remove {name}"),
            Ok(Decision::Resume(all)) => format!("resume {}", all.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_new_store_is_never_taken_for_an_earlier_one() {
        assert_eq!(decided(&["a"], &[], Some("a"), false), "remove a");
        assert_eq!(decided(&[], &["a"], Some("a"), false), "resume 1");
        assert_eq!(decided(&["a"], &["a"], Some("a"), true), "resume 1");
        assert!(decided(&["a"], &["a"], Some("a"), false).contains("--resume"));
        assert!(decided(&["a"], &[], Some("a"), true).contains("nothing is left"));
        assert_eq!(decided(&["b"], &["a", "c"], None, true), "resume 2");
        assert!(decided(&["ab"], &[], Some("a"), false).contains("no store 'a'"));
    }
}
