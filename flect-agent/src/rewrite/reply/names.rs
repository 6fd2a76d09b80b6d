//! Taking the prefix off a name.
//!
//! Invariant: a name is decided by its first bytes, so that the rest of it can stream.

use super::super::reply::roles::Name;
use crate::store::{HIDDEN, Namespace};

/// What [`strip`] found.
pub(super) enum Stripped {
    /// So many bytes belong to the prefix.
    Bytes(usize),
    /// It has no prefix of the store.
    Foreign,
    /// More of it is needed.
    Undecided,
}

/// The store's prefix without a separator: `{k7m2x}`.
#[must_use]
pub fn store_prefix(namespace: &Namespace) -> &[u8] {
    let channels = namespace.channels();
    channels.strip_suffix(b":").unwrap_or(channels)
}

/// How much of `known`, the beginning of a name or all of it, is the prefix.
pub(super) fn strip(name: Name, namespace: &Namespace, known: &[u8], whole: bool) -> Stripped {
    match name {
        Name::Key => exactly(namespace.keys(), known, whole),
        Name::Channel => exactly(namespace.channels(), known, whole),
        Name::AnyDatabase => any_database(store_prefix(namespace), known, whole),
        Name::Beginning => {
            let prefix = store_prefix(namespace);
            if whole && known == prefix {
                Stripped::Bytes(prefix.len())
            } else {
                any_database(prefix, known, whole)
            }
        }
    }
}

fn exactly(prefix: &[u8], known: &[u8], whole: bool) -> Stripped {
    if known.starts_with(prefix) {
        Stripped::Bytes(prefix.len())
    } else if !whole && prefix.starts_with(known) {
        Stripped::Undecided
    } else {
        Stripped::Foreign
    }
}

/// `{k7m2x}:` or `{k7m2x}/3:`; the agent's own names are no app's business.
fn any_database(prefix: &[u8], known: &[u8], whole: bool) -> Stripped {
    let Some(rest) = known.strip_prefix(prefix) else {
        return exactly(prefix, known, whole);
    };
    let digits = match rest {
        rest if rest.starts_with(HIDDEN) => return Stripped::Foreign,
        [b':', ..] => return Stripped::Bytes(prefix.len() + 1),
        [b'/', rest @ ..] => rest
            .iter()
            .take(DATABASE_DIGITS_MAX)
            .take_while(|byte| byte.is_ascii_digit())
            .count(),
        [] if !whole => return Stripped::Undecided,
        _ => return Stripped::Foreign,
    };
    match rest.get(digits + 1) {
        Some(b':') if digits > 0 => Stripped::Bytes(prefix.len() + digits + 2),
        None if !whole => Stripped::Undecided,
        _ => Stripped::Foreign,
    }
}

/// The longest database number.
const DATABASE_DIGITS_MAX: usize = 10;
