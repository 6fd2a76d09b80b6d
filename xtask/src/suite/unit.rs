//! One unit of Valkey's tests, run in a sandbox of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use flect_tests::bed::place;
use flect_tests::tools::{self, Programs};
use signal_hook::consts::SIGTERM;

use crate::setup;

/// What routes administration to the operator's port.
const ROUTE: &str = include_str!("route.tcl");

/// Without progress for so long, the harness gives a unit up: its longest test takes half of that.
const STUCK_AFTER_SECONDS: &str = "60";

/// A unit may take no longer in all, in case that the harness itself hangs; the longest takes a fifth.
const UNIT_SECONDS_MAX: &str = "400";

/// Ports for one run of the harness, which looks for free ones among them; runs beside each other would
/// take the same.
const PORTS: u16 = 200;

/// Where those ports begin: below the range of the kernel's own choice.
const PORTS_BEGIN: u16 = 12_000;

/// The name of this program's copy.
const XTASK: &str = "xtask";

/// Programs of the server that some tests start.
const PROGRAMS: [&str; 3] = ["valkey-server", "valkey-cli", "valkey-benchmark"];

/// The tests of one Valkey release.
pub struct Runner {
    source: PathBuf,
    folder: PathBuf,
    programs: PathBuf,
    runs: AtomicU16,
}

/// What a run said.
pub struct Outcome {
    /// Tests that passed.
    pub passed: BTreeSet<String>,
    /// Tests that did not, and what was said of them.
    pub failed: BTreeMap<String, String>,
    /// The test at which the harness waited in vain, and behind which it runs none.
    pub stuck: Option<String>,
    /// The whole output.
    pub log: PathBuf,
}

impl Runner {
    /// Copies the tests from `source` to below `folder`, with the routing added, and the programs too: a
    /// run takes a while, in which they may be built anew.
    ///
    /// # Errors
    /// When there are none, or they are not built as expected.
    pub fn new(source: &Path, programs: &Programs, folder: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(folder);
        let copy = folder.join("source");
        fs::create_dir_all(copy.join("src"))?;
        copy_folder(&source.join("tests"), &copy.join("tests"))?;
        for program in PROGRAMS {
            symlink(tools::program(program)?, copy.join("src").join(program))?;
        }
        let helper = copy.join("tests/test_helper.tcl");
        let text = fs::read_to_string(&helper)
            .with_context(|| format!("reading {}: is this Valkey's source?", helper.display()))?;
        // Behind all procedures, before anything runs.
        let (before, after) = text
            .rsplit_once("\nif {$::client} {")
            .context("tests/test_helper.tcl is not built as expected")?;
        let route = folder.join("route.tcl");
        fs::write(&route, ROUTE)?;
        let text = format!(
            "{before}\nsource {}\nif {{$::client}} {{{after}",
            route.display()
        );
        fs::write(&helper, text)?;
        let own = folder.join("programs");
        fs::create_dir_all(&own)?;
        for program in [&programs.agent, &programs.flect] {
            let name = program.file_name().context("a program has a name")?;
            fs::copy(program, own.join(name))
                .with_context(|| format!("copying {}", program.display()))?;
        }
        fs::copy(tools::own_program()?, own.join(XTASK)).context("copying xtask")?;
        Ok(Self {
            programs: own,
            source: copy,
            folder: folder.to_owned(),
            runs: AtomicU16::new(0),
        })
    }

    /// Where everything is kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of all units that can be run against an external server.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn units(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for part in ["unit", "unit/type"] {
            let folder = self.source.join("tests").join(part);
            for entry in
                fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
            {
                let name = entry?.file_name().to_string_lossy().into_owned();
                all.extend(
                    name.strip_suffix(".tcl")
                        .map(|name| format!("{part}/{name}")),
                );
            }
        }
        all.sort();
        Ok(all)
    }

    /// Runs a unit against a private Valkey or a store, without the tests of `skipped`.
    ///
    /// # Errors
    /// When it cannot be started. Tests that fail are no error.
    pub fn run(&self, unit: &str, private: bool, skipped: &BTreeSet<String>) -> Result<Outcome> {
        let side = if private { "private" } else { "store" };
        let name = format!("{}-{side}", unit.replace('/', "-"));
        let work = self.folder.join(&name);
        let _ = fs::remove_dir_all(&work);
        // Tests write below their folder.
        copy_folder(&self.source, &work)?;
        let log = self.folder.join(format!("{name}.log"));
        let skip_file = self.folder.join(format!("{name}.skip"));
        fs::write(
            &skip_file,
            skipped.iter().cloned().collect::<Vec<_>>().join("\n"),
        )?;
        let begin = PORTS_BEGIN + self.runs.fetch_add(1, Ordering::Relaxed) % 80 * PORTS;
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=20", UNIT_SECONDS_MAX])
            .arg(self.programs.join(XTASK))
            .arg("sandbox");
        if private {
            command.arg("--direct");
        } else {
            command.arg("--programs").arg(&self.programs);
        }
        command
            .args(["--", "sh", "-c"])
            .arg(
                "cd \"$1\" && exec \"$2\" tests/test_helper.tcl --host \"$VALKEY_HOST\" \
                 --port \"$VALKEY_PORT\" --single \"$3\" --durable --tags -slow --timeout \"$4\" \
                 --baseport \"$5\" --portcount \"$6\" --skipfile \"$7\"",
            )
            .arg("sh")
            .arg(&work)
            .arg(tools::program("tclsh")?)
            .arg(unit)
            .arg(STUCK_AFTER_SECONDS)
            .arg(begin.to_string())
            .arg(PORTS.to_string())
            .arg(&skip_file)
            .envs(setup::suite::environment())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(Stdio::from(File::options().append(true).open(&log)?));
        place::end_with_parent(&mut command, SIGTERM);
        let mut child = command.spawn().context("starting a unit")?;
        child.wait()?;
        let _ = fs::remove_dir_all(&work);
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let text = without_colours(&text);
        ensure!(
            text.contains("Testing unit") || text.contains("[ready]"),
            "the harness did not run; see {}",
            log.display()
        );
        Ok(read(&text, log))
    }
}

/// The harness's lines: `[ok]: NAME (3 ms)` and `[err]: NAME in FILE`, then what went wrong; and
/// `SOCKET => (IN PROGRESS) NAME` for one that never ends.
fn read(text: &str, log: PathBuf) -> Outcome {
    let mut stuck = None;
    let mut passed = BTreeSet::new();
    let mut failed = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(rest) = line.strip_prefix("[ok]: ") {
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            passed.insert(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("[err]: ") {
            let name = rest.rsplit_once(" in ").map_or(rest, |(name, _)| name);
            let said: Vec<&str> = lines[at + 1..].iter().take(3).copied().collect();
            failed.insert(name.to_owned(), said.join("\n  "));
        } else if let Some((_, name)) = line.split_once(" => (IN PROGRESS) ") {
            stuck = Some(name.to_owned());
        }
    }
    // A name that is used twice has passed only if both have.
    passed.retain(|name| !failed.contains_key(name));
    Outcome {
        passed,
        failed,
        stuck,
        log,
    }
}

/// ECMA-48's SGR sequences, which the harness writes to files too.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = behind.split_once('m').map_or(behind, |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .context("starting cp")?;
    ensure!(status.success(), "copying {} failed", from.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_is_read() {
        let text = without_colours(
            "\u{1b}[0;32;49m[ok]\u{1b}[0m: one (with brackets) (3 ms)\n[\u{1b}[0;31mok\u{1b}[0m]: two (0 ms)\n\
             [err]: three in tests/unit/a.tcl\nExpected x\n[ok]: four (1 ms)\n[err]: four in tests/unit/a.tcl\n\
             sock1 => (IN PROGRESS) five\n",
        );
        let outcome = read(&text, PathBuf::new());
        let (passed, failed) = (outcome.passed, outcome.failed);
        assert_eq!(outcome.stuck.as_deref(), Some("five"));
        let passed: Vec<_> = passed.iter().map(String::as_str).collect();
        assert_eq!(passed, ["one (with brackets)", "two"]);
        assert!(failed["three"].starts_with("Expected x"));
        assert!(failed.contains_key("four"));
    }
}
