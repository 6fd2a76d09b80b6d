//! Chaos as trials: a short run of every kind of fault, and the proof that a broken promise is found.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};

use super::plan::KINDS;
use super::relay::Mode;
use super::{Settings, Stays, run, seed_by_the_clock};
use crate::bed::Bed;

/// Every kind comes once, in this time or a little more.
const TIME: Duration = Duration::from_secs(28);
/// A broken promise shows in the first second; a busy machine may need longer.
const FOUND_WITHIN: Duration = Duration::from_secs(8);

/// What breaks the promise, and a part of what must be said about it.
const BROKEN: [(&str, Mode, &str); 4] = [
    ("swapped_replies", Mode::Swap, "gives"),
    (
        "a_foreign_tag",
        Mode::Substitute {
            upwards: false,
            from: "<A.",
            to: "<B.",
        },
        "is answered with <B.",
    ),
    (
        "a_dropped_write",
        Mode::Substitute {
            upwards: true,
            from: ":reg:",
            to: ":rex:",
        },
        "holds None",
    ),
    (
        "half_a_transfer",
        Mode::Substitute {
            upwards: true,
            from: "DECRBY",
            to: "INCRBY",
        },
        "the accounts hold",
    ),
];

/// What a process that stays leaves in the maps, and a part of what must be said about it.
const LEFT: [(&str, &str); 2] = [
    ("a_left_handshake", "handshakes without clients"),
    ("a_left_namespace", "network namespaces, 1 before"),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = vec![trial("every_fault".to_owned(), every_fault)];
    for (name, mode, wanted) in BROKEN {
        all.push(trial(format!("finds_{name}"), move || {
            found(mode, None, wanted)
        }));
    }
    for (name, wanted) in LEFT {
        let left = move || found(Mode::Pass, Some(Stays::Crowd), wanted);
        all.push(trial(format!("finds_{name}"), left));
    }
    all
}

fn trial(name: String, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("chaos::{name}"), move || {
        body().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn every_fault() -> Result<()> {
    let settings = Settings {
        seed: seed_by_the_clock(),
        time: TIME,
        kinds: KINDS.map(|(kind, _)| kind).to_vec(),
        mode: Mode::Pass,
        stays: None,
    };
    let report = run(Bed::builder(), &settings, |_| {})?;
    println!("chaos: seed {}\n{}", settings.seed, report.text());
    let (seed, kinds) = (settings.seed, report.faults.len());
    ensure!(
        report.violations.is_empty(),
        "seed {seed}:\n{}",
        report.text()
    );
    ensure!(kinds == KINDS.len(), "only {kinds} kinds of faults came");
    Ok(())
}

fn found(mode: Mode, stays: Option<Stays>, wanted: &str) -> Result<()> {
    let settings = Settings {
        seed: 1,
        time: FOUND_WITHIN,
        kinds: Vec::new(),
        mode,
        stays,
    };
    let report = run(Bed::builder(), &settings, |_| {})?;
    let found = report.violations.iter().any(|what| what.contains(wanted));
    ensure!(found, "nothing was found to be wrong:\n{}", report.text());
    Ok(())
}
