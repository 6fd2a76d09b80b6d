//! Which slots go where, so that no shard has much more than the others: pure, from loads that were measured.

/// What one slot asks of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The slot's number.
    pub slot: u16,
    /// The shard that has it: its place among the shards.
    pub shard: usize,
    /// How much, in whatever was measured.
    pub weight: u64,
}

/// One slot that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The slot's number.
    pub slot: u16,
    /// Where it is.
    pub from: usize,
    /// Where it should be.
    pub to: usize,
    /// What it takes along.
    pub weight: u64,
}

/// What each shard has in all.
#[must_use]
pub fn sums(shards: usize, loads: &[Load]) -> Vec<u64> {
    let mut sums = vec![0_u64; shards];
    for load in loads {
        sums[load.shard] = sums[load.shard].saturating_add(load.weight);
    }
    sums
}

/// Takes from the shard that has most and gives to the one that has least, until none has more than `tolerance`
/// (0.1 is 10 %) above the mean or no slot's move makes the greatest load smaller.
///
/// Each step by itself lowers the load of the shard that has most, so that what is interrupted was worth it. No
/// slot moves twice. It is not the best that there is, which would be the partition problem: few moves count for
/// more than the last per cent.
///
/// # Panics
/// When a load's shard is not below `shards`.
#[must_use]
pub fn plan(shards: usize, loads: &[Load], tolerance: f64) -> Vec<Step> {
    let mut sums = sums(shards, loads);
    let total: u128 = sums.iter().map(|sum| u128::from(*sum)).sum();
    if shards < 2 || total == 0 {
        return Vec::new();
    }
    let bound = total as f64 / shards as f64 * (1.0 + tolerance);
    let mut steps: Vec<Step> = Vec::new();
    let mut left: Vec<Load> = loads
        .iter()
        .copied()
        .filter(|load| load.weight > 0)
        .collect();
    loop {
        let order = |shard: &usize| (sums[*shard], *shard);
        let (Some(most), Some(least)) =
            ((0..shards).max_by_key(order), (0..shards).min_by_key(order))
        else {
            break;
        };
        let gap = sums[most] - sums[least];
        if sums[most] as f64 <= bound {
            break;
        }
        // The greater of both is least where half of the difference goes over.
        let candidates = left.iter().enumerate();
        let best = candidates
            .filter(|(_, load)| load.shard == most && load.weight < gap)
            .min_by_key(|(_, load)| (load.weight.abs_diff(gap - load.weight), load.slot))
            .map(|(place, _)| place);
        let Some(place) = best else { break };
        let load = left.swap_remove(place);
        sums[most] -= load.weight;
        sums[least] = sums[least].saturating_add(load.weight);
        steps.push(Step {
            slot: load.slot,
            from: most,
            to: least,
            weight: load.weight,
        });
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(of: &[(usize, u64)]) -> Vec<Load> {
        let numbered = (0..).zip(of);
        numbered
            .map(|(slot, &(shard, weight))| Load {
                slot,
                shard,
                weight,
            })
            .collect()
    }

    #[test]
    fn the_fullest_gives_to_the_emptiest() {
        let before = loads(&[(0, 50), (0, 30), (0, 20), (1, 40), (2, 0)]);
        let steps = plan(3, &before, 0.1);
        let named: Vec<_> = steps
            .iter()
            .map(|step| (step.slot, step.from, step.to))
            .collect();
        assert_eq!(named, [(0, 0, 2)]);
        // A store as big as all others together stays where it is.
        assert_eq!(plan(2, &loads(&[(0, 100)]), 0.1), []);
        assert_eq!(plan(2, &loads(&[(0, 0), (0, 0)]), 0.1), []);
        assert_eq!(plan(1, &loads(&[(0, 7)]), 0.1), []);
        assert_eq!(plan(0, &[], 0.1), []);
    }

    proptest! {
        #[test]
        fn every_step_lowers_the_greatest_load(
            shards in 1_usize..7,
            of in prop::collection::vec((0_usize..7, prop_oneof![0..50_u64, 0..1_000_000_u64]), 0..60),
            tolerance in 0.0..0.5,
        ) {
            let of: Vec<_> = of.into_iter().map(|(shard, weight)| (shard % shards, weight)).collect();
            let mut now = loads(&of);
            let total: u64 = now.iter().map(|load| load.weight).sum();
            let bound = total as f64 / shards as f64 * (1.0 + tolerance);
            let mut moved = Vec::new();
            for step in plan(shards, &now, tolerance) {
                let before = sums(shards, &now);
                let greatest = before.iter().max().copied().unwrap_or(0);
                prop_assert!(greatest as f64 > bound, "it was good enough");
                prop_assert_eq!(before[step.from], greatest);
                let load = &mut now[usize::from(step.slot)];
                prop_assert_eq!((load.shard, load.weight), (step.from, step.weight));
                load.shard = step.to;
                let after = sums(shards, &now);
                prop_assert!(after[step.from] < greatest && after[step.to] < greatest);
                prop_assert!(!moved.contains(&step.slot), "twice");
                moved.push(step.slot);
                prop_assert_eq!(after.iter().sum::<u64>(), total);
            }
        }

        #[test]
        fn many_small_slots_are_spread_within_the_tolerance(
            shards in 2_usize..7,
            weights in prop::collection::vec(1..20_u64, 300..600),
        ) {
            let of: Vec<_> = weights.into_iter().map(|weight| (0, weight)).collect();
            let mut now = loads(&of);
            for step in plan(shards, &now, 0.1) {
                now[usize::from(step.slot)].shard = step.to;
            }
            let total: u64 = now.iter().map(|load| load.weight).sum();
            let bound = total as f64 / shards as f64 * 1.1;
            let greatest = sums(shards, &now).into_iter().max().unwrap_or(0);
            prop_assert!(greatest as f64 <= bound, "{} of {}", greatest, total);
        }
    }
}
