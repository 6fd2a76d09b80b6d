//! The stores as a table or as JSON, for pipes, scripts and screen readers.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use flect_agent::series::{Rates, StoreRates};

use super::figures::{age, latency, printable, rate, size};
use super::model::Sort;
use super::sampler::{Look, Sampler};
use crate::output;

/// An agent that was started anew between two looks gives no rates; twice in a row would mean that
/// it cannot stay up.
const RESTARTS_MAX: usize = 3;

/// Prints a table once.
pub fn table(sampler: &mut Sampler, interval: Duration, sort: Sort) -> anyhow::Result<ExitCode> {
    let look = first(sampler, interval)?;
    anstream::print!("{}", shown(&look, sort));
    Ok(ExitCode::SUCCESS)
}

/// Prints the rates once, or one document a line until the reader has enough.
pub fn json(
    sampler: &mut Sampler,
    interval: Duration,
    sort: Sort,
    forever: bool,
) -> anyhow::Result<ExitCode> {
    if !forever {
        let mut rates = first(sampler, interval)?.rates;
        sort_stores(&mut rates, sort);
        println!("{}", serde_json::to_string_pretty(&rates)?);
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let Some(mut look) = sampler.next(interval)? else {
            continue;
        };
        sort_stores(&mut look.rates, sort);
        let line = serde_json::to_string(&look.rates)?;
        let mut out = std::io::stdout().lock();
        // A reader that goes ends flect, as it ends other commands.
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("stdout")?;
    }
}

fn first(sampler: &mut Sampler, interval: Duration) -> anyhow::Result<Look> {
    for _ in 0..RESTARTS_MAX {
        if let Some(look) = sampler.next(interval)? {
            return Ok(look);
        }
    }
    anyhow::bail!("the agent starts again and again; its log says why")
}

fn sort_stores(rates: &mut Rates, sort: Sort) {
    let mut sorted: Vec<&StoreRates> = rates.stores.iter().collect();
    sort.apply(&mut sorted);
    rates.stores = sorted.into_iter().cloned().collect();
}

/// The table, a line about the node above it.
pub fn shown(look: &Look, sort: Sort) -> String {
    let node = &look.rates.node;
    let mut out = format!(
        "Valkey {} {}; {} requests/s, {} sessions, {} upstream connections, CPU {:.0}%, {}, up {}\n",
        look.state.valkey,
        if look.state.reachable {
            "is reachable"
        } else {
            "is NOT reachable"
        },
        rate(node.requests_per_second),
        node.sessions,
        node.upstreams,
        node.cpu_percent,
        size(Some(node.rss_bytes)),
        age(node.uptime_ms),
    );
    let mut stores: Vec<&StoreRates> = look.rates.stores.iter().collect();
    if stores.is_empty() {
        out.push_str("no stores; make one with `flect kv create NAME`\n");
        return out;
    }
    sort.apply(&mut stores);
    let head = [
        "STORE", "REQ/S", "P50", "P99", "ERR/S", "REF/S", "MEMORY", "CONN", "BUSIEST", "APPS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(stores.iter().map(|store| row(store)));
    right_align(&mut rows, 1..8);
    out.push_str(&output::table(&rows));
    out
}

fn row(store: &StoreRates) -> Vec<String> {
    let busiest = store.commands.first().map_or("-", |command| &command.name);
    vec![
        store.name.clone(),
        rate(store.requests_per_second),
        latency(store.latency_p50_us),
        latency(store.latency_p99_us),
        rate(store.errors_per_second),
        rate(store.refused_per_second),
        size(store.memory_bytes),
        store.sessions.to_string(),
        printable(busiest),
        printable(&store.apps.join(", ")),
    ]
}

/// Fills these columns from the left, so that digits stand below digits.
fn right_align(rows: &mut [Vec<String>], columns: std::ops::Range<usize>) {
    for column in columns {
        let width = rows.iter().map(|row| row[column].chars().count()).max();
        let width = width.unwrap_or(0);
        for row in &mut *rows {
            row[column] = format!("{:>width$}", row[column]);
        }
    }
}
