//! Latencies in powers of two.
//!
//! Invariant: a value is counted in exactly one bucket, so the buckets' counts add up to the number of
//! values; percentiles are right to within their bucket.

use serde::{Deserialize, Serialize};

/// Buckets of a histogram: one for 0, and one for each power of two up to 2^32 microseconds, more than
/// an hour. What takes longer is in the last.
pub const BUCKETS: usize = 34;

/// The bucket of a value: the number of its bits.
#[inline]
#[must_use]
pub fn bucket(value: u32) -> usize {
    (u32::BITS - value.leading_zeros()) as usize
}

/// How values are spread, as it is written down and read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many values there are.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// All but one in a hundred are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// The first number that a bucket does not hold, and how many values it holds; empty buckets are
    /// left out.
    pub buckets: Vec<(u64, u64)>,
}

impl Histogram {
    /// From the counts of all buckets.
    #[must_use]
    pub fn new(counts: &[u64; BUCKETS], sum: u64, max: u64) -> Self {
        let buckets: Vec<(u64, u64)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (1 << index, *count))
            .collect();
        let mut histogram = Self {
            count: counts.iter().sum(),
            sum,
            p50: 0,
            p99: 0,
            max,
            buckets,
        };
        histogram.p50 = histogram.percentile(50);
        histogram.p99 = histogram.percentile(99);
        histogram
    }

    /// What `percent` of the values are at most: the place in its bucket is estimated as if the bucket's
    /// values were spread evenly.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut before = 0;
        for &(end, count) in &self.buckets {
            if before + count >= rank {
                let begin = end / 2;
                let within =
                    u128::from(end - begin) * u128::from(rank - before) / u128::from(count);
                let value = begin + u64::try_from(within).unwrap_or(end);
                return value.min(end - 1).min(self.max);
            }
            before += count;
        }
        self.max
    }

    /// What came between an earlier reading of the same counters and this one. `max` stays the largest
    /// since the beginning, where the difference cannot tell.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = |histogram: &Self| {
            let mut counts = [0; BUCKETS];
            for (end, count) in &histogram.buckets {
                if let Some(slot) = counts.get_mut(end.trailing_zeros() as usize) {
                    *slot += count;
                }
            }
            counts
        };
        let (now, before) = (counts(self), counts(earlier));
        let counts = std::array::from_fn(|index| now[index].saturating_sub(before[index]));
        Self::new(&counts, self.sum.saturating_sub(earlier.sum), self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u32]) -> Histogram {
        let mut counts = [0; BUCKETS];
        for value in values {
            counts[bucket(*value)] += 1;
        }
        let sum = values.iter().map(|value| u64::from(*value)).sum();
        let max = values.iter().copied().max().unwrap_or(0);
        Histogram::new(&counts, sum, u64::from(max))
    }

    #[test]
    fn buckets_end_at_powers_of_two() {
        for (value, end) in [
            (0, 1),
            (1, 2),
            (2, 4),
            (3, 4),
            (4, 8),
            (127, 128),
            (128, 256),
        ] {
            assert_eq!(of(&[value]).buckets, [(end, 1)], "{value}");
        }
        assert_eq!(of(&[u32::MAX]).buckets, [(1 << 32, 1)]);
        assert!(bucket(u32::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_of_nothing_and_of_one_value() {
        assert_eq!(of(&[]), Histogram::default());
        let one = of(&[100]);
        assert_eq!((one.p50, one.p99, one.max), (100, 100, 100));
    }

    #[test]
    fn percentiles_are_found() {
        let values: Vec<u32> = (0..10_000).collect();
        let histogram = of(&values);
        // Within a bucket, values are spread evenly here.
        assert!((4950..=5050).contains(&histogram.p50), "{}", histogram.p50);
        assert!((9800..=9999).contains(&histogram.p99), "{}", histogram.p99);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_percentiles_are_in_their_bucket(
            mut values in prop::collection::vec(prop_oneof![0..50_u32, any::<u32>()], 1..300),
            percent in 1..=100_u64,
        ) {
            let histogram = of(&values);
            prop_assert_eq!(histogram.count, values.len() as u64);
            values.sort_unstable();
            let rank = (values.len() as u64 * percent).div_ceil(100) as usize;
            let exact = values[rank - 1];
            let found = histogram.percentile(percent);
            prop_assert!(found <= histogram.max);
            prop_assert_eq!(bucket(found as u32), bucket(exact), "{} for {}", found, exact);
        }

        #[test]
        fn differences_are_what_came_between(
            before in prop::collection::vec(any::<u32>(), 0..50),
            after in prop::collection::vec(any::<u32>(), 0..50),
        ) {
            let all: Vec<u32> = before.iter().chain(&after).copied().collect();
            let difference = of(&all).since(&of(&before));
            prop_assert_eq!(difference.buckets, of(&after).buckets);
            prop_assert_eq!(difference.sum, of(&after).sum);
        }
    }
}
