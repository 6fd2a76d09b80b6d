//! What can be concluded from a few rounds on a noisy machine.
//!
//! Invariant: a ratio is made of two measurements of the same round, never of two medians; and what direct
//! Valkey shows against itself in the same rounds is how far any ratio can be trusted.

use serde::Serialize;

/// Above this the case tells nothing: two measurements of the very same thing differ by so much.
pub const NOISE_MAX: f64 = 0.20;
/// With fewer rounds than this a quartile is hardly more than a guess, so the extremes are shown.
const QUARTILE_ROUNDS: usize = 5;

/// The middle and the spread of some rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lower quartile, or the least of few.
    pub low: f64,
    /// The upper quartile, or the greatest of few.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = if sorted.len() < QUARTILE_ROUNDS {
            (0.0, 1.0)
        } else {
            (0.25, 0.75)
        };
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            low: quantile(&sorted, low)?,
            high: quantile(&sorted, high)?,
        })
    }
}

/// Between the two nearest values; `sorted` has to be.
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let place = at * sorted.len().checked_sub(1)? as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

/// Direct Valkey, measured twice in one round.
#[derive(Clone, Copy, Debug)]
pub struct Twice(pub f64, pub f64);

impl Twice {
    /// What others are compared with: the geometric mean, to which neither order nor unit matters.
    pub fn base(self) -> f64 {
        (self.0 * self.1).sqrt()
    }
}

/// By how much two measurements of the same thing differ in three of four rounds: 0.05 is 5 %.
pub fn noise(rounds: &[Twice]) -> Option<f64> {
    let mut apart: Vec<f64> = rounds
        .iter()
        .map(|twice| (twice.1 / twice.0).ln().abs())
        .collect();
    apart.sort_by(f64::total_cmp);
    quantile(&apart, 0.75).map(f64::exp_m1)
}

/// The ratios of a side to direct, round by round.
pub fn ratios(side: &[f64], direct: &[Twice]) -> Vec<f64> {
    side.iter()
        .zip(direct)
        .map(|(value, twice)| value / twice.base())
        .collect()
}

/// What a goal asks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Bound {
    fn value(self) -> f64 {
        let (Self::AtLeast(value) | Self::AtMost(value)) = self;
        value
    }

    fn is_met(self, found: f64) -> bool {
        match self {
            Self::AtLeast(value) => found >= value,
            Self::AtMost(value) => found <= value,
        }
    }
}

/// What is known of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is met.
    Reached,
    /// It is not.
    Missed,
    /// Direct against direct differs by more than [`NOISE_MAX`].
    TooNoisy,
    /// It lies within what the noise leaves open.
    TooClose,
    /// It was not measured in this run.
    NotMeasured,
}

/// Judges what some rounds found. The median of n rounds is surer than one round by about the root of n, so
/// a goal nearer than that is too close to tell; one round is as unsure as direct Valkey is of itself, or
/// as the side's own rounds differ.
pub fn judge(found: Spread, bound: Bound, noise: f64, rounds: usize) -> Verdict {
    if noise > NOISE_MAX {
        return Verdict::TooNoisy;
    }
    // Nothing at all, such as memory that did not grow, has no logarithm and needs none.
    if found.median > 0.0 {
        let own = (found.high / found.low.max(f64::MIN_POSITIVE)).ln() / 2.0;
        let doubt = noise.ln_1p().max(own) / (rounds.max(1) as f64).sqrt();
        if (found.median / bound.value()).ln().abs() < doubt {
            return Verdict::TooClose;
        }
    }
    if bound.is_met(found.median) {
        Verdict::Reached
    } else {
        Verdict::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rounds_show_extremes_and_many_quartiles() {
        let few = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((few.low, few.median, few.high), (1.0, 2.0, 3.0));
        let many = Spread::of(&[1.0, 2.0, 3.0, 4.0, 100.0]).unwrap();
        assert_eq!((many.low, many.median, many.high), (2.0, 3.0, 4.0));
        let even = Spread::of(&[1.0, 2.0]).unwrap();
        assert_eq!((even.low, even.median, even.high), (1.0, 1.5, 2.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn noise_is_what_direct_shows_against_itself() {
        let steady = [Twice(100.0, 100.0), Twice(50.0, 50.0)];
        assert_eq!(
            noise(&steady),
            Some(0.0),
            "the machine may change between rounds"
        );
        let noisy = noise(&[Twice(100.0, 120.0), Twice(120.0, 100.0)]).unwrap();
        assert!((noisy - 0.2).abs() < 1e-9, "in both directions: {noisy}");
        let outlier = [
            Twice(1.0, 1.0),
            Twice(1.0, 1.0),
            Twice(1.0, 1.0),
            Twice(1.0, 9.0),
        ];
        assert!(noise(&outlier).unwrap() > 0.0);
        assert!(noise(&outlier).unwrap() < 1.0, "one bad round is not all");
        assert_eq!(noise(&[]), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // The machine became three times slower between the rounds; the ratio did not change.
        let direct = [Twice(90.0, 90.0), Twice(30.0, 30.0)];
        assert_eq!(ratios(&[45.0, 15.0], &direct), [0.5, 0.5]);
        assert_eq!(Twice(25.0, 100.0).base(), 50.0);
    }

    #[test]
    fn goals_are_judged_only_where_the_noise_allows() {
        let check = |median, bound, noise, expect| {
            let found = Spread {
                median,
                low: median,
                high: median,
            };
            assert_eq!(
                judge(found, bound, noise, 4),
                expect,
                "{median} {bound:?} {noise}"
            );
        };
        check(1.5, Bound::AtLeast(1.4), 0.02, Verdict::Reached);
        check(1.3, Bound::AtLeast(1.4), 0.02, Verdict::Missed);
        check(0.7, Bound::AtMost(0.75), 0.02, Verdict::Reached);
        check(0.8, Bound::AtMost(0.75), 0.02, Verdict::Missed);
        check(0.8, Bound::AtMost(0.75), 0.18, Verdict::TooClose);
        check(9.0, Bound::AtMost(0.75), 0.21, Verdict::TooNoisy);
        check(1.4, Bound::AtLeast(1.4), 0.0, Verdict::Reached);
        check(0.0, Bound::AtMost(4.0), 0.0, Verdict::Reached);
        let unsteady = Spread {
            median: 1.0,
            low: 0.5,
            high: 1.5,
        };
        assert_eq!(
            judge(unsteady, Bound::AtLeast(1.2), 0.0, 4),
            Verdict::TooClose
        );
        assert_eq!(
            judge(unsteady, Bound::AtLeast(1.2), 0.0, 64),
            Verdict::Missed
        );
    }
}
