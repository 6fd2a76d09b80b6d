//! For a terminal: a case when it is done, the goals at the end.

use anstream::println;
use anstyle::{AnsiColor, Style};

use super::super::goals::{Standing, summary};
use super::super::statistics::{NOISE_MAX, Verdict};
use super::{Case, Report, Row, cell, per_cent, short};

/// Wide enough for `12.34 (12.34..12.34)`.
const COLUMN: usize = 20;
/// Wide enough for the longest metric.
const FIRST: usize = 16;

/// One case's table.
pub fn print_case(case: &Case) {
    let bold = Style::new().bold();
    println!("\n{bold}{}{bold:#}", case.name);
    let mut head = format!("{:<FIRST$}{:>12} {:<13}{:>6}", "", "direct", "", "noise");
    let sides: Vec<_> = case
        .rows
        .first()
        .iter()
        .flat_map(|row| row.cells.iter().map(|cell| cell.side))
        .collect();
    for side in &sides {
        head.push_str(&format!("  {side:<COLUMN$}"));
    }
    let dim = Style::new().dimmed();
    println!("{dim}{}{dim:#}", head.trim_end());
    for row in &case.rows {
        print_row(row, &sides);
    }
    for (side, why) in &case.unable {
        println!("  {side} cannot: {}", why.lines().next().unwrap_or(""));
    }
}

fn print_row(row: &Row, sides: &[&str]) {
    let mut line = format!(
        "  {:<width$}{:>12} {:<13}{:>6}",
        row.name,
        row.direct.map_or(String::new(), short),
        row.unit,
        per_cent(row.noise),
        width = FIRST - 2,
    );
    for side in sides {
        let found = row.cells.iter().find(|cell| cell.side == *side);
        line.push_str(&format!("  {:<COLUMN$}", found.map_or(String::new(), cell)));
    }
    if row.is_too_noisy() {
        line = format!("{}  too noisy to conclude", line.trim_end());
    }
    println!("{}", line.trim_end());
}

/// Goals, noise, and how to read it.
pub fn print_end(report: &Report) {
    let bold = Style::new().bold();
    println!("\n{bold}Goals{bold:#}");
    let measured = |goal: &&Standing| goal.verdict != Verdict::NotMeasured;
    let goals = || report.goals.iter().filter(|goal| goal.peer.is_none());
    for goal in goals().filter(measured) {
        let (word, colour) = word(goal.verdict);
        let style = Style::new().fg_color(Some(colour.into()));
        let found = goal.found.map_or(String::new(), |found| {
            let [median, low, high] = [found.median, found.low, found.high].map(short);
            format!("{median} ({low}..{high})")
        });
        println!(
            "  {style}{word:<13}{style:#} {:<11} {:<66} {found}",
            goal.side, goal.goal
        );
    }
    for it in summary(&report.goals) {
        let (word, colour) = word(it.verdict);
        let style = Style::new().fg_color(Some(colour.into()));
        println!(
            "  {style}{word:<13}{style:#} {:<11} against {}: {}",
            it.side, it.peer, it.words
        );
    }
    let others = goals().filter(|goal| !measured(goal)).count();
    if others > 0 {
        println!("  {others} others were not measured");
    }
    println!("\n{}", noise_in_words(report));
    for (name, value) in &report.setting {
        println!("  {name:<14} {value}");
    }
}

/// Reached or not, and the colour of it.
pub fn word(verdict: Verdict) -> (&'static str, AnsiColor) {
    match verdict {
        Verdict::Reached => ("reached", AnsiColor::Green),
        Verdict::Missed => ("missed", AnsiColor::Red),
        Verdict::TooNoisy => ("too noisy", AnsiColor::Yellow),
        Verdict::TooClose => ("too close", AnsiColor::Yellow),
        Verdict::NotMeasured => ("not measured", AnsiColor::BrightBlack),
    }
}

/// How noisy the run was.
pub fn noise_in_words(report: &Report) -> String {
    let rows = report.cases.iter().flat_map(|case| &case.rows);
    let mut all: Vec<f64> = rows.filter_map(|row| row.noise).collect();
    all.sort_by(f64::total_cmp);
    let middle = all.get(all.len() / 2).copied().unwrap_or(0.0);
    let beyond = all.iter().filter(|noise| **noise > NOISE_MAX).count();
    format!(
        "Noise: direct Valkey against itself within a round differs by {} in the middle of {} numbers; \
         {beyond} of them are too noisy to conclude (above {}).",
        per_cent(Some(middle)),
        all.len(),
        per_cent(Some(NOISE_MAX)),
    )
}
