//! `cargo xtask bench`: flect against direct Valkey, and against other proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use flect_tests::bed::cleanup;
use flect_tests::tools::{self, Programs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cases::{CASES, Case, SMOKE};
use super::goals::standings;
use super::plot;
use super::report::{self, Report};
use super::rounds::{Effort, Rounds};
use super::side::{FLECT, PEERS, SHIPPED, Side};
use crate::build;
use crate::sandbox::need_root;
use crate::setup::{self, Part};

/// Ten thousand connections, on either side of a proxy, in one process, and as much again.
const DESCRIPTORS: u64 = 65_536;
/// Ten thousand connections and what else a process has open.
const DESCRIPTORS_MIN: u64 = 12_000;
/// The second side whose goals are told, since no kernel of today accelerates by itself.
const ACCELERATED: &str = "accel on";

/// The arguments of `cargo xtask bench` without a subcommand.
#[derive(clap::Args, Default)]
#[group(id = "versus")]
pub struct Args {
    /// Fewer cases, variants and rounds: two to three minutes
    #[arg(long)]
    quick: bool,
    /// Also nutcracker, haproxy (TCP) and Envoy (redis_proxy); they are installed below target/tools
    #[arg(long)]
    peers: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Rounds per case [default: 7, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds per side and round [default: 1.0, with --quick 0.6]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Measure the programs in this folder [default: the profile `dist` is built, with --quick `release`]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Also write everything that was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw it, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Also write the tables for BENCHMARKS.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// List the cases and end
    #[arg(long)]
    list: bool,
    /// Whether the bench works at all: `cargo xtask test` asks
    #[arg(long, hide = true)]
    smoke: bool,
}

/// Measures and prints.
///
/// # Errors
/// When a side cannot be started, or a reply is wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    let cases = args.cases();
    if args.list {
        for case in CASES {
            println!(
                "{}{}",
                case.name,
                if case.quick { "  (--quick)" } else { "" }
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        !cases.is_empty(),
        "no case's name contains {:?}; --list shows them",
        args.filter
    );
    need_root("bench", "everything it makes is removed at the end")?;
    let mut parts = vec![Part::Bpf, Part::Valkey];
    if args.peers {
        parts.extend([Part::Clients, Part::Peers]);
    }
    setup::ensure(&parts)?;
    let (programs, profile) = args.programs()?;
    let load_before = load_average();
    raise_descriptors()?;
    cleanup::end_on_signals()?;
    let sides = args.sides();
    let effort = args.effort();
    let mut rounds = Rounds::new(programs, sides.clone(), effort, cases.len());
    let mut done = Vec::new();
    for case in cases {
        let measured = report::Case::new(&rounds.run(case)?);
        rounds.print(|| report::print_case(&measured));
        done.push(measured);
    }
    let mut setting = setting(args, &profile, &load_before)?;
    let accelerations = rounds.accelerations();
    let words = accelerations
        .iter()
        .map(|(side, acceleration)| format!("{side}: {acceleration}"));
    setting.push(("acceleration", words.collect::<Vec<_>>().join("; ")));
    drop(rounds);
    let mut goals = standings(&done, SHIPPED);
    goals.extend(standings(&done, ACCELERATED));
    let report = Report {
        setting,
        sides: sides.iter().map(|side| side.name).collect(),
        cases: done,
        goals,
    };
    report::print_end(&report);
    write(args.json.as_deref(), || {
        Ok(serde_json::to_string_pretty(&report)?)
    })?;
    write(args.plot.as_deref(), || Ok(plot::svg(&report)))?;
    write(args.markdown.as_deref(), || Ok(report::markdown(&report)))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// One case, one round, a moment.
    pub fn smoke() -> Self {
        Self {
            smoke: true,
            ..Self::default()
        }
    }

    fn cases(&self) -> Vec<&'static Case> {
        CASES
            .iter()
            .filter(|case| match self.smoke {
                true => case.name == SMOKE,
                false => case.quick || !self.quick,
            })
            .filter(|case| case.name.contains(&self.filter))
            .collect()
    }

    fn sides(&self) -> Vec<Side> {
        let few = self.quick || self.smoke;
        let mut sides: Vec<_> = FLECT
            .iter()
            .copied()
            .filter(|side| !few || !side.variant)
            .collect();
        if self.peers {
            sides.extend(PEERS);
        }
        sides
    }

    /// What to type to measure the same again; without the files of this machine.
    fn command(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        words.extend(self.quick.then(|| "--quick".to_owned()));
        words.extend(self.peers.then(|| "--peers".to_owned()));
        words.extend((!self.filter.is_empty()).then(|| format!("--filter '{}'", self.filter)));
        words.extend(self.rounds.map(|rounds| format!("--rounds {rounds}")));
        words.extend(self.seconds.map(|seconds| format!("--seconds {seconds}")));
        words.join(" ")
    }

    fn effort(&self) -> Effort {
        let (rounds, seconds) = match (self.smoke, self.quick) {
            (true, _) => (1, 0.1),
            (_, true) => (3, 0.6),
            _ => (7, 1.0),
        };
        Effort {
            rounds: self.rounds.map_or(rounds, usize::from),
            seconds: self.seconds.unwrap_or(seconds),
        }
    }

    fn programs(&self) -> Result<(Programs, String)> {
        if let Some(folder) = &self.programs {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            return Ok((Programs::in_folder(folder)?, name.into_owned()));
        }
        if self.smoke {
            return Ok((Programs::in_folder(&build::tried()?)?, "dev".to_owned()));
        }
        if self.quick {
            return Ok((build::programs()?, "release".to_owned()));
        }
        Ok((Programs::in_folder(&build::shipped()?)?, "dist".to_owned()))
    }
}

/// Everything that is started inherits it. Containers may not raise the hard limit: then that must do.
fn raise_descriptors() -> Result<()> {
    let own = getrlimit(Resource::Nofile);
    let limit = |maximum: Option<u64>| Rlimit {
        current: maximum.map(|maximum| maximum.min(DESCRIPTORS)),
        maximum,
    };
    let higher = own.maximum.map(|maximum| maximum.max(DESCRIPTORS));
    if setrlimit(Resource::Nofile, limit(higher)).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::Nofile, limit(own.maximum)).context("raising the limit of descriptors")?;
    ensure!(
        own.maximum.is_none_or(|maximum| maximum >= DESCRIPTORS_MIN),
        "10,000 connections need a limit of {DESCRIPTORS_MIN} descriptors: ulimit -Hn"
    );
    Ok(())
}

/// Machine, versions and command.
fn setting(args: &Args, profile: &str, load_before: &str) -> Result<Vec<(&'static str, String)>> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let effort = args.effort();
    let kernel = rustix::system::uname();
    let version = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(tools::program(program)?)
            .arg(argument)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(vec![
        ("machine", format!("{cores} cores, {model}")),
        (
            "kernel",
            format!("Linux {}", kernel.release().to_string_lossy()),
        ),
        ("Valkey", version("valkey-server", "--version")?),
        (
            "load",
            format!(
                "{} and a generator of the bench",
                version("valkey-benchmark", "--version")?
            ),
        ),
        (
            "agent",
            format!("{}, profile {profile}", env!("CARGO_PKG_VERSION")),
        ),
        (
            "effort",
            format!("{} rounds of {} s", effort.rounds, effort.seconds),
        ),
        (
            "load average",
            format!(
                "{load_before} before it began, {} at its end",
                load_average()
            ),
        ),
        ("command", args.command()),
    ])
}

/// Of one, five and fifteen minutes.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn write(path: Option<&Path>, text: impl FnOnce() -> Result<String>) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let mut text = text()?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("bench: wrote {}", path.display());
    Ok(())
}
