//! Stores of a Valkey Cluster, which look like servers of their own while slots and primaries move.

mod moves;
mod one;
mod placed;
mod town;

use libtest_mimic::{Failed, Trial};

use crate::pair::{self, Body};
use crate::setting::Setting;
use crate::{differ, hostile, sessions};

/// What of the conversations with a private server's is held with a cluster of one node as well, beside all attacks:
/// all else is the same with `FLECT_TEST_CLUSTER=1`.
const PAIRED: [&str; 7] = [
    "databases",
    "transactions",
    "pubsub",
    "scripts",
    "settings_are_those_of_a_private_server",
    "functions_keep_to_their_store",
    "requests_of_a_seed",
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let bodies = one::BODIES
        .iter()
        .chain(&moves::BODIES)
        .chain(&placed::BODIES);
    let own = bodies.map(|&(name, body)| {
        Trial::test(format!("cluster::{name}"), move || {
            body().map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let both = sessions::BODIES
        .iter()
        .chain(sessions::OF_THE_HOST)
        .chain(differ::BODIES);
    let paired: Vec<(&str, Body)> = both
        .filter(|(name, _)| PAIRED.contains(name))
        .copied()
        .collect();
    own.chain(pair::trials_of(Setting::of_slots(), "cluster", &paired))
        .chain(hostile::attacks_of(Setting::of_slots()))
        .collect()
}

/// A trial that makes what it needs.
type Own = fn() -> anyhow::Result<()>;
