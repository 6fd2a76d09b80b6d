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

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for setting in Setting::of_further_valkeys() {
        for (module, bodies) in PAIRED {
            all.extend(pair::trials_of(setting, module, bodies));
        }
        all.extend(smoke::of_the_server(setting));
        all.push(hostile::rights_of(setting));
    }
    all
}
