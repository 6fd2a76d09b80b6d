//! `cargo xtask differ`: random requests to a store and to a private Valkey; what differs is a bug.
//!
//! Invariant: progress goes to stderr, what was found to stdout; the status is 1 when something
//! differed.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use flect_tests::bed::{Bed, cleanup};
use flect_tests::differ::campaign::{self, Finding, Plan, Report};
use flect_tests::differ::exceptions::Exceptions;
use flect_tests::differ::generate::Generator;
use flect_tests::differ::step::Step;
use flect_tests::pair::Pair;
use flect_tests::tools;

use crate::build;
use crate::sandbox::{Accel, need_root};
use crate::setup::{self, Part};

const AFTERWARDS: &str = "\
A difference is made short, printed with both replies, and written to a file for --replay. The lines
of the file are requests of clients a, b, c; `a+` is written together with the next request, `a,5` in
pieces that end before byte 5, `a/` closes. Known differences, with the reason of each, are in
tests/src/differ/exceptions.txt, what is sent in tests/src/differ/grammar/.

The exit status is 0 when nothing differed, 1 when something did.

  cargo xtask differ --seconds 600
  cargo xtask differ --seed 7 --classes streams,keys
  cargo xtask differ --replay target/artefacts/differ-7.txt";

/// A report names exceptions that never applied only after a run of this length: a shorter one may
/// not have come to them.
const LONG_RUN: Duration = Duration::from_secs(300);

/// The arguments of `cargo xtask differ`.
#[derive(clap::Args)]
#[command(after_long_help = AFTERWARDS)]
pub struct Args {
    /// How long to look; a sequence that has begun is ended
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// The seed of the first sequence [default: by the clock]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only requests of these classes: strings, hashes, lists, sets, zsets, streams, keys, scripts,
    /// functions, blocking, publishing, connection [default: all but functions]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    classes: Vec<String>,
    /// Do not stop at the first difference; each kind is reported once
    #[arg(long)]
    keep_going: bool,
    /// Play this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "seed", "classes", "keep_going"])]
    replay: Option<PathBuf>,
    /// The valkey-server of both sides [default: the installed one]
    #[arg(long, value_name = "PATH")]
    valkey: Option<PathBuf>,
    /// Hand bytes over past TCP (sk_msg): as the kernel allows, always, or never
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Without the neighbour that works under the same names
    #[arg(long)]
    quiet_neighbour: bool,
    /// The folder of the agent to test [default: it is built with optimisation]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Looks for differences.
///
/// # Errors
/// When the sides cannot be made, or a file or class is wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("differ", "everything it makes is removed at the end")?;
    let generator = Generator::new(&args.classes)?;
    let replayed = match &args.replay {
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let steps = Step::parse_all(&text).with_context(|| format!("in {}", path.display()))?;
            Some(steps)
        }
        None => None,
    };
    if args.valkey.is_none() {
        setup::ensure(&[Part::Valkey])?;
    }
    let programs = build::in_folder(args.programs.as_deref())?;
    cleanup::end_on_signals()?;
    let builder = Bed::builder()
        .programs(programs)
        .valkey(args.valkey.clone())
        .acceleration(args.accel.into());
    let pair = Pair::of(builder)?;
    if !args.quiet_neighbour {
        pair.bed.start_neighbour("store1")?;
    }
    let exceptions = Exceptions::known()?;
    let sides = campaign::sides(&pair);
    let duel = campaign::duel(&sides, &exceptions);
    let start = Instant::now();
    let seed = args.seed.unwrap_or_else(seed_by_the_clock);
    let report = match &replayed {
        Some(steps) => campaign::replay(&duel, steps)?,
        None => {
            let plan = Plan {
                seed,
                time: Duration::from_secs(args.seconds),
                keep_going: args.keep_going,
            };
            eprintln!("differ: seed {seed}, {} s", args.seconds);
            let mut progress = Progress::new();
            campaign::run(&duel, &generator, &plan, |report| {
                progress.tell(start, report)
            })?
        }
    };
    let files: Vec<_> = report.findings.iter().map(write).collect::<Result<_>>()?;
    if args.json {
        print_json(&report, &files, seed)?;
    } else {
        print(&report, &files);
    }
    if start.elapsed() >= LONG_RUN {
        for stale in exceptions.stale() {
            eprintln!("differ: this exception never applied; is it stale? {stale}");
        }
    }
    Ok(ExitCode::from(u8::from(!report.findings.is_empty())))
}

/// One line on a terminal, nothing elsewhere.
struct Progress {
    shown: bool,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            shown: std::io::stderr().is_terminal(),
            last: Instant::now(),
        }
    }

    fn tell(&mut self, start: Instant, report: &Report) {
        const PAUSE: Duration = Duration::from_millis(200);
        if self.shown && self.last.elapsed() >= PAUSE {
            self.last = Instant::now();
            // The line is taken away again by what comes next.
            eprint!("\r\x1b[K{} s: {report}\r", start.elapsed().as_secs());
            let _ = std::io::stderr().flush();
        }
    }
}

fn write(finding: &Finding) -> Result<PathBuf> {
    let folder = tools::artefacts();
    fs::create_dir_all(&folder)?;
    let kind: String = finding
        .minimal
        .difference
        .kind
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let path = folder.join(format!("differ-{}-{kind}.txt", finding.seed));
    fs::write(&path, finding.file()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn print(report: &Report, files: &[PathBuf]) {
    for (finding, file) in report.findings.iter().zip(files) {
        println!("\nA difference:\n{finding}");
        println!(
            "  again:   cargo xtask differ --replay {}",
            relative(file).display()
        );
        if finding.seed != 0 {
            println!(
                "  whole:   cargo xtask differ --seconds 0 --seed {}",
                finding.seed
            );
        }
    }
    println!("differ: {report}");
}

fn print_json(report: &Report, files: &[PathBuf], seed: u64) -> Result<()> {
    let findings: Vec<_> = report
        .findings
        .iter()
        .zip(files)
        .map(|(finding, file)| {
            let steps: Vec<_> = finding
                .minimal
                .steps
                .iter()
                .map(ToString::to_string)
                .collect();
            let difference = &finding.minimal.difference;
            serde_json::json!({
                "seed": finding.seed,
                "steps": steps,
                "request": difference.request,
                "valkey": difference.valkey,
                "store": difference.store,
                "repeatable": finding.minimal.is_repeatable,
                "file": file,
            })
        })
        .collect();
    let commands: serde_json::Map<_, _> = report
        .tally
        .commands
        .iter()
        .map(|(name, (all, errors))| {
            let counts = serde_json::json!({"replies": all, "errors": errors});
            (name.clone(), counts)
        })
        .collect();
    let all = serde_json::json!({
        "seed": seed,
        "sequences": report.sequences,
        "replies": report.tally.replies,
        "errors": report.tally.errors,
        "commands": commands,
        "differences": findings,
    });
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(tools::workspace()).unwrap_or(path)
}

/// Seeds are typed again, so they are short.
fn seed_by_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::from(now.unwrap_or_default().subsec_nanos())
}
