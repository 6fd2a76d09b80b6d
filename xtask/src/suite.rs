//! `cargo xtask suite`: Valkey's own tests against a store, measured by a private Valkey.
//!
//! What passes against a bare server passes against a store; what does not stands in
//! `tests/valkey-suite.toml` with its reason. The tests run in their own mode for external servers, so
//! only those count that need no server of their own making; administration goes to the operator's port
//! (`suite/route.tcl`).

mod differences;
mod unit;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use flect_tests::tools;
use serde_json::json;

use crate::build;
use crate::sandbox::need_root;
use crate::setup::{self, Part};
use differences::Differences;
use unit::{Outcome, Runner};

/// The arguments of `cargo xtask suite`.
#[derive(clap::Args)]
pub struct Args {
    /// Only units whose name contains this, such as type/list; repeatable
    #[arg(long = "unit", value_name = "NAME")]
    units: Vec<String>,
    /// A checkout of the Valkey release [default: Debian's source of the installed valkey-server]
    #[arg(long, value_name = "FOLDER")]
    source: Option<PathBuf>,
    /// The folder of flect-agent and flect [default: they are built]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Units that run at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// One unit on both sides.
struct Compared {
    unit: String,
    /// How many tests pass against a private Valkey.
    private: usize,
    /// How many of those pass against a store.
    store: usize,
    /// Those that do not, for which there is a reason.
    explained: Vec<String>,
    /// Those that do not, with what the run said.
    unexplained: Vec<(String, String)>,
    /// Reasons for tests that pass.
    stale: Vec<String>,
    log: PathBuf,
}

/// Runs the units and compares.
///
/// # Errors
/// When something cannot be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("suite", "there is no part of it that needs none")?;
    setup::ensure(&[Part::Valkey, Part::Tcl])?;
    let source = match &args.source {
        Some(folder) => folder
            .canonicalize()
            .with_context(|| format!("opening {}", folder.display()))?,
        None => {
            setup::ensure(&[Part::Suite])?;
            setup::suite::folder()
        }
    };
    let programs = build::in_folder(args.programs.as_deref())?;
    let differences = Differences::read(&tools::workspace().join("tests/valkey-suite.toml"))?;
    let runner = Runner::new(&source, &programs, &tools::target().join("suite"))?;
    let mut units = runner.units()?;
    if !args.units.is_empty() {
        units.retain(|unit| args.units.iter().any(|part| unit.contains(part.as_str())));
    }
    ensure!(
        !units.is_empty(),
        "no unit of that name; there are {:?}",
        runner.units()?
    );
    let jobs = args.jobs.map_or_else(
        || thread::available_parallelism().map_or(2, usize::from),
        usize::from,
    );
    let total = units.len();
    let queue = Mutex::new(units.into_iter().collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(unit) = next else { return };
                    let result = compare(&runner, &differences, &unit);
                    let mut done = lock(&done);
                    done.push(result.with_context(|| unit.clone()));
                    eprintln!("suite: {}/{total} {unit}", done.len());
                }
            });
        }
    });
    let done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all = Vec::new();
    let mut failed = false;
    for result in done {
        match result {
            Ok(compared) => all.push(compared),
            // The others have been run, and their results are wanted.
            Err(error) => {
                eprintln!("suite: {error:#}");
                failed = true;
            }
        }
    }
    all.sort_by(|a, b| a.unit.cmp(&b.unit));
    // Units without a test for external servers would only fill the table.
    all.retain(|unit| unit.private > 0 || !unit.unexplained.is_empty());
    if args.json {
        print_json(&all);
    } else {
        print_table(&all);
    }
    if all.iter().all(|unit| unit.store == 0) {
        bail!("not one test passed; see {}", runner.folder().display());
    }
    let differs = all.iter().any(|unit| !unit.unexplained.is_empty());
    Ok(ExitCode::from(u8::from(differs || failed)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How often a unit may run: a test that never ends costs one more run.
const RUNS_MAX: usize = 4;

/// Runs a unit against both.
///
/// A test that fails may leave its connection inside a transaction, or a reply unread, and spoil those
/// behind it; one that waits for ever ends its unit. So what differs runs again without the tests that
/// have a reason or never ended. That is also the second try that tests need which measure time, since
/// machines are shared.
fn compare(runner: &Runner, differences: &Differences, unit: &str) -> Result<Compared> {
    let private = runner.run(unit, true, &BTreeSet::new())?;
    let mut store = runner.run(unit, false, &BTreeSet::new())?;
    let mut compared = judge(unit, &private, &store, differences);
    let mut skipped: BTreeSet<String> = compared.explained.iter().cloned().collect();
    let mut stuck = true;
    for run in 1..RUNS_MAX {
        // Without one that never ends, a second run is enough.
        if compared.unexplained.is_empty() || run > 1 && !stuck {
            break;
        }
        let waited = store.stuck.take();
        // It may have waited in vain for what an explained one left behind.
        if run > 1 || skipped.is_empty() {
            skipped.extend(waited);
        }
        let again = runner.run(unit, false, &skipped)?;
        stuck = again.stuck.is_some();
        store.stuck = again.stuck;
        store.failed.extend(again.failed);
        store.passed.extend(again.passed);
        compared = judge(unit, &private, &store, differences);
    }
    Ok(compared)
}

fn judge(unit: &str, private: &Outcome, store: &Outcome, differences: &Differences) -> Compared {
    let mut compared = Compared {
        unit: unit.to_owned(),
        private: private.passed.len(),
        store: 0,
        explained: Vec::new(),
        unexplained: Vec::new(),
        stale: Vec::new(),
        log: store.log.clone(),
    };
    for test in &private.passed {
        let reason = differences.reason(unit, test);
        if store.passed.contains(test) {
            compared.store += 1;
            compared.stale.extend(reason.map(|_| test.clone()));
        } else if reason.is_some() {
            compared.explained.push(test.clone());
        } else {
            let said = store.failed.get(test).cloned();
            let said = said.unwrap_or_else(|| "it did not run".to_owned());
            compared.unexplained.push((test.clone(), said));
        }
    }
    compared
}

fn print_table(all: &[Compared]) {
    println!("unit                      private  store  explained  unexplained");
    for unit in all {
        println!(
            "{:<25} {:>7} {:>6} {:>10} {:>12}",
            unit.unit,
            unit.private,
            unit.store,
            unit.explained.len(),
            unit.unexplained.len()
        );
    }
    let sum = |part: fn(&Compared) -> usize| all.iter().map(part).sum::<usize>();
    println!(
        "{:<25} {:>7} {:>6} {:>10} {:>12}",
        "all",
        sum(|unit| unit.private),
        sum(|unit| unit.store),
        sum(|unit| unit.explained.len()),
        sum(|unit| unit.unexplained.len())
    );
    for unit in all {
        for (test, said) in &unit.unexplained {
            println!(
                "\n{}: {test}\n  {said}\n  log: {}",
                unit.unit,
                unit.log.display()
            );
        }
        for test in &unit.stale {
            println!(
                "\n{}: {test}\n  passes; tests/valkey-suite.toml has a reason why not",
                unit.unit
            );
        }
    }
}

fn print_json(all: &[Compared]) {
    let units: Vec<_> = all
        .iter()
        .map(|unit| {
            json!({
                "unit": unit.unit,
                "private": unit.private,
                "store": unit.store,
                "explained": unit.explained,
                "unexplained": unit.unexplained.iter().map(|(test, said)| json!({"test": test, "said": said})).collect::<Vec<_>>(),
                "stale": unit.stale,
                "log": unit.log,
            })
        })
        .collect();
    println!("{}", json!({ "units": units }));
}
