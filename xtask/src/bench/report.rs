//! What was measured, as ratios; and as text.

mod markdown;
mod text;

use serde::Serialize;

use super::cases::Metric;
use super::goals::Standing;
use super::measure::Measurement;
use super::rounds::Measured;
use super::statistics::{NOISE_MAX, Spread, Twice, noise, ratios};

pub use markdown::markdown;
pub use text::{print_case, print_end};

/// The whole report.
#[derive(Serialize)]
pub struct Report {
    /// Where and how.
    pub setting: Vec<(&'static str, String)>,
    /// The sides, in order.
    pub sides: Vec<&'static str>,
    /// The cases, in order.
    pub cases: Vec<Case>,
    /// Each goal at each of the sides that goals are told of.
    pub goals: Vec<Standing>,
}

/// A case's numbers.
#[derive(Serialize)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// How many rounds.
    pub rounds: usize,
    /// One per metric.
    pub rows: Vec<Row>,
    /// Peers that cannot do it, and why.
    pub unable: Vec<(&'static str, String)>,
}

/// A metric's numbers.
#[derive(Serialize)]
pub struct Row {
    /// Which, for the program.
    #[serde(skip)]
    pub metric: Metric,
    /// Which, in words.
    pub name: &'static str,
    /// Of absolute values.
    pub unit: &'static str,
    /// Direct Valkey's median, where it has such a thing.
    pub direct: Option<f64>,
    /// How far direct Valkey is from itself.
    pub noise: Option<f64>,
    /// One per side.
    pub cells: Vec<Cell>,
}

/// A side's numbers.
#[derive(Serialize)]
pub struct Cell {
    /// The side.
    pub side: &'static str,
    /// What was measured.
    pub value: Spread,
    /// To direct Valkey in the same round.
    pub ratio: Option<Spread>,
    /// What was measured in each round.
    pub rounds: Vec<f64>,
}

impl Cell {
    /// The ratio where there is one, else the value.
    pub fn shown(&self) -> Spread {
        self.ratio.unwrap_or(self.value)
    }
}

impl Row {
    /// Is it too noisy to conclude anything?
    pub fn is_too_noisy(&self) -> bool {
        self.noise.is_some_and(|noise| noise > NOISE_MAX)
    }
}

impl Case {
    /// Makes ratios of what was measured.
    pub fn new(measured: &Measured) -> Self {
        let rows = measured.case.metrics.iter();
        Self {
            name: measured.case.name,
            rounds: measured.direct.len(),
            rows: rows.map(|metric| row(*metric, measured)).collect(),
            unable: measured
                .unable
                .iter()
                .map(|(side, why)| (side.name, why.clone()))
                .collect(),
        }
    }

    /// The numbers of a metric.
    pub fn row(&self, metric: Metric) -> Option<&Row> {
        self.rows.iter().find(|row| row.metric == metric)
    }
}

fn row(metric: Metric, measured: &Measured) -> Row {
    let of = |measurement: &Measurement| measurement.get(&metric).copied();
    let direct: Vec<Twice> = measured
        .direct
        .iter()
        .filter_map(|[first, second]| Some(Twice(of(first)?, of(second)?)))
        .filter(|_| metric.is_relative())
        .collect();
    let bases: Vec<f64> = direct.iter().map(|twice| twice.base()).collect();
    let cells = measured.sides.iter().filter_map(|(side, rounds)| {
        let rounds: Vec<f64> = rounds.iter().filter_map(of).collect();
        Some(Cell {
            side: side.name,
            value: Spread::of(&rounds)?,
            ratio: Spread::of(&ratios(&rounds, &direct)),
            rounds,
        })
    });
    Row {
        metric,
        name: metric.name(),
        unit: metric.unit(),
        direct: Spread::of(&bases).map(|spread| spread.median),
        noise: noise(&direct),
        cells: cells.collect(),
    }
}

/// A number with three digits that count.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match text.contains('.') {
        true => text,
        false => grouped(&text),
    }
}

/// 1234567 as 1,234,567.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio with its spread; a value alone.
fn cell(cell: &Cell) -> String {
    match cell.ratio {
        Some(ratio) => format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.low, ratio.high),
        None => short(cell.value.median),
    }
}

fn per_cent(noise: Option<f64>) -> String {
    noise.map_or(String::new(), |noise| format!("{:.0} %", noise * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let check = |value, expect| assert_eq!(short(value), expect);
        check(1_234_567.0, "1,234,567");
        check(100_000.0, "100,000");
        check(123.4, "123");
        check(12.34, "12.3");
        check(0.567, "0.57");
        check(0.0, "0.00");
    }
}
