//! For BENCHMARKS.md: one table per metric, ready to be pasted.

use std::fmt::Write as _;

use super::super::cases::Metric;
use super::super::goals::summary;
use super::text::{noise_in_words, word};
use super::{Report, cell, per_cent, short};

const METRICS: [(Metric, &str); 9] = [
    (Metric::Rate, "Throughput, ratio to direct: more is better"),
    (
        Metric::P50,
        "Median latency, ratio to direct: less is better",
    ),
    (
        Metric::P99,
        "99th percentile, ratio to direct: less is better",
    ),
    (
        Metric::P999,
        "99.9th percentile, ratio to direct: less is better",
    ),
    (
        Metric::ServerCpu,
        "Valkey's CPU time per request, ratio to direct: less is better",
    ),
    (
        Metric::OwnCpu,
        "CPU time of the agent or peer, microseconds per request (seconds per million)",
    ),
    (
        Metric::IdleMemory,
        "Memory of the agent or peer, bytes per idle connection",
    ),
    (
        Metric::ActiveMemory,
        "The same while all connections ask, at its highest",
    ),
    (
        Metric::Growth,
        "Growth of the agent's or peer's memory, MiB, at its highest",
    ),
];

/// The whole report.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in &report.setting {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let _ = writeln!(text, "\n{}", noise_in_words(report));
    for (metric, title) in METRICS {
        table(report, metric, title, &mut text);
    }
    goals(report, &mut text);
    peers(report, &mut text);
    unable(report, &mut text);
    text
}

fn table(report: &Report, metric: Metric, title: &str, text: &mut String) {
    let rows: Vec<_> = report
        .cases
        .iter()
        .filter_map(|case| Some((case.name, case.row(metric)?)))
        .collect();
    if rows.is_empty() {
        return;
    }
    let sides: Vec<_> = report
        .sides
        .iter()
        .filter(|side| {
            let mut cells = rows.iter().flat_map(|(_, row)| &row.cells);
            cells.any(|cell| cell.side == **side)
        })
        .collect();
    let relative = metric.is_relative();
    let _ = write!(text, "\n### {title}\n\n| case |");
    if relative {
        let _ = write!(text, " direct ({}) | noise |", metric.unit());
    }
    for side in &sides {
        let _ = write!(text, " {side} |");
    }
    let columns = sides.len() + if relative { 3 } else { 1 };
    let _ = writeln!(text, "\n|{}", " --- |".repeat(columns));
    for (name, row) in rows {
        let _ = write!(text, "| {name} |");
        if relative {
            let direct = row.direct.map_or(String::new(), short);
            let mark = if row.is_too_noisy() {
                ", too noisy"
            } else {
                ""
            };
            let _ = write!(text, " {direct} | {}{mark} |", per_cent(row.noise));
        }
        for side in &sides {
            let found = row.cells.iter().find(|cell| cell.side == **side);
            let _ = write!(text, " {} |", found.map_or("-".to_owned(), cell));
        }
        text.push('\n');
    }
}

fn goals(report: &Report, text: &mut String) {
    text.push_str("\n### Goals\n\n| goal | side | found | verdict |\n| --- | --- | --- | --- |\n");
    for goal in report.goals.iter().filter(|goal| goal.peer.is_none()) {
        let found = goal.found.map_or("-".to_owned(), |found| {
            let [median, low, high] = [found.median, found.low, found.high].map(short);
            format!("{median} ({low}..{high})")
        });
        let (word, _) = word(goal.verdict);
        let _ = writeln!(text, "| {} | {} | {found} | {word} |", goal.goal, goal.side);
    }
}

/// The goal about peers: faster than all in every case that they can do.
fn peers(report: &Report, text: &mut String) {
    let all = summary(&report.goals);
    if all.is_empty() {
        return;
    }
    text.push_str(
        "\n### Against peers\n\n| side | peer | found | verdict |\n| --- | --- | --- | --- |\n",
    );
    for it in all {
        let (word, _) = word(it.verdict);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {word} |",
            it.side, it.peer, it.words
        );
    }
}

fn unable(report: &Report, text: &mut String) {
    let all: Vec<_> = report
        .cases
        .iter()
        .flat_map(|case| {
            case.unable
                .iter()
                .map(move |(side, why)| (case.name, side, why))
        })
        .collect();
    if all.is_empty() {
        return;
    }
    text.push_str("\n### What peers cannot do\n\n| case | peer | it says |\n| --- | --- | --- |\n");
    for (case, side, why) in all {
        let why = why.lines().next().unwrap_or("").replace('|', "\\|");
        let _ = writeln!(text, "| {case} | {side} | {why} |");
    }
}
