//! Stores that take all they can get: what each limit does, and that the neighbour is served meanwhile.
//!
//! No trial asserts speed (machines are noisy): the neighbour's replies are all right and keep coming, the
//! agent's memory and descriptors stay bounded, and a limit says what Valkey says. Each attack is tried
//! again with its limit taken away, where the same look at it must see the harm. How much slower the
//! neighbour becomes is measured by `cargo xtask bench neighbour`.

mod audit;
mod buffers;
mod connections;
mod loops;
mod scripts;
mod server;
pub(crate) mod stage;
mod unread;
mod upstreams;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

type Body = fn() -> Result<()>;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let bodies: [(&str, Body); 18] = [
        ("connections::up_to_the_limit", connections::up_to_the_limit),
        ("connections::ten_thousand", connections::ten_thousand),
        ("connections::few_descriptors", connections::few_descriptors),
        ("connections::storm", connections::storm),
        ("upstreams::of_one_store", upstreams::of_one_store),
        ("upstreams::self_check", upstreams::self_check),
        ("buffers::of_one_store", buffers::of_one_store),
        ("buffers::self_check", buffers::self_check),
        ("unread::messages", unread::messages),
        ("unread::monitor", unread::monitor),
        ("server::holds_little", server::holds_little),
        ("server::self_check", server::self_check),
        ("server::is_asked_for_little", server::is_asked_for_little),
        ("scripts::endless", scripts::endless),
        ("scripts::self_check", scripts::self_check),
        ("loops::of_one_store", loops::of_one_store),
        ("audit::reasons", audit::reasons),
        ("audit::file", audit::file),
    ];
    let trial = |(name, body): (&str, Body)| {
        Trial::test(format!("resources::{name}"), move || {
            body().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    bodies.into_iter().map(trial).collect()
}
