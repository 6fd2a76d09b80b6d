//! The differential tester as a trial: for a short time with a fixed seed (random ones are for whoever
//! looks for bugs: what one finds must not fail an unrelated change); the proof that it finds what is
//! wrong; and an example of every command.

mod examples;
mod faulty;
mod table;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};

use super::campaign::{self, ERRORS_PERCENT_MAX, Plan};
use super::exceptions::Exceptions;
use super::generate::Generator;
use crate::bed::Acceleration;
use crate::pair::{self, Body, Pair};

/// Together with the beds under half a minute.
const TIME: Duration = Duration::from_secs(12);
/// The same sequences each time, as many as there is time for.
const SEED: u64 = 1;

/// What is tried on the further versions of Valkey.
pub const BODIES: &[(&str, Body)] = &[
    EXAMPLES,
    ("every_command_is_in_the_table", table::whole),
    ("requests_of_a_seed", of_a_seed),
];

const EXAMPLES: (&str, Body) = ("examples_of_every_command", examples::every);

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let with = |body: Body| body(&Pair::start(Acceleration::Auto)?);
    let mut all = pair::trials("differ", &[EXAMPLES]);
    for &(name, body) in &BODIES[1..] {
        all.push(trial(name, move || with(body)));
    }
    all.push(trial("finds_an_injected_fault", faulty::found));
    all
}

fn trial(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("differ::{name}"), move || {
        body().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn of_a_seed(pair: &Pair) -> Result<()> {
    pair.bed.start_neighbour("store1")?;
    let generator = Generator::new(&[])?;
    let exceptions = Exceptions::known()?;
    let sides = campaign::sides(pair);
    let duel = campaign::duel(&sides, &exceptions);
    let plan = Plan {
        seed: SEED,
        time: TIME,
        keep_going: false,
    };
    let report = campaign::run(&duel, &generator, &plan, |_| {})
        .with_context(|| format!("seed {SEED}; the agent's log:\n{}", pair.bed.agent_log()))?;
    println!("differ: seed {SEED}: {report}");
    if let Some(finding) = report.findings.first() {
        bail!("seed {SEED}:\n{finding}\n{}", finding.file());
    }
    ensure!(
        report.errors_percent() <= ERRORS_PERCENT_MAX,
        "too many replies are errors: {report}"
    );
    Ok(())
}
