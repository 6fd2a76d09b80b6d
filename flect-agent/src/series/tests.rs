use super::*;
use crate::metrics::CommandCount;

fn sample(uptime_ms: u64, stores: Vec<StoreMetrics>) -> Snapshot {
    Snapshot {
        at_ms: 1_700_000_000_000 + uptime_ms,
        uptime_ms,
        stores,
        ..Snapshot::default()
    }
}

fn store(name: &str, requests: u64) -> StoreMetrics {
    StoreMetrics {
        name: name.to_owned(),
        prefix: format!("{{{name}}}"),
        requests,
        ..StoreMetrics::default()
    }
}

#[test]
fn rates_are_differences_over_the_agents_own_time() {
    let before = sample(1_000, vec![store("a", 100)]);
    let mut after = sample(3_000, vec![store("a", 300), store("new", 10)]);
    // A clock that was set back in between changes nothing.
    after.at_ms = 5;
    after.node.cpu_seconds = 0.5;
    let rates = between(&before, &after).unwrap();
    assert_eq!(rates.seconds, 2.0);
    assert_eq!(rates.stores[0].requests_per_second, 100.0);
    assert_eq!(rates.stores[1].requests_per_second, 5.0);
    assert_eq!(rates.node.requests_per_second, 105.0);
    assert_eq!(rates.node.cpu_percent, 25.0);
}

#[test]
fn another_agent_gives_no_rates() {
    let old = sample(100_000, vec![store("a", 5_000)]);
    let new = sample(500, vec![store("a", 3)]);
    assert_eq!(between(&old, &new), None);
    assert_eq!(between(&old, &old), None);
}

#[test]
fn a_renamed_store_keeps_its_counters() {
    let before = sample(1_000, vec![store("a", 1_000)]);
    let mut renamed = store("a", 1_010);
    renamed.name = "b".to_owned();
    let rates = between(&before, &sample(2_000, vec![renamed])).unwrap();
    assert_eq!(rates.stores[0].name, "b");
    assert_eq!(rates.stores[0].requests_per_second, 10.0);
}

#[test]
fn counters_that_went_back_are_no_negative_rates() {
    let before = sample(1_000, vec![store("a", 1_000)]);
    let after = sample(2_000, vec![store("a", 7)]);
    let rates = between(&before, &after).unwrap();
    assert_eq!(rates.stores[0].requests_per_second, 0.0);
}

#[test]
fn percentiles_are_of_the_interval_alone() {
    let mut before = store("a", 0);
    before.latency_us.buckets = vec![(128, 1_000), (65_536, 500)];
    let mut after = before.clone();
    after.latency_us.buckets = vec![(64, 100), (128, 1_000), (65_536, 500)];
    let rates = between(&sample(1, vec![before]), &sample(1_001, vec![after])).unwrap();
    assert_eq!(rates.stores[0].latency_p50_us, Some(48.0));
    assert_eq!(rates.stores[0].latency_p99_us, Some(63.68));
}

#[test]
fn percentiles_of_hand_made_buckets() {
    for (buckets, part, expect) in [
        (&[][..], 0.5, None),
        (&[(128, 10)], 0.5, Some(96.0)),
        (&[(128, 10)], 1.0, Some(128.0)),
        (&[(128, 99), (1_024, 1)], 0.99, Some(128.0)),
        (&[(128, 98), (1_024, 2)], 0.99, Some(768.0)),
        (&[(1, 1)], 0.5, Some(0.75)),
    ] {
        assert_eq!(percentile(buckets, part), expect, "{buckets:?} {part}");
    }
}

#[test]
fn percentiles_lie_in_order_and_within_the_bounds() {
    use proptest::prelude::*;
    let buckets = proptest::collection::btree_map(0_u32..30, 1_u64..1_000, 1..10);
    proptest!(|(buckets in buckets)| {
        let buckets: Vec<_> = buckets.into_iter().map(|(p, c)| (1_u64 << p, c)).collect();
        let p50 = percentile(&buckets, 0.5).unwrap();
        let p99 = percentile(&buckets, 0.99).unwrap();
        prop_assert!(p50 <= p99);
        prop_assert!(p50 >= buckets[0].0 as f64 / 2.0);
        prop_assert!(p99 <= buckets[buckets.len() - 1].0 as f64);
    });
}

#[test]
fn commands_are_those_of_the_interval() {
    let command = |name: &str, count| CommandCount {
        name: name.to_owned(),
        count,
    };
    let mut before = store("a", 0);
    before.commands = vec![command("get", 1_000), command("set", 10)];
    let mut after = before.clone();
    after.commands = vec![
        command("get", 1_000),
        command("set", 30),
        command("incr", 40),
    ];
    let rates = between(&sample(1, vec![before]), &sample(1_001, vec![after])).unwrap();
    let names: Vec<_> = rates.stores[0].commands.iter().map(|c| &c.name).collect();
    assert_eq!(names, ["incr", "set"]);
    assert_eq!(rates.stores[0].commands[1].per_second, 20.0);
}

#[test]
fn a_command_that_comes_among_a_full_list_is_not_counted_whole() {
    let command = |number: usize, count| CommandCount {
        name: format!("c{number}"),
        count,
    };
    let mut before = store("a", 0);
    before.commands = (0..metrics::TOP).map(|n| command(n, 500)).collect();
    let mut after = before.clone();
    after.commands[0] = command(99, 510);
    let rates = between(&sample(1, vec![before]), &sample(1_001, vec![after])).unwrap();
    assert_eq!(rates.stores[0].commands.len(), 1);
    assert_eq!(rates.stores[0].commands[0].per_second, 10.0);
}

#[test]
fn shares_of_keys_add_up() {
    let key = |key: &str, count| KeyCount {
        key: key.to_owned(),
        count,
    };
    let shares = key_shares(&[key("a", 1), key("b", 3), key("c", 0)]);
    let seen: Vec<_> = shares.iter().map(|k| (k.key.as_str(), k.share)).collect();
    assert_eq!(seen, [("b", 0.75), ("a", 0.25)]);
}
