//! Stored names and the places of a walk; knows no sockets.

use crate::store::Prefix;

/// Bits of a cluster's slot in a cursor (`getKeySlot` has 16384 slots).
const SLOT_BITS: u32 = 14;

/// The glob pattern of all of a store's names, in every database. A prefix holds no glob character.
#[must_use]
pub fn pattern(prefix: &Prefix) -> Vec<u8> {
    format!("{prefix}[:/]*").into_bytes()
}

/// The database and the app's key of a stored name; `None` when it is not a name of this store.
#[must_use]
pub fn database_and_key<'n>(prefix: &Prefix, stored: &'n [u8]) -> Option<(u32, &'n [u8])> {
    let rest = stored.strip_prefix(prefix.as_str().as_bytes())?;
    if let Some(key) = rest.strip_prefix(b":") {
        return Some((0, key));
    }
    let rest = rest.strip_prefix(b"/")?;
    let end = rest.iter().position(|byte| *byte == b':')?;
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    let database: u32 = digits.parse().ok()?;
    // Only the spelling that `Namespace` writes: two names must not stand for one key.
    (database > 0 && digits == database.to_string()).then_some((database, &rest[end + 1..]))
}

/// Which part of all names a walk has looked at when it is at this cursor: 0 at the beginning.
///
/// SCAN counts through its table with the bits of the cursor reversed (`dictScan` in dict.c,
/// `hashtableScan` in hashtable.c), so that a growing table never loses its place. Reversed, the
/// cursor is therefore the fraction of the hash space that lies behind it, whatever the size of the
/// table. Hashes are keyed with a secret of the server's process, so what lies in any part of the
/// space is a random sample of the keys.
#[must_use]
pub fn position(cursor: u64, slots: bool) -> f64 {
    let cursor = if slots { cursor >> SLOT_BITS } else { cursor };
    cursor.reverse_bits() as f64 / 2_f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_they_were_put_together() {
        let prefix = Prefix::parse("{abc}").unwrap();
        for (database, key) in [
            (0, &b"user:1"[..]),
            (3, b""),
            (15, b"\xff/7:x"),
            (0, b"/3:a"),
        ] {
            let stored = [prefix.namespace(database).keys(), key].concat();
            assert_eq!(database_and_key(&prefix, &stored), Some((database, key)));
        }
        for foreign in [
            "{abc}",
            "{abd}:k",
            "{abc}x:k",
            "{abc}/",
            "{abc}/x:k",
            "{abc}/03:k",
            "{abc}/0:k",
        ] {
            assert_eq!(
                database_and_key(&prefix, foreign.as_bytes()),
                None,
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_cursor_tells_its_place_in_the_hash_space() {
        // A table of 8 buckets is walked 0, 4, 2, 6, 1, 5, 3, 7.
        for (steps, cursor) in [0_u64, 4, 2, 6, 1, 5, 3, 7].into_iter().enumerate() {
            assert!((position(cursor, false) - steps as f64 / 8.0).abs() < 1e-9);
            assert!((position(cursor << 14 | 99, true) - steps as f64 / 8.0).abs() < 1e-9);
        }
    }
}
