//! What workers count is what is told.

use proptest::prelude::*;

use super::*;
use crate::commands::Lookup;

fn command(name: &str) -> Option<&'static commands::Command> {
    match commands::lookup(name.as_bytes(), None) {
        Lookup::Known(command) => Some(command),
        _ => None,
    }
}

#[test]
fn the_form_is_the_documented_one() {
    let meter = Meter::default();
    meter.request(command("get"));
    meter.request(command("GET"));
    meter.request(None);
    meter.reply(100);
    meter.reply(200);
    meter.key(b"user:\xff");
    meter.errors.add(1);
    let metrics = StoreMetrics::from(Sum::of([&meter].into_iter()));
    let told = serde_json::to_value(&metrics).unwrap();
    let expected = serde_json::json!({
        "name": "", "prefix": "", "apps": [], "sessions": 0,
        "requests": 3, "errors": 1, "refused": 0, "disconnected": 0, "delayed": 0, "integrity_violations": 0, "bytes_in": 0, "bytes_out": 0,
        "latency_us": {
            "count": 2, "sum": 300, "p50": 127, "p99": 200, "max": 200,
            "buckets": [[128, 1], [256, 1]],
        },
        "commands": [{ "name": "get", "count": 2 }],
        "keys": [{ "key": "user:\u{fffd}", "count": 32 }],
        "memory_bytes": null, "key_count": null,
        "limits": { "memory_bytes": null, "connections": null, "commands_per_second": null },
    });
    assert_eq!(told, expected);
    let again: StoreMetrics = serde_json::from_value(told).unwrap();
    assert_eq!(again, metrics);
}

/// What a worker may note, as numbers.
#[derive(Clone, Debug)]
enum Note {
    Request(usize),
    Unknown,
    Reply(u32),
    Key(u8),
}

fn notes() -> impl Strategy<Value = Vec<Note>> {
    let commands = commands::all().len();
    let note = prop_oneof![
        (0..commands).prop_map(Note::Request),
        Just(Note::Unknown),
        any::<u32>().prop_map(Note::Reply),
        (0..8_u8).prop_map(Note::Key),
    ];
    prop::collection::vec(note, 0..200)
}

proptest! {
    #[test]
    fn counts_of_all_workers_add_up(workers in prop::collection::vec(notes(), 0..4)) {
        let meters: Vec<Meter> = workers.iter().map(|_| Meter::default()).collect();
        for (meter, notes) in meters.iter().zip(&workers) {
            for note in notes {
                match note {
                    Note::Request(at) => meter.request(Some(&commands::all()[*at])),
                    Note::Unknown => meter.request(None),
                    Note::Reply(latency_us) => meter.reply(*latency_us),
                    Note::Key(key) => meter.key(&[b'a' + key]),
                }
            }
        }
        let sum = Sum::of(meters.iter());
        let all: Vec<&Note> = workers.iter().flatten().collect();
        let count = |wanted: fn(&Note) -> bool| all.iter().filter(|note| wanted(note)).count() as u64;
        for (at, told) in sum.commands.iter().enumerate() {
            let noted = all.iter().filter(|note| matches!(note, Note::Request(n) if *n == at));
            prop_assert_eq!(*told, noted.count() as u64);
        }
        let metrics = StoreMetrics::from(sum);
        let requests = count(|note| matches!(note, Note::Request(_) | Note::Unknown));
        prop_assert_eq!(metrics.requests, requests);
        prop_assert_eq!(metrics.latency_us.count, count(|note| matches!(note, Note::Reply(_))));
        let buckets: u64 = metrics.latency_us.buckets.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(metrics.latency_us.count, buckets);
        let keys: u64 = metrics.keys.iter().map(|key| key.count).sum();
        prop_assert_eq!(keys, count(|note| matches!(note, Note::Key(_))) * u64::from(meter::SAMPLED));
        prop_assert!(metrics.commands.len() <= TOP);
        prop_assert!(metrics.commands.is_sorted_by(|a, b| a.count >= b.count));
    }
}
