//! The trials whose outcome may depend on the version of Valkey, on the further versions.
//!
//! They are those of other modules: what is compared is compared with a private server of the same version,
//! so that no trial states what a version does.

use libtest_mimic::Trial;

use crate::pair::{self, Body};
use crate::setting::Setting;
use crate::{differ, equality, hostile, sessions, smoke, wide};

/// What is held with a store and with a private server.
const PAIRED: [(&str, &[(&str, Body)]); 5] = [
    ("equality", equality::BODIES),
    ("sessions", sessions::BODIES),
    ("sessions", sessions::OF_THE_HOST),
    ("wide", wide::BODIES),
    ("differ", differ::BODIES),
];

/// What a version is not tried with.
const LEFT_OUT: [(&str, &str); 1] = [
    // MONITOR of 8.1.1 leaves quotes and backslashes as they are, so that its lines cannot be read; a store's
    // are those of all other releases.
    ("8.1", "monitors_quote"),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for setting in Setting::of_further_valkeys() {
        for (module, bodies) in PAIRED {
            let is_in = |(name, _): &&(&str, Body)| {
                let is_it = |(series, left_out)| setting.is_of(series) && left_out == *name;
                !LEFT_OUT.into_iter().any(is_it)
            };
            let bodies: Vec<_> = bodies.iter().filter(is_in).copied().collect();
            all.extend(pair::trials_of(setting, module, &bodies));
        }
        all.extend(smoke::of_the_server(setting));
        all.push(hostile::rights_of(setting));
    }
    all
}
