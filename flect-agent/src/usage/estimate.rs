//! The arithmetic of samples; knows no sockets.

use serde::Serialize;

/// Standard deviations on either side that hold 95 % of a normal distribution.
pub const Z_95: f64 = 1.96;

/// A number with the interval that holds the truth in 95 of 100 samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Not less than this.
    pub low: f64,
    /// Not more than this.
    pub high: f64,
}

impl Estimate {
    /// A number that is known.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
        }
    }

    /// The larger side of the interval as a part of the value.
    #[must_use]
    pub fn error(&self) -> f64 {
        let side = (self.high - self.value).max(self.value - self.low);
        if side <= 0.0 {
            0.0
        } else if self.value <= 0.0 {
            f64::INFINITY
        } else {
            side / self.value
        }
    }
}

/// How many keys there are when `found` of them lay in the part `fraction` of the hash space.
///
/// The score interval of a binomial count: right for few and for no keys found, where the usual one
/// has no width.
#[must_use]
pub fn keys(found: u64, fraction: f64) -> Estimate {
    let found = found as f64;
    if fraction >= 1.0 {
        return Estimate::exact(found);
    }
    if fraction <= 0.0 {
        return Estimate {
            value: 0.0,
            low: 0.0,
            high: f64::INFINITY,
        };
    }
    let missed = 1.0 - fraction;
    let middle = found + Z_95 * Z_95 * missed / 2.0;
    let side = Z_95 * (missed * (found + Z_95 * Z_95 * missed / 4.0)).sqrt();
    Estimate {
        value: found / fraction,
        low: ((middle - side) / fraction).max(found),
        high: (middle + side) / fraction,
    }
}

/// Sizes that were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Sizes {
    /// One more.
    pub fn add(&mut self, size: u64) {
        let size = size as f64;
        self.count += 1;
        self.sum += size;
        self.squares += size * size;
    }
}

/// How many bytes all keys have together, when `found` of them lay in the part `fraction` of the
/// hash space and a random choice of those was measured.
///
/// Two errors add up: how many and which keys lay in that part, and which of them were measured.
/// Sizes are skewed, so the interval is one of the logarithm, which is wider above than below.
#[must_use]
pub fn total(found: u64, fraction: f64, sizes: &Sizes) -> Estimate {
    if found == 0 || sizes.count == 0 || fraction <= 0.0 {
        let nothing = found == 0 && fraction >= 1.0;
        return Estimate {
            value: 0.0,
            low: 0.0,
            high: if nothing { 0.0 } else { f64::INFINITY },
        };
    }
    let found = found as f64;
    let count = sizes.count as f64;
    let mean = sizes.sum / count;
    let mean_square = sizes.squares / count;
    let value = found * mean / fraction;
    let of_part = (1.0 - fraction).max(0.0) / (fraction * fraction) * found * mean_square;
    let unmeasured = (1.0 - count / found).max(0.0);
    let spread = if count > 1.0 {
        (mean_square - mean * mean).max(0.0) * count / (count - 1.0)
    } else if unmeasured > 0.0 {
        f64::INFINITY
    } else {
        0.0
    };
    let of_choice = if unmeasured > 0.0 {
        (found / fraction).powi(2) * spread / count * unmeasured
    } else {
        0.0
    };
    let deviation = (of_part + of_choice).sqrt();
    if deviation == 0.0 {
        return Estimate::exact(value);
    }
    // Student's factor, to the second order: a small sample does not know its own spread well.
    let student = Z_95 * (1.0 + (Z_95 * Z_95 + 1.0) / (4.0 * (count - 1.0).max(1.0)));
    let ratio = (student * deviation / value).exp();
    Estimate {
        value,
        low: (value / ratio).max(sizes.sum),
        high: value * ratio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A generator that needs no crate: splitmix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / 2_f64.powi(53)
        }

        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * self.next().max(1e-300).ln()).sqrt();
            radius * (std::f64::consts::TAU * self.next()).cos()
        }
    }

    /// How often the intervals of `rounds` surveys hold the truth: of keys, of bytes.
    fn coverage(
        keys_total: u64,
        fraction: f64,
        measured_max: u64,
        rounds: u32,
        size: impl Fn(&mut Random) -> u64,
    ) -> (f64, f64) {
        let mut random = Random(keys_total ^ fraction.to_bits());
        let sizes: Vec<u64> = (0..keys_total).map(|_| size(&mut random)).collect();
        let truth: u64 = sizes.iter().sum();
        let (mut keys_held, mut bytes_held) = (0, 0);
        for _ in 0..rounds {
            let mut found = 0;
            let mut measured = Sizes::default();
            for size in &sizes {
                if random.next() < fraction {
                    found += 1;
                    if measured.count < measured_max {
                        measured.add(*size);
                    }
                }
            }
            let counted = keys(found, fraction);
            keys_held += u32::from((counted.low..=counted.high).contains(&(keys_total as f64)));
            let summed = total(found, fraction, &measured);
            bytes_held += u32::from((summed.low..=summed.high).contains(&(truth as f64)));
        }
        let part = |held| f64::from(held) / f64::from(rounds);
        (part(keys_held), part(bytes_held))
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let even = |random: &mut Random| 50 + (random.next() * 200.0) as u64;
        let skewed = |random: &mut Random| (200.0 * (1.2 * random.normal()).exp()) as u64;
        for (keys_total, fraction, measured_max) in [
            (20_000, 0.1, 1_000),
            (5_000, 0.5, 500),
            (2_000, 0.05, 1_000),
            (10_000, 0.3, 10_000),
        ] {
            let (keys, bytes) = coverage(keys_total, fraction, measured_max, 400, even);
            assert!(
                keys >= 0.92 && bytes >= 0.92,
                "even: {keys} {bytes} of {keys_total} keys"
            );
            let (keys, bytes) = coverage(keys_total, fraction, measured_max, 400, skewed);
            assert!(
                keys >= 0.92 && bytes >= 0.88,
                "skewed: {keys} {bytes} of {keys_total} keys"
            );
        }
    }

    #[test]
    fn few_keys_have_wide_intervals() {
        let none = keys(0, 0.1);
        assert!(none.value == 0.0 && none.high > 20.0, "{none:?}");
        assert_eq!(keys(0, 1.0), Estimate::exact(0.0));
        let three = keys(3, 0.01);
        assert!(three.low < 110.0 && three.high > 850.0, "{three:?}");
    }

    proptest! {
        #[test]
        fn everything_walked_and_measured_is_exact(all in prop::collection::vec(1_u64..1_000_000, 0..200)) {
            let mut sizes = Sizes::default();
            for size in &all {
                sizes.add(*size);
            }
            let found = all.len() as u64;
            let sum: u64 = all.iter().sum();
            prop_assert_eq!(keys(found, 1.0), Estimate::exact(found as f64));
            let bytes = total(found, 1.0, &sizes);
            prop_assert_eq!(bytes.error(), 0.0);
            prop_assert!((bytes.value - sum as f64).abs() < 1e-3);
        }

        #[test]
        fn intervals_are_in_order_and_shrink(found in 1_u64..100_000, fraction in 0.001_f64..1.0) {
            let estimate = keys(found, fraction);
            prop_assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
            prop_assert!(estimate.low >= found as f64 - 1e-9);
            let more = keys(found * 4, fraction);
            prop_assert!(more.error() <= estimate.error());
        }
    }
}
