//! Many sequences, one after the other, and what came of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::duel::{Duel, Tally};
use super::exceptions::Exceptions;
use super::generate::Generator;
use super::minimise::{self, Minimal};
use super::player::Target;
use super::step::Step;
use crate::pair::{Pair, Side};
use crate::wire::Wire;

/// Errors may be at most so many of all replies, in hundredths: more, and little would be tested.
pub const ERRORS_PERCENT_MAX: u64 = 40;

/// What a run shall do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of the first sequence; each of the others follows from the one before.
    pub seed: u64,
    /// Begin no sequence after so long.
    pub time: Duration,
    /// Go on after a difference, and report each kind once.
    pub keep_going: bool,
}

/// A sequence that showed a difference.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its seed.
    pub seed: u64,
    /// It, made short.
    pub minimal: Minimal,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Sequences played.
    pub sequences: u64,
    /// Requests and replies.
    pub tally: Tally,
    /// Differences, each kind once.
    pub findings: Vec<Finding>,
}

/// A side of a pair.
#[derive(Clone, Copy, Debug)]
pub struct OfPair<'a>(pub &'a Pair, pub Side);

impl Target for OfPair<'_> {
    fn connect(&self) -> io::Result<TcpStream> {
        self.0.stream(self.1)
    }

    fn operator(&self) -> io::Result<Wire> {
        self.0.operator(self.1)
    }
}

/// The duel of a pair.
#[must_use]
pub fn duel<'a>(sides: &'a [OfPair<'a>; 2], exceptions: &'a Exceptions) -> Duel<'a> {
    Duel {
        valkey: &sides[0],
        store: &sides[1],
        secret: sides[1].0.secret().to_vec(),
        exceptions,
    }
}

/// Both sides of a pair, in the order that [`duel`] wants.
#[must_use]
pub fn sides(pair: &Pair) -> [OfPair<'_>; 2] {
    [OfPair(pair, Side::Private), OfPair(pair, Side::Store)]
}

/// Plays sequences until the time is up or something differs. `progress` is told after each.
///
/// # Errors
/// When a side cannot be used at all.
pub fn run(
    duel: &Duel<'_>,
    generator: &Generator,
    plan: &Plan,
    mut progress: impl FnMut(&Report),
) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    let mut seed = plan.seed;
    loop {
        let steps = generator.sequence(seed)?;
        report.sequences += 1;
        if let Some(difference) = duel.run(&steps, &mut report.tally)?
            && seen.insert(difference.kind.clone())
        {
            let minimal = minimise::minimise(duel, &steps, difference)?;
            report.findings.push(Finding { seed, minimal });
            if !plan.keep_going {
                return Ok(report);
            }
        }
        progress(&report);
        if start.elapsed() >= plan.time {
            return Ok(report);
        }
        seed = after(seed);
    }
}

/// Plays one sequence and shortens what it shows.
///
/// # Errors
/// When a side cannot be used at all.
pub fn replay(duel: &Duel<'_>, steps: &[Step]) -> Result<Report> {
    let mut report = Report {
        sequences: 1,
        ..Report::default()
    };
    if let Some(difference) = duel.run(steps, &mut report.tally)? {
        let minimal = minimise::minimise(duel, steps, difference)?;
        report.findings.push(Finding { seed: 0, minimal });
    }
    Ok(report)
}

/// The seed of the next sequence: splitmix64's step, so that neighbours have nothing in common.
fn after(seed: u64) -> u64 {
    let mut next = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    next ^ (next >> 27)
}

impl Report {
    /// Errors in hundredths of all replies.
    #[must_use]
    pub fn errors_percent(&self) -> u64 {
        self.tally.errors * 100 / self.tally.replies.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sequences, {} replies compared ({} % errors), {} commands, {} differences",
            self.sequences,
            self.tally.replies,
            self.errors_percent(),
            self.tally.commands.len(),
            self.findings.len()
        )
    }
}

impl Finding {
    /// The sequence as `--replay` reads it.
    #[must_use]
    pub fn file(&self) -> String {
        let difference = &self.minimal.difference;
        let mut text = format!(
            "# found with seed {}\n# {}\n# Valkey: {}\n# store:  {}\n",
            self.seed, difference.request, difference.valkey, difference.store
        );
        for step in &self.minimal.steps {
            text.push_str(&format!("{step}\n"));
        }
        text
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARACTERS_MAX: usize = 400;
        let short = |text: &str| {
            if text.chars().count() <= SHOWN_CHARACTERS_MAX {
                return text.to_owned();
            }
            let head: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
            format!("{head} ...")
        };
        let Minimal {
            steps,
            difference,
            is_repeatable,
        } = &self.minimal;
        for step in steps {
            writeln!(f, "    {}", short(&step.to_string()))?;
        }
        writeln!(f, "  differs: {}", short(&difference.request))?;
        writeln!(f, "  Valkey:  {}", short(&difference.valkey))?;
        write!(f, "  store:   {}", short(&difference.store))?;
        if !is_repeatable {
            write!(
                f,
                "\n  (a second run of the same sequence showed nothing: it depends on timing)"
            )?;
        }
        Ok(())
    }
}
