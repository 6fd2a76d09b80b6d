//! Showing counts: a line for each of the agent's own cases, with the limits on the same bytes beside it.

use std::fmt::Write as _;

use super::baseline::{Kind, Verdict};
use super::counted::Count;
use super::is_own;

/// For a terminal and for CI's log.
pub fn text(counts: &[Count], times: &[Count], verdicts: &[Verdict]) -> String {
    let mut text = format!(
        "{:<8} {:<22} {:>8} {:>13} {:>8}  {:>15} {:>9}\n",
        "part", "case", "bytes", "instructions", "before", "redis-protocol", "limit"
    );
    for count in counts.iter().filter(|count| is_own(count)) {
        let verdict = verdicts.iter().find(|verdict| verdict.key == count.key());
        let before = verdict.and_then(|verdict| verdict.expected);
        let _ = write!(
            text,
            "{:<8} {:<22} {:>8} {:>13} {:>8}  {:>15} {:>9}",
            count.part,
            count.name,
            length(count),
            whole(Some(count.value)),
            whole(before),
            whole(by(counts, count, &["redis-protocol"])),
            whole(by(counts, count, &LIMITS)),
        );
        if let Some(time) = by(times, count, &["flect"]) {
            let _ = write!(text, "  {time:.0} ns");
        }
        let word = match verdict.map(|verdict| verdict.kind) {
            Some(Kind::Better) => "  better: --update holds on to it",
            Some(Kind::Dearer) => "  FAILED: dearer",
            Some(Kind::New) => "  FAILED: not written down: --update",
            _ => "",
        };
        let _ = writeln!(text, "{word}");
    }
    for gone in verdicts.iter().filter(|it| it.kind == Kind::Gone) {
        let _ = writeln!(
            text,
            "{}  FAILED: written down, but gone: --update",
            gone.key
        );
    }
    text
}

/// For BENCHMARKS.md.
pub fn markdown(counts: &[Count], times: &[Count], made_with: &str) -> String {
    let mut text = format!("- made with: {made_with}\n\n");
    text.push_str(
        "| part | case | bytes | instructions | bytes per instruction | redis-protocol | memchr or copy |",
    );
    text.push_str(if times.is_empty() {
        "\n"
    } else {
        " ns | bytes per ns |\n"
    });
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |");
    text.push_str(if times.is_empty() {
        "\n"
    } else {
        " --- | --- |\n"
    });
    for count in counts.iter().filter(|count| is_own(count)) {
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            count.part,
            count.name,
            length(count),
            whole(Some(count.value)),
            rate(count, count.value),
            whole(by(counts, count, &["redis-protocol"])),
            whole(by(counts, count, &LIMITS)),
        );
        if let Some(time) = by(times, count, &["flect"]) {
            let _ = write!(text, " {time:.0} | {} |", rate(count, time));
        }
        text.push('\n');
    }
    text
}

const LIMITS: [&str; 2] = ["memchr", "copy"];

/// What one of these takes for the same bytes.
fn by(counts: &[Count], count: &Count, whose: &[&str]) -> Option<f64> {
    let same = |other: &&Count| {
        other.part == count.part && other.name == count.name && whose.contains(&other.by.as_str())
    };
    counts.iter().find(same).map(|other| other.value)
}

fn whole(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

fn length(count: &Count) -> String {
    match count.bytes {
        0 => "-".to_owned(),
        bytes => bytes.to_string(),
    }
}

fn rate(count: &Count, of: f64) -> String {
    match count.bytes {
        0 => "-".to_owned(),
        bytes => format!("{:.2}", bytes as f64 / of),
    }
}
