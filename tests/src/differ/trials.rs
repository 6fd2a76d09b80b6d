//! The differential tester as a trial: for a short time with a fixed seed, then with a random one;
//! the proof that it finds what is wrong; and an example of every command.

mod examples;
mod faulty;
mod table;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use super::campaign::{self, ERRORS_PERCENT_MAX, Plan};
use super::exceptions::Exceptions;
use super::generate::Generator;
use crate::bed::Acceleration;
use crate::pair::{self, Body, Pair};

/// Half of it with each seed: together with the beds under half a minute.
const TIME: Duration = Duration::from_secs(12);
/// The seed that every run begins with.
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
    all.push(trial("every_command_is_in_the_table", move || {
        with(table::whole)
    }));
    all.push(trial("random_requests", move || with(random)));
    all.push(trial("finds_an_injected_fault", faulty::found));
    all
}

fn trial(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("differ::{name}"), move || {
        body().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn random(pair: &Pair) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    with_seeds(pair, &[SEED, u64::from(now.subsec_nanos())])
}

/// The installed version looks for what nobody has thought of; the others for what they do differently.
fn of_a_seed(pair: &Pair) -> Result<()> {
    with_seeds(pair, &[SEED])
}

fn with_seeds(pair: &Pair, seeds: &[u64]) -> Result<()> {
    pair.bed.start_neighbour("store1")?;
    let generator = Generator::new(&[])?;
    let exceptions = Exceptions::known()?;
    let sides = campaign::sides(pair);
    let duel = campaign::duel(&sides, &exceptions);
    for &seed in seeds {
        let plan = Plan {
            seed,
            time: TIME / 2,
            keep_going: false,
        };
        let report = campaign::run(&duel, &generator, &plan, |_| {})
            .with_context(|| format!("seed {seed}; the agent's log:\n{}", pair.bed.agent_log()))?;
        println!("differ: seed {seed}: {report}");
        let found = report.findings.first().map(ToString::to_string);
        ensure!(
            found.is_none(),
            "seed {seed}:\n{}\n{}",
            found.unwrap_or_default(),
            report
                .findings
                .first()
                .map(campaign::Finding::file)
                .unwrap_or_default()
        );
        ensure!(
            report.errors_percent() <= ERRORS_PERCENT_MAX,
            "too many replies are errors: {report}"
        );
    }
    Ok(())
}
