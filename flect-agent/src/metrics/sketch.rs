//! The hottest keys, found in bounded memory (the space-saving algorithm of Metwally, Agrawal and El
//! Abbadi).
//!
//! Invariant: whatever is noted, a sketch holds at most [`KEYS`] keys of at most [`KEY_BYTES_MAX`] bytes
//! each, and a key that was noted more often than one time in `KEYS` is among them.

use std::collections::HashMap;

/// Keys that are watched at once: a few times as many as are shown, so that those which are shown have
/// been watched for long. A search through them costs less than the request that is noted.
pub const KEYS: usize = 64;

/// What is kept of a key. Keys that are the same so far count as one.
pub const KEY_BYTES_MAX: usize = 128;

/// Counts of the keys that come often.
#[derive(Debug, Default)]
pub struct Sketch {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Vec<u8>,
    count: u64,
    /// How much of `count` may belong to keys that had this place before.
    doubt: u64,
}

impl Sketch {
    /// Notes a key once.
    pub fn note(&mut self, key: &[u8]) {
        let key = &key[..key.len().min(KEY_BYTES_MAX)];
        let hash = hash(key);
        let known = |entry: &&mut Entry| entry.hash == hash && entry.key == key;
        if let Some(entry) = self.entries.iter_mut().find(known) {
            entry.count += 1;
            return;
        }
        if self.entries.len() < KEYS {
            self.entries.push(Entry {
                hash,
                key: key.to_vec(),
                count: 1,
                doubt: 0,
            });
            return;
        }
        let Some(entry) = self.entries.iter_mut().min_by_key(|entry| entry.count) else {
            return;
        };
        entry.hash = hash;
        entry.key.clear();
        entry.key.extend_from_slice(key);
        entry.doubt = entry.count;
        entry.count += 1;
    }

    /// Adds what is certain of every key to `counts`.
    pub fn add_to(&self, counts: &mut HashMap<Vec<u8>, u64>) {
        for entry in &self.entries {
            *counts.entry(entry.key.clone()).or_default() += entry.count - entry.doubt;
        }
    }
}

/// FNV-1a. An app that makes its own keys collide only spends its own time.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(sketch: &Sketch) -> HashMap<Vec<u8>, u64> {
        let mut counts = HashMap::new();
        sketch.add_to(&mut counts);
        counts
    }

    #[test]
    fn a_hot_key_is_found_among_many_others() {
        let mut sketch = Sketch::default();
        for number in 0..100_000_u32 {
            sketch.note(format!("cold:{number}").as_bytes());
            if number % 10 == 0 {
                sketch.note(b"hot");
            }
        }
        let counts = counts(&sketch);
        let hottest = counts.iter().max_by_key(|(_, count)| **count);
        let (key, count) = hottest.unwrap();
        assert_eq!(key, b"hot");
        assert!((9_000..=10_000).contains(count), "{count}");
        assert!(counts.len() <= KEYS);
    }

    #[test]
    fn long_keys_are_cut() {
        let mut sketch = Sketch::default();
        sketch.note(&[b'a'; 10_000]);
        sketch.note(&[b'a'; KEY_BYTES_MAX]);
        assert_eq!(
            counts(&sketch),
            HashMap::from([(vec![b'a'; KEY_BYTES_MAX], 2)])
        );
    }

    proptest! {
        #[test]
        fn counts_never_say_too_much(keys in prop::collection::vec(0..200_u8, 0..2000)) {
            let mut sketch = Sketch::default();
            let mut exact: HashMap<Vec<u8>, u64> = HashMap::new();
            for key in &keys {
                sketch.note(&[*key]);
                *exact.entry(vec![*key]).or_default() += 1;
            }
            let counts = counts(&sketch);
            prop_assert!(counts.len() <= KEYS);
            for (key, count) in &counts {
                prop_assert!(*count <= exact[key]);
            }
            // Whoever has more than its share is there.
            for (key, count) in &exact {
                prop_assert!(*count <= (keys.len() / KEYS) as u64 || counts.contains_key(key));
            }
        }
    }
}
