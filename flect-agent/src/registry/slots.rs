//! Which slot of a cluster a new store gets: one of its own while there are any, so that it can be moved alone
//! and what is asked about its names costs what it is worth. Stores of a single server get theirs too: it may
//! become a cluster.

use super::Snapshot;
use crate::store::{Prefix, SLOTS, Slot};

/// Letters and digits of a new prefix: there are 47 million, short enough for every key.
const PREFIX_ID_BYTES: usize = 5;

/// Prefixes that are drawn for one store. With a single free slot, one in fifty misses it and shares another.
const DRAWS_MAX: u32 = 65_536;

/// How many stores each slot has, those included that are gone while their keys are not.
fn taken(snapshot: &Snapshot) -> Vec<u32> {
    let mut taken = vec![0; usize::from(SLOTS)];
    let stores = snapshot.stores.values().map(|record| &record.prefix);
    let removed = snapshot.removed.iter().map(|removal| &removal.prefix);
    for prefix in stores.chain(removed) {
        taken[usize::from(Slot::of_store(prefix).number())] += 1;
    }
    taken
}

/// How many other stores are in the slot of this one.
#[must_use]
pub fn sharing(snapshot: &Snapshot, prefix: &Prefix) -> u32 {
    let taken = taken(snapshot);
    let slot = Slot::of_store(prefix).number();
    taken[usize::from(slot)].saturating_sub(1)
}

/// A prefix in one of the slots that have the fewest stores.
pub(super) fn prefix(snapshot: &Snapshot, mut draw: impl FnMut() -> Prefix) -> Prefix {
    let taken = taken(snapshot);
    let stores = |prefix: &Prefix| taken[usize::from(Slot::of_store(prefix).number())];
    let fewest = taken.iter().min().copied().unwrap_or(0);
    let mut best = draw();
    for _ in 1..DRAWS_MAX {
        if stores(&best) == fewest {
            break;
        }
        let other = draw();
        if stores(&other) < stores(&best) {
            best = other;
        }
    }
    best
}

/// A prefix that nothing was asked about: whether it is claimed already is seen later.
pub(super) fn random_prefix() -> Prefix {
    loop {
        let prefix = any_prefix();
        let id = prefix.as_str().trim_matches(['{', '}']);
        // Hash tags of apps are words and numbers, decimal or hexadecimal; an id is none of them, so
        // that integrity mode takes no app's own `{12345}:` for a store's name.
        let number = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let text = id.bytes().all(|byte| byte.is_ascii_lowercase());
        if !number && !text {
            return prefix;
        }
    }
}

fn any_prefix() -> Prefix {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(PREFIX_ID_BYTES + 2);
    text.push('{');
    while text.len() <= PREFIX_ID_BYTES {
        let byte = crate::admin::random::<1>()[0];
        // 252 is the largest multiple of 36 in a byte: the rest would favour the first letters.
        if byte < 252 {
            text.push(char::from(DIGITS[usize::from(byte % 36)]));
        }
    }
    text.push('}');
    Prefix::parse(&text).expect("letters and digits in braces are a prefix")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Limits, Record};
    use crate::store::Slug;

    /// Prefixes one after the other: `{a0}`, `{a1}` ...
    fn numbered() -> impl FnMut() -> Prefix {
        let mut number = 0;
        move || {
            number += 1;
            Prefix::parse(&format!("{{a{number}}}")).unwrap()
        }
    }

    fn add(snapshot: &mut Snapshot, prefix: Prefix) {
        let slug = format!("s{}", snapshot.stores.len());
        let slug = Slug::try_from(slug).unwrap();
        let record = Record::new(prefix, Limits::default());
        snapshot.stores.insert(slug, record);
    }

    #[test]
    fn slots_are_shared_only_when_none_is_free() {
        let mut snapshot = Snapshot::default();
        let mut draw = numbered();
        // All slots but the last three.
        let mut free: Vec<u16> = (0..SLOTS).collect();
        while free.len() > 3 {
            let drawn = draw();
            let slot = Slot::of_store(&drawn).number();
            if let Ok(place) = free.binary_search(&slot) {
                free.remove(place);
                add(&mut snapshot, drawn);
            }
        }
        for _ in 0..3 {
            let chosen = prefix(&snapshot, &mut draw);
            assert_eq!(sharing(&snapshot, &chosen), 0);
            let slot = Slot::of_store(&chosen).number();
            assert!(free.contains(&slot), "{slot} is taken");
            free.retain(|other| *other != slot);
            add(&mut snapshot, chosen);
        }
        let shared = prefix(&snapshot, &mut draw);
        add(&mut snapshot, shared.clone());
        assert_eq!(sharing(&snapshot, &shared), 1);
        let next = prefix(&snapshot, &mut draw);
        assert_ne!(Slot::of_store(&next), Slot::of_store(&shared));
    }
}
