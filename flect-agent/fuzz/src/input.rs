//! Taking an input apart: first what decides, then what is fed.
//!
//! Invariant: any bytes are an input; what is missing counts as zero.

use flect_agent::store::{Namespace, Prefix};

/// The store of all targets.
pub const PREFIX: &str = "{s}";

/// The store of all targets.
///
/// # Panics
/// Never: the text is a prefix.
#[must_use]
pub fn prefix() -> Prefix {
    Prefix::parse(PREFIX).expect("the text is a prefix")
}

/// The store's names in a database: 0, 1 or 12, for the first two bits of a deciding byte.
#[must_use]
pub fn namespace(decides: u8) -> Namespace {
    prefix().namespace(match decides & 3 {
        0 | 3 => 0,
        1 => 1,
        _ => 12,
    })
}

/// Takes the first byte.
pub fn byte(input: &mut &[u8]) -> u8 {
    match input.split_first() {
        Some((first, rest)) => {
            *input = rest;
            *first
        }
        None => 0,
    }
}

/// Where to cut `length` bytes, in order: in steps that a deciding byte chooses, 0 for a single cut behind
/// nothing and 1 for a cut at every byte.
#[must_use]
pub fn cuts(decides: u8, length: usize) -> Vec<usize> {
    let step = usize::from(decides);
    if step == 0 {
        return vec![0, length];
    }
    let mut cuts: Vec<usize> = (0..length).step_by(step).collect();
    cuts.push(length);
    cuts
}

/// Pieces between a byte that scarcely comes in text.
pub fn pieces(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == PIECE_END)
}

/// ASCII's unit separator, made for this.
pub const PIECE_END: u8 = 0x1f;
