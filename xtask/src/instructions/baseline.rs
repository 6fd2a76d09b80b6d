//! The counts that were written down, and what has become of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flect_tests::tools;
use serde::Deserialize;

use super::counted::Count;
use super::is_own;

/// How much dearer a case may become unnoticed: code that is moved about makes a few per cent.
const TOLERANCE: f64 = 0.10;

/// The same where another compiler or library counts.
const TOLERANCE_ELSEWHERE: f64 = 0.20;

/// What has become so much cheaper is worth to be held on to.
const BETTER: f64 = 0.05;

/// What is compared with.
#[derive(Debug, Deserialize)]
pub struct Baseline {
    /// What the counts depend on beside the source.
    pub made_with: String,
    cases: BTreeMap<String, u64>,
    /// The cases in the order they run, which a map does not keep.
    #[serde(skip)]
    order: Vec<String>,
}

/// What has become of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub key: String,
    /// What it should be here, if it was written down.
    pub expected: Option<f64>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Same,
    Better,
    Dearer,
    /// It is not written down.
    New,
    /// It is written down only.
    Gone,
}

impl Verdict {
    pub fn is_failure(&self) -> bool {
        matches!(self.kind, Kind::Dearer | Kind::New | Kind::Gone)
    }
}

impl Baseline {
    /// From now on these.
    pub fn of(counts: &[Count], made_with: String) -> Self {
        let case = |count: &Count| (count.key(), count.value.round() as u64);
        Self {
            made_with,
            cases: counts.iter().map(case).collect(),
            order: counts.iter().map(Count::key).collect(),
        }
    }

    pub fn load() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "reading {}; make it: cargo xtask instructions --update",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub fn save(&self) -> Result<()> {
        let mut text = String::from(
            "# Instructions of one run of each case of flect-agent/instructions: part, case, whose code.\n\
             # Made by `cargo xtask instructions --update`.\n\n",
        );
        let _ = writeln!(text, "made_with = {:?}\n\n[cases]", self.made_with);
        for key in &self.order {
            let _ = writeln!(text, "{key:?} = {}", self.cases[key]);
        }
        let path = path();
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Compares. Only the agent's own cases are judged.
    pub fn judge(&self, counts: &[Count], made_with: &str) -> Vec<Verdict> {
        let here = self.made_with == made_with;
        let (scale, tolerance) = match here {
            true => (1.0, TOLERANCE),
            false => (self.scale(counts), TOLERANCE_ELSEWHERE),
        };
        let own = counts.iter().filter(|count| is_own(count));
        let mut verdicts: Vec<Verdict> = own
            .map(|count| {
                let key = count.key();
                let expected = self.cases.get(&key).map(|it| *it as f64 * scale);
                let kind = match expected {
                    None => Kind::New,
                    Some(expected) if count.value > expected * (1.0 + tolerance) => Kind::Dearer,
                    Some(expected) if count.value < expected * (1.0 - BETTER) => Kind::Better,
                    Some(_) => Kind::Same,
                };
                Verdict {
                    key,
                    expected,
                    kind,
                }
            })
            .collect();
        let gone = self
            .cases
            .keys()
            .filter(|key| !counts.iter().any(|count| count.key() == **key));
        verdicts.extend(gone.map(|key| Verdict {
            key: key.clone(),
            expected: None,
            kind: Kind::Gone,
        }));
        verdicts
    }

    /// How many times as many instructions the same source takes here: the geometric mean over the
    /// decoders of redis-protocol, which nobody changes and which do what the agent's own do.
    fn scale(&self, counts: &[Count]) -> f64 {
        let ratios: Vec<f64> = counts
            .iter()
            .filter(|count| count.by == "redis-protocol" && count.value > 0.0)
            .filter_map(|count| Some(count.value / *self.cases.get(&count.key())? as f64))
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
            .collect();
        if ratios.is_empty() {
            return 1.0;
        }
        let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
        (sum / ratios.len() as f64).exp()
    }
}

fn path() -> PathBuf {
    tools::workspace().join("flect-agent/instructions/baseline.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, by: &str, value: f64) -> Count {
        Count {
            part: "scan".to_owned(),
            name: name.to_owned(),
            by: by.to_owned(),
            bytes: 10,
            value,
        }
    }

    #[test]
    fn only_what_is_dearer_or_missing_fails() {
        let then = [
            count("GET", "flect", 100.0),
            count("SET", "flect", 100.0),
            count("MGET", "flect", 100.0),
            count("DEL", "flect", 100.0),
            count("GET", "redis-protocol", 1000.0),
        ];
        let baseline = Baseline::of(&then, "one compiler".to_owned());
        let now = [
            count("GET", "flect", 109.0),
            count("SET", "flect", 111.0),
            count("MGET", "flect", 90.0),
            count("NEW", "flect", 1.0),
            count("GET", "redis-protocol", 1300.0),
        ];
        let kinds = |made_with| {
            let verdicts = baseline.judge(&now, made_with);
            verdicts.iter().map(|it| it.kind).collect::<Vec<_>>()
        };
        use Kind::{Better, Dearer, Gone, New, Same};
        assert_eq!(kinds("one compiler"), [Same, Dearer, Better, New, Gone]);
        // There the same source takes 1.3 times as many.
        assert_eq!(kinds("another"), [Better, Better, Better, New, Gone]);
    }

    #[test]
    fn what_is_committed_can_be_read() {
        assert!(!Baseline::load().unwrap().cases.is_empty());
    }
}
