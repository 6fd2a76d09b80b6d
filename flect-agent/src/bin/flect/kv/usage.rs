//! `flect kv usage`: what stores hold.

mod chart;

use std::process::ExitCode;

use flect_agent::admin::info_field;
use flect_agent::registry::Record;
use flect_agent::store::{Prefix, Slug};
use flect_agent::usage::{Effort, Estimate, Survey, Usage};
use serde::Serialize;

use crate::Global;
use crate::operator::{Operator, block_on, slug};
use crate::output::{FAINT, HEAD, size, table};
use crate::progress::{Progress, keys, unicode};
use chart::Chart;

/// The arguments of `flect kv usage`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Numbers are told from a random sample of the keys, with the interval that holds the truth in
95 of 100 samples. A few keys much bigger than all others can hide from a sample; --exact asks
for every key. Bytes are what Valkey's MEMORY USAGE says (of a collection it looks at five
elements).
Ctrl-C tells what is known so far.")]
pub struct Args {
    /// The store [default: a table of all stores]
    #[arg(value_parser = slug)]
    name: Option<Slug>,
    /// Look at every key instead of a sample
    #[arg(long)]
    exact: bool,
    /// How well numbers shall be known, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent, conflicts_with = "exact")]
    error: f64,
    /// Look at no more than so many of the server's names
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    max_keys: Option<u64>,
    /// Look at most at so many of the server's names per second
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(value) if value > 0.0 && value <= 100.0 => Ok(value),
        _ => Err("expected a number above 0, up to 100".to_owned()),
    }
}

/// Keys of each store that are measured at least: with sizes as different as they usually are, that
/// is the 5 % of the default.
const MEASURED_MIN: u64 = 1_500;

#[derive(Serialize)]
struct Shown<'a> {
    environment: &'a str,
    /// What the whole server uses, for all its stores and itself.
    used_memory_bytes: u64,
    /// 0 is no limit.
    max_memory_bytes: u64,
    stores: Vec<ShownStore<'a>>,
}

#[derive(Serialize)]
struct ShownStore<'a> {
    name: &'a Slug,
    prefix: &'a Prefix,
    limit_bytes: Option<u64>,
    /// Of the memory that the whole server uses.
    share: f64,
    #[serde(flatten)]
    usage: &'a Usage,
}

/// Surveys and draws.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut operator = Operator::connect(global).await?;
        let snapshot = operator.admin.registry().snapshot().await?;
        let stores: Vec<(&Slug, &Record)> = match &args.name {
            Some(name) => vec![snapshot.get(name)?],
            None => snapshot.stores.iter().collect(),
        };
        let mut effort = if args.exact {
            Effort::exact()
        } else {
            Effort {
                names_max: None,
                error_max: args.error / 100.0,
                measured_min: MEASURED_MIN,
                names_per_second: None,
            }
        };
        effort.names_max = args.max_keys;
        effort.names_per_second = args.rate;
        let prefixes: Vec<Prefix> = stores.iter().map(|(_, r)| r.prefix.clone()).collect();
        let mut connection = operator.admin.connection();
        let mut survey = Survey::begin(&mut connection, &prefixes, effort).await?;
        let bar = Progress::new("surveying");
        loop {
            let step = tokio::select! {
                step = survey.step(&mut connection) => step?,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some(progress) = step else { break };
            bar.set(progress.fraction, format!("{} found", keys(progress.found)));
        }
        bar.finish();
        let told = survey.told();
        let (used, max) = memory(&mut connection).await?;
        let shown = Shown {
            environment: &operator.environment,
            used_memory_bytes: used,
            max_memory_bytes: max,
            stores: stores
                .iter()
                .filter_map(|(name, record)| {
                    let usage = told.get(&record.prefix)?;
                    Some(ShownStore {
                        name,
                        prefix: &record.prefix,
                        limit_bytes: record.limits.memory_bytes,
                        share: usage.memory_bytes.value / used.max(1) as f64,
                        usage,
                    })
                })
                .collect(),
        };
        crate::output::print(global.json, &shown, |shown| {
            match (&args.name, shown.stores.as_slice()) {
                (Some(_), [store]) => one(shown, store),
                _ => all(shown),
            }
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What the server uses and may use.
async fn memory(connection: &mut flect_agent::reach::Link) -> anyhow::Result<(u64, u64)> {
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(connection)
        .await?;
    let field = |name: &str| {
        info_field(&info, name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    Ok((field("used_memory"), field("maxmemory")))
}

/// `12,345 (12,000 to 12,700)`, or just the number when it is known.
fn estimate(estimate: &Estimate, unit: fn(u64) -> String) -> String {
    let value = unit(estimate.value.round() as u64);
    if estimate.error() <= 0.0 {
        return value;
    }
    let high = if estimate.high.is_finite() {
        format!(
            "{} to {}",
            unit(estimate.low as u64),
            unit(estimate.high as u64)
        )
    } else {
        "how many is not known".to_owned()
    };
    format!("about {value} {FAINT}({high}){FAINT:#}")
}

fn percentage(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// All stores, the biggest first.
fn all(shown: &Shown<'_>) -> String {
    if shown.stores.is_empty() {
        return format!(
            "environment {} has no stores yet: flect kv create NAME",
            shown.environment
        );
    }
    let chart = Chart::of_terminal(unicode());
    let mut stores: Vec<_> = shown.stores.iter().collect();
    stores.sort_by(|a, b| b.share.total_cmp(&a.share));
    let approximately = |e: &Estimate, text: String| {
        if e.error() > 0.0 {
            format!("~{text}")
        } else {
            text
        }
    };
    let head = ["STORE", "KEYS", "MEMORY", "ERROR", "LIMIT", "SHARE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for store in &stores {
        let usage = store.usage;
        let error = usage.keys.error().max(usage.memory_bytes.error());
        let bytes = usage.memory_bytes.value as u64;
        rows.push(vec![
            store.name.to_string(),
            approximately(&usage.keys, crate::progress::count(usage.keys.value as u64)),
            approximately(&usage.memory_bytes, size(bytes)),
            match error {
                error if error <= 0.0 => "none".to_owned(),
                error if error.is_finite() => format!("±{}", percentage(error)),
                _ => "unknown".to_owned(),
            },
            store.limit_bytes.map_or_else(
                || "none".to_owned(),
                |limit| {
                    format!(
                        "{} of {}",
                        percentage(bytes as f64 / limit.max(1) as f64),
                        size(limit)
                    )
                },
            ),
            format!("{} {}", chart.bar(store.share, 20), percentage(store.share)),
        ]);
    }
    if !unicode() {
        for cell in rows.iter_mut().flatten() {
            *cell = cell.replace('±', "+-");
        }
    }
    format!("{}{FAINT}{}{FAINT:#}\n", table(&rows), server(shown))
}

fn server(shown: &Shown<'_>) -> String {
    let limit = match shown.max_memory_bytes {
        0 => "no limit".to_owned(),
        bytes => format!("limit {}", size(bytes)),
    };
    format!(
        "environment {}: {} used by all stores and the server itself, {limit}",
        shown.environment,
        size(shown.used_memory_bytes)
    )
}

/// One store in detail.
fn one(shown: &Shown<'_>, store: &ShownStore<'_>) -> String {
    let usage = store.usage;
    let chart = Chart::of_terminal(unicode());
    let mut out = format!(
        "{HEAD}{}{HEAD:#}  {} in environment {}\n\nkeys     {}\nmemory   {}\nshare    {} of {} that the server uses\n",
        store.name,
        store.prefix,
        shown.environment,
        estimate(&usage.keys, crate::progress::count),
        estimate(&usage.memory_bytes, size),
        percentage(store.share),
        size(shown.used_memory_bytes),
    );
    if let Some(limit) = store.limit_bytes {
        let part = usage.memory_bytes.value / limit.max(1) as f64;
        out.push_str(&format!(
            "limit    {} of {}\n",
            percentage(part),
            size(limit)
        ));
    }
    out.push_str(&format!("{FAINT}{}{FAINT:#}\n", basis(usage)));
    if usage.measured == 0 {
        return out;
    }
    let bytes_all = usage.memory_bytes.value.max(1.0);
    let keys_all = usage.keys.value.max(1.0);
    let rows = usage.types.iter().map(|kind| {
        let value = format!(
            "{}, {}",
            size(kind.memory_bytes as u64),
            keys(kind.keys.round() as u64)
        );
        (kind.kind.clone(), kind.memory_bytes / bytes_all, value)
    });
    chart.section(&mut out, "Memory by type", rows.collect());
    if usage.databases.len() > 1 {
        let rows = usage.databases.iter().map(|(database, number)| {
            (
                format!("database {database}"),
                number / keys_all,
                keys(number.round() as u64),
            )
        });
        chart.section(&mut out, "Keys by database", rows.collect());
    }
    let rows = usage.expires.iter().map(|(class, number)| {
        (
            (*class).to_owned(),
            number / keys_all,
            keys(number.round() as u64),
        )
    });
    chart.section(&mut out, "Keys by time to live", rows.collect());
    let rows = usage.biggest.iter().map(|big| {
        let database = if big.database == 0 {
            String::new()
        } else {
            format!(" (database {})", big.database)
        };
        let label = format!("{}{database}", chart::printable(&big.key));
        let value = format!("{}, {}", size(big.memory_bytes), big.kind);
        (label, big.memory_bytes as f64 / bytes_all, value)
    });
    let title = if usage.measured_all {
        "Biggest keys"
    } else {
        "Biggest keys of the sample"
    };
    chart.section(&mut out, title, rows.collect());
    out
}

/// How it is known.
fn basis(usage: &Usage) -> String {
    if usage.measured_all {
        return "every key was looked at".to_owned();
    }
    let counted = if usage.walked_all {
        "all keys were counted"
    } else {
        "keys are estimated"
    };
    format!(
        "{counted}, {} measured; in brackets: 95 % intervals; --exact measures all",
        crate::progress::count(usage.measured)
    )
}
