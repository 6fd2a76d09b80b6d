//! What flect shall reach.

use serde::Serialize;

use super::cases::Metric;
use super::report::Case;
use super::side::PEERS;
use super::statistics::{Bound, Spread, Verdict, judge};

/// A goal about one number of one case.
struct Goal {
    case: &'static str,
    metric: Metric,
    bound: Bound,
}

const fn at_least(case: &'static str, metric: Metric, value: f64) -> Goal {
    Goal {
        case,
        metric,
        bound: Bound::AtLeast(value),
    }
}

const fn at_most(case: &'static str, metric: Metric, value: f64) -> Goal {
    Goal {
        case,
        metric,
        bound: Bound::AtMost(value),
    }
}

/// Ratios to direct Valkey, but for memory.
const GOALS: &[Goal] = &[
    at_least("GET, 50 connections", Metric::Rate, 1.4),
    at_least("SET, 50 connections", Metric::Rate, 1.4),
    at_most("GET, 50 connections", Metric::P50, 0.75),
    at_most("SET, 50 connections", Metric::P50, 0.75),
    at_most("GET, 50 connections", Metric::P99, 1.0),
    at_most("SET, 50 connections", Metric::P99, 1.0),
    at_least("GET, 50 connections, pipeline 16", Metric::Rate, 1.1),
    at_least("SET, 50 connections, pipeline 16", Metric::Rate, 1.1),
    at_most("GET, 1 connection", Metric::P50, 1.2),
    at_most("GET, 1 connection", Metric::P99, 1.2),
    at_most("SET, 1 connection", Metric::P50, 1.2),
    at_most("SET, 1 connection", Metric::P99, 1.2),
    at_most("GET, 50 connections", Metric::ServerCpu, 0.3),
    at_most("SET, 50 connections", Metric::ServerCpu, 0.3),
    at_least("GET of 10 MB", Metric::Rate, 0.9),
    // Flat: two connections may hold their buffers of some hundred KiB, not a value.
    at_most("GET of 10 MB", Metric::Growth, 4.0),
    at_most(
        "GET of 16 B beside 10 MB of the same store",
        Metric::P999,
        1.0,
    ),
    at_most("GET, 10,000 connections", Metric::IdleMemory, 4096.0),
];

/// How a goal stands at one side.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The goal in words.
    pub goal: String,
    /// The side.
    pub side: &'static str,
    /// The case that tells.
    pub case: &'static str,
    /// The proxy it is compared with, where it is not direct Valkey.
    pub peer: Option<&'static str>,
    /// What was found.
    pub found: Option<Spread>,
    /// Reached or not.
    pub verdict: Verdict,
}

/// The goal 'faster than a peer in every case that it can do', at one side.
pub struct Against {
    /// The side.
    pub side: &'static str,
    /// The peer.
    pub peer: &'static str,
    /// What to say of it.
    pub words: String,
    /// Reached when every case is.
    pub verdict: Verdict,
}

/// The comparisons with peers, a line for each side and peer.
pub fn summary(standings: &[Standing]) -> Vec<Against> {
    let mut all: Vec<Against> = Vec::new();
    for first in standings {
        let Some(peer) = first.peer else { continue };
        if all
            .iter()
            .any(|it| it.side == first.side && it.peer == peer)
        {
            continue;
        }
        let own = || {
            let all = standings.iter();
            all.filter(|it| it.side == first.side && it.peer == Some(peer))
        };
        let of = |verdict| own().filter(move |it| it.verdict == verdict);
        let reached = of(Verdict::Reached).count();
        let missed: Vec<String> = of(Verdict::Missed)
            .map(|it| {
                let ratio = it.found.map_or(0.0, |found| found.median);
                format!("{} ({ratio:.2})", it.case)
            })
            .collect();
        let cases = own().count();
        let open = cases - reached - missed.len();
        let verdict = match (missed.len(), open) {
            (0, 0) => Verdict::Reached,
            (0, _) => Verdict::TooClose,
            _ => Verdict::Missed,
        };
        let mut words = format!("faster in {reached} of {cases} cases");
        if open > 0 {
            words.push_str(&format!(", {open} too noisy or too close"));
        }
        if !missed.is_empty() {
            words.push_str(&format!("; slower in: {}", missed.join(", ")));
        }
        all.push(Against {
            side: first.side,
            peer,
            words,
            verdict,
        });
    }
    all
}

/// Each goal at a side.
pub fn standings(cases: &[Case], side: &'static str) -> Vec<Standing> {
    let mut all: Vec<_> = GOALS
        .iter()
        .map(|goal| standing(goal, cases, side))
        .collect();
    for peer in PEERS {
        all.extend(against(cases, side, peer.name));
    }
    all
}

fn standing(goal: &Goal, cases: &[Case], side: &'static str) -> Standing {
    let (sign, value) = match goal.bound {
        Bound::AtLeast(value) => (">=", value),
        Bound::AtMost(value) => ("<=", value),
    };
    let unit = match goal.metric {
        metric if metric.is_relative() => "x direct",
        metric => metric.unit(),
    };
    let words = format!(
        "{}: {} {sign} {value} {unit}",
        goal.case,
        goal.metric.name()
    );
    let found = cases.iter().find_map(|case| {
        let row = (case.name == goal.case).then(|| case.row(goal.metric))??;
        let cell = row.cells.iter().find(|cell| cell.side == side)?;
        Some((cell.shown(), row.noise.unwrap_or(0.0), case.rounds))
    });
    let verdict = match found {
        Some((found, noise, rounds)) => judge(found, goal.bound, noise, rounds),
        None => Verdict::NotMeasured,
    };
    Standing {
        goal: words,
        side,
        case: goal.case,
        peer: None,
        found: found.map(|(found, ..)| found),
        verdict,
    }
}

/// Faster than a peer in every case that it can do.
fn against(cases: &[Case], side: &'static str, peer: &'static str) -> Vec<Standing> {
    let mut all = Vec::new();
    for case in cases {
        let metric = match case.row(Metric::Rate) {
            Some(_) => Metric::Rate,
            None => Metric::P99,
        };
        let Some(row) = case.row(metric) else {
            continue;
        };
        let find = |name| row.cells.iter().find(|cell| cell.side == name);
        let (Some(own), Some(others)) = (find(side), find(peer)) else {
            continue;
        };
        let ratios: Vec<f64> = own
            .rounds
            .iter()
            .zip(&others.rounds)
            .map(|(own, other)| own / other)
            .collect();
        let bound = if metric.more_is_better() {
            Bound::AtLeast(1.0)
        } else {
            Bound::AtMost(1.0)
        };
        let found = Spread::of(&ratios);
        let noise = row.noise.unwrap_or(0.0);
        all.push(Standing {
            goal: format!("{}: {} better than {peer}", case.name, metric.name()),
            side,
            case: case.name,
            peer: Some(peer),
            found,
            verdict: found.map_or(Verdict::NotMeasured, |found| {
                judge(found, bound, noise, case.rounds)
            }),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::side::{FLECT, SHIPPED};
    use super::*;

    #[test]
    fn goals_are_about_what_is_measured() {
        for goal in GOALS {
            let case = CASES.iter().find(|case| case.name == goal.case);
            let metrics = case.map_or(&[][..], |case| case.metrics);
            assert!(metrics.contains(&goal.metric), "{}", goal.case);
        }
        assert!(FLECT.iter().any(|side| side.name == SHIPPED));
        let none = standings(&[], SHIPPED);
        assert_eq!(none.len(), GOALS.len());
        assert!(none.iter().all(|it| it.verdict == Verdict::NotMeasured));
        assert!(summary(&none).is_empty());
    }

    #[test]
    fn one_slower_case_is_enough_to_miss() {
        let standing = |case, verdict| Standing {
            goal: String::new(),
            side: SHIPPED,
            case,
            peer: Some("peer"),
            found: None,
            verdict,
        };
        let mut all = vec![standing("a", Verdict::Reached)];
        assert_eq!(summary(&all)[0].verdict, Verdict::Reached);
        all.push(standing("b", Verdict::TooNoisy));
        assert_eq!(summary(&all)[0].verdict, Verdict::TooClose);
        all.push(standing("c", Verdict::Missed));
        let last = summary(&all).remove(0);
        assert_eq!(last.verdict, Verdict::Missed);
        assert_eq!(
            last.words,
            "faster in 1 of 3 cases, 1 too noisy or too close; slower in: c (0.00)"
        );
    }
}
