//! `cargo xtask test`: everything that can fail.
//!
//! 1. the workspace's unit and property tests, as `cargo test` runs them, without root;
//! 2. the SDK's checks and unit tests, likewise;
//! 3. a short look at every fuzz target;
//! 4. the integration tests on this machine's kernel;
//! 5. what requests cost in the agent's own code, in instructions, against what was written down;
//! 6. the bench, for a moment: whether it still measures;
//! 7. those of the integration tests that meet the kernel, under others, in virtual machines.
//!
//! Invariant: nothing is skipped unasked; what cannot run is a failure that says why. The last line
//! is 'N passed, N failed' over everything.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flect_tests::bed::place;
use flect_tests::tools;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGTERM;

use crate::bench;
use crate::build;
use crate::fuzz;
use crate::instructions;
use crate::sandbox::need_root;
use crate::setup::{self, Part};
use crate::vm_test;

/// The integration tests take eight to ten minutes; one that hangs must not take CI's whole time.
const HOST_TIME_MAX: Duration = Duration::from_secs(20 * 60);

/// Two seconds for each fuzz target: enough to run its whole corpus and to notice what fails at once.
const FUZZ_TIME: Duration = Duration::from_secs(30);

/// The arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Without the unit and property tests
    #[arg(long)]
    no_unit: bool,
    /// Without the integration tests on this machine's kernel
    #[arg(long)]
    no_host: bool,
    /// Without the short look at fuzz targets
    #[arg(long)]
    no_fuzz: bool,
    /// Without virtual machines
    #[arg(long)]
    no_vm: bool,
}

/// Runs the tests and says what came of it.
///
/// # Errors
/// When something cannot even be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let mut parts = vec![Part::Bpf, Part::Valkey, Part::Clients, Part::Sdk];
    if !args.no_host {
        parts.extend([
            Part::Versions,
            Part::Libraries,
            Part::Chromium,
            Part::Valgrind,
            Part::Runtime,
        ]);
    }
    if !args.no_vm {
        parts.push(Part::Vm);
    }
    setup::ensure(&parts)?;
    let mut report = Report::default();
    let filter = args.filter.as_deref();
    if !args.no_unit {
        report.stage("unit and property tests", || unit(filter));
        // Its tests take no filter.
        if filter.is_none_or(|filter| filter.contains("sdk")) {
            report.stage("the SDK's checks and unit tests", sdk);
        }
    }
    // Its targets take no filter.
    if !args.no_fuzz && filter.is_none_or(|filter| filter.contains("fuzz")) {
        report.stage("a short look at every fuzz target", || {
            let (passed, failed) = fuzz::look(FUZZ_TIME)?;
            Ok((Counts::of(passed, failed), failed == 0))
        });
    }
    if !args.no_host {
        report.stage("integration tests on this kernel", || host(filter));
    }
    // Its cases take no filter.
    if !args.no_host && filter.is_none_or(|filter| filter.contains("instructions")) {
        report.stage("instructions of a request", || {
            let (passed, failed) = instructions::check()?;
            Ok((Counts::of(passed, failed), failed == 0))
        });
    }
    // It takes no filter either, and needs what was built for the stage before.
    if !args.no_host && filter.is_none_or(|filter| filter.contains("bench")) {
        report.stage("the bench, for a moment", || {
            bench::smoke()?;
            Ok((Counts::of(1, 0), true))
        });
    }
    if !args.no_vm {
        let machines = vm_test::run_all(&vm_test::Args::standard(args.filter.clone()));
        match machines {
            Ok(outcomes) => report.lines.extend(outcomes.iter().map(Into::into)),
            Err(error) => report.lines.push(Line::failed("virtual machines", &error)),
        }
    }
    Ok(report.print(start))
}

fn unit(filter: Option<&str>) -> Result<(Counts, bool)> {
    let mut command = setup::cargo();
    command
        .current_dir(tools::workspace())
        // Without --no-fail-fast the first crate that fails would hide the others.
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter)
        .env("PATH", setup::path_variable()?);
    counted(&mut command, None)
}

/// Formatting, types and what npm would publish; then the tests that need no store.
fn sdk() -> Result<(Counts, bool)> {
    let mut check = setup::npm()?;
    let (_, passed) = counted(check.args(["run", "check"]), None)?;
    let mut test = setup::npm()?;
    let (counts, tested) = counted(test.args(["run", "test:unit"]), None)?;
    Ok((counts, passed && tested))
}

fn host(filter: Option<&str>) -> Result<(Counts, bool)> {
    need_root("test", "unit tests alone need none: --no-host --no-vm")?;
    build::weakened("dev")?;
    let built = build::tried()?;
    let mut command = Command::new(built.join("flect-integration"));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Trials wait more than they work.
    command.args(["--test-threads", &(cores + 1).to_string()]);
    command.args(filter);
    // Which makes the package that is tried.
    command.env("FLECT_XTASK", flect_tests::tools::own_program()?);
    counted(&mut command, Some(HOST_TIME_MAX))
}

/// Runs a test runner, shows its output and counts. After `time_max` it gets SIGTERM, on which the
/// integration tests clean up.
fn counted(command: &mut Command, time_max: Option<Duration>) -> Result<(Counts, bool)> {
    // On SIGTERM the integration tests clean up; a terminal's Ctrl-C reaches them by itself.
    place::end_with_parent(command, SIGTERM);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let stdout = child.stdout.take().context("the runner's output")?;
    let (ended, watch) = mpsc::channel::<()>();
    if let (Some(time_max), Ok(pid)) = (time_max, i32::try_from(child.id())) {
        thread::spawn(move || {
            let late = watch.recv_timeout(time_max) == Err(mpsc::RecvTimeoutError::Timeout);
            if let (true, Some(pid)) = (late, Pid::from_raw(pid)) {
                let minutes = time_max.as_secs() / 60;
                println!("stopped after {minutes} minutes; tests without a result above still ran");
                // It may have ended just now.
                let _ = kill_process(pid, Signal::TERM);
            }
        });
    }
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        counts.read(&line);
    }
    let status = child.wait()?;
    drop(ended);
    Ok((counts, status.success()))
}

/// What came of each stage.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
}

struct Line {
    name: String,
    counts: Counts,
    seconds: u64,
    failure: Option<String>,
}

impl Report {
    fn stage(&mut self, name: &str, run: impl FnOnce() -> Result<(Counts, bool)>) {
        println!("\n== {name}");
        let start = Instant::now();
        let line = match run() {
            Ok((counts, passed)) => Line {
                name: name.to_owned(),
                counts,
                seconds: start.elapsed().as_secs(),
                failure: (!passed).then(|| "failed".to_owned()),
            },
            Err(error) => Line::failed(name, &error),
        };
        self.lines.push(line);
    }

    fn print(&self, start: Instant) -> ExitCode {
        println!("\n== summary");
        let mut all = Counts::default();
        for line in &self.lines {
            let end = line.failure.as_deref().unwrap_or("ok");
            println!(
                "{:>5} s  {}: {}: {end}",
                line.seconds, line.name, line.counts
            );
            all.add(line.counts);
            // A stage that failed without a test that did counts as one.
            if line.failure.is_some() && line.counts.failed == 0 {
                all.failed += 1;
            }
        }
        println!("{:>5} s  in all", start.elapsed().as_secs());
        println!("{all}");
        ExitCode::from(u8::from(all.failed > 0))
    }
}

impl Line {
    fn failed(name: &str, error: &anyhow::Error) -> Self {
        Self {
            name: name.to_owned(),
            counts: Counts::default(),
            seconds: 0,
            failure: Some(format!("{error:#}")),
        }
    }
}

impl From<&vm_test::Outcome> for Line {
    fn from(outcome: &vm_test::Outcome) -> Self {
        Self {
            name: format!("integration tests on Linux {}", outcome.release),
            counts: outcome.counts,
            seconds: outcome.time.as_secs(),
            failure: outcome.failure.clone(),
        }
    }
}

/// What a test runner counted, read from its closing lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn of(passed: u64, failed: u64) -> Self {
        Self {
            passed,
            failed,
            ignored: 0,
        }
    }

    /// Adds what a line of output says, if it is a closing line of libtest, libtest-mimic or
    /// Node.js.
    pub fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("\u{2139} ") {
            return self.read_node(rest);
        }
        let Some((_, rest)) = line.split_once("test result: ") else {
            return;
        };
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Node.js has one line for each count, such as 'pass 3', behind a sign for information.
    fn read_node(&mut self, rest: &str) {
        let Some((what, number)) = rest.split_once(' ') else {
            return;
        };
        let Ok(number) = number.parse::<u64>() else {
            return;
        };
        match what {
            "pass" => self.passed += number,
            "fail" | "cancelled" => self.failed += number,
            "skipped" | "todo" => self.ignored += number,
            _ => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.ignored {
            0 => Ok(()),
            // The word that runners of every language have for it.
            ignored => write!(f, ", {ignored} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.58s",
            "test a::test_result ... ok",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "\u{2139} tests 9",
            "\u{2139} pass 5",
            "\u{2139} fail 1",
            "\u{2139} cancelled 1",
            "\u{2139} skipped 2",
            "\u{2139} duration_ms 13210.128426",
        ] {
            counts.read(line);
        }
        assert_eq!(counts.to_string(), "19 passed, 5 failed, 3 skipped");
    }
}
