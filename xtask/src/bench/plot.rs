//! The plot: for each case a bar per side, its length the ratio to direct Valkey, with the spread as a line.
//!
//! Plain SVG, written by hand: bars need no library, and the text stays text.

use std::fmt::Write as _;

use super::cases::Metric;
use super::report::{Case, Cell, Report};

const WIDTH: f64 = 940.0;
/// Left of the bars: the case's name.
const LEFT: f64 = 370.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 84.0;
const BAR: f64 = 9.0;
const GAP: f64 = 10.0;
/// Longer bars end here, with an arrow and their number.
const RATIO_MAX: f64 = 3.0;
/// Distinguishable also without red or green (Okabe and Ito), on white.
const COLOURS: [&str; 8] = [
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#999999", "#d55e00", "#f0e442",
];
const FONT: &str = "font-family='Inter, Helvetica, Arial, sans-serif'";

/// Throughput of all cases, and the latencies where there is no throughput.
pub fn svg(report: &Report) -> String {
    let sides: Vec<&str> = report.sides.clone();
    let colour = |side: &str| {
        let at = sides.iter().position(|name| *name == side).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    };
    let groups: Vec<(String, Vec<&Cell>)> = report.cases.iter().flat_map(groups).collect();
    let height: f64 = groups
        .iter()
        .map(|(_, cells)| cells.len() as f64 * BAR + GAP)
        .sum::<f64>()
        + TOP
        + 30.0;
    let mut text = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' {FONT} font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='16' y='24' font-size='16' font-weight='bold'>Ratio to direct Valkey in the same run</text>\n\
         <text x='16' y='42' fill='#555'>throughput: longer is better; where p99 is said, latency: shorter is better; \
         lines show the spread</text>\n"
    );
    legend(&sides, colour, &mut text);
    axis(height, &mut text);
    let mut y = TOP;
    for (name, cells) in &groups {
        let middle = y + cells.len() as f64 * BAR / 2.0 + 4.0;
        let _ = writeln!(
            text,
            "<text x='{}' y='{middle:.1}' text-anchor='end'>{}</text>",
            LEFT - 10.0,
            escaped(name)
        );
        for cell in cells {
            bar(cell, y, colour(cell.side), &mut text);
            y += BAR;
        }
        y += GAP;
    }
    let _ = writeln!(
        text,
        "<line x1='{0:.1}' x2='{0:.1}' y1='{1}' y2='{2}' stroke='black'/>",
        x(1.0),
        TOP - 6.0,
        height - 24.0
    );
    text.push_str("</svg>\n");
    text
}

/// What is drawn of a case.
fn groups(case: &Case) -> Vec<(String, Vec<&Cell>)> {
    let (row, name) = match (case.row(Metric::Rate), case.row(Metric::P99)) {
        (Some(row), _) => (row, case.name.to_owned()),
        (None, Some(row)) => (row, format!("{}: p99", case.name)),
        (None, None) => return Vec::new(),
    };
    let mark = if row.is_too_noisy() { " (noisy)" } else { "" };
    let cells: Vec<_> = row
        .cells
        .iter()
        .filter(|cell| cell.ratio.is_some())
        .collect();
    vec![(format!("{name}{mark}"), cells)]
}

fn x(ratio: f64) -> f64 {
    LEFT + ratio.min(RATIO_MAX) / RATIO_MAX * (WIDTH - LEFT - RIGHT)
}

fn legend<'a>(sides: &[&'a str], colour: impl Fn(&'a str) -> &'static str, text: &mut String) {
    let mut at = 16.0;
    for side in sides {
        let _ = writeln!(
            text,
            "<rect x='{at:.1}' y='53' width='10' height='10' fill='{}'/><text x='{:.1}' y='62'>{side}</text>",
            colour(side),
            at + 14.0
        );
        at += 34.0 + side.len() as f64 * 6.3;
    }
}

fn axis(height: f64, text: &mut String) {
    let mut ratio = 0.0;
    while ratio <= RATIO_MAX {
        let _ = writeln!(
            text,
            "<line x1='{0:.1}' x2='{0:.1}' y1='{1}' y2='{2}' stroke='#ddd'/>\
             <text x='{0:.1}' y='{3}' text-anchor='middle' fill='#555'>{ratio}</text>",
            x(ratio),
            TOP - 6.0,
            height - 24.0,
            height - 8.0
        );
        ratio += 0.5;
    }
}

fn bar(cell: &Cell, y: f64, colour: &str, text: &mut String) {
    let Some(ratio) = cell.ratio else { return };
    let thick = BAR - 1.5;
    let _ = write!(
        text,
        "<rect x='{:.1}' y='{y:.1}' width='{:.1}' height='{thick}' fill='{colour}'>\
         <title>{}: {:.2} ({:.2} to {:.2})</title></rect>",
        x(0.0),
        x(ratio.median) - x(0.0),
        cell.side,
        ratio.median,
        ratio.low,
        ratio.high
    );
    let middle = y + thick / 2.0;
    let _ = writeln!(
        text,
        "<line x1='{:.1}' x2='{:.1}' y1='{middle:.1}' y2='{middle:.1}' stroke='#222'/>",
        x(ratio.low),
        x(ratio.high)
    );
    if ratio.median > RATIO_MAX {
        let _ = writeln!(
            text,
            "<text x='{:.1}' y='{:.1}' font-size='9' text-anchor='end' fill='#222'>{:.1} &#8594;</text>",
            x(RATIO_MAX) - 3.0,
            y + thick,
            ratio.median
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::statistics::Spread;
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_ratio() {
        let ratio = Spread {
            median: 1.5,
            low: 1.4,
            high: 1.6,
        };
        let cell = Cell {
            side: "a",
            value: ratio,
            ratio: Some(ratio),
            rounds: Vec::new(),
        };
        let mut text = String::new();
        bar(&cell, 10.0, "red", &mut text);
        // Half of what RATIO_MAX takes.
        assert!(text.contains("width='270.0'"), "{text}");
        assert_eq!(x(99.0), WIDTH - RIGHT);
    }
}
