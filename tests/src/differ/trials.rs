//! The differential tester as a trial: for a short time with a fixed seed, then with a random one;
//! and the proof that it finds what is wrong.

use libtest_mimic::Trial;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    Vec::new()
}
