//! Running the engine, one process for each target, and reading what it says.
//!
//! Invariant: an engine that ends in any way but its own is a finding, also when it says nothing.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flect_tests::bed::place;
use signal_hook::consts::SIGTERM;

use super::folder;

/// What a target may hold: the largest thing that one may make of an input are 16 MiB of libraries, a few
/// times over; the engine and its corpus take 100 MiB.
const MEMORY_MIB_MAX: u64 = 1024;

/// No input of this length takes a millisecond; on a machine with eight busy neighbours it is a hundredth of
/// this.
const INPUT_SECONDS_MAX: u64 = 20;

/// Inputs longer than the longest word (4 KiB) with its neighbours show nothing new, and cost time.
const INPUT_BYTES_MAX: u64 = 8192;

/// How long an input that fails is made shorter.
const SHORTEN_SECONDS: u64 = 15;

/// The engine's program.
pub struct Engine(PathBuf);

/// What came of a target.
pub struct Outcome {
    name: String,
    executions: u64,
    edges: u64,
    features: u64,
    per_second: u64,
    inputs: u64,
    /// The shortest input that fails, and what was said about it.
    pub finding: Option<(PathBuf, String)>,
}

impl Engine {
    /// The program that was built.
    ///
    /// # Errors
    /// When the folder for what it finds cannot be made.
    pub fn new(program: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder().join("findings"))?;
        Ok(Self(program))
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.0);
        command
            .env("FLECT_FUZZ_TARGET", target)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        place::end_with_parent(&mut command, SIGTERM);
        command
    }

    /// The names of the targets and what each is.
    ///
    /// # Errors
    /// When it does not run.
    pub fn targets(&self) -> Result<Vec<(String, String)>> {
        let text = self.done("", "list")?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, about)| (name.to_owned(), about.to_owned()))
            .collect())
    }

    fn done(&self, target: &str, what: &str) -> Result<String> {
        let output = self
            .command(target)
            .env("FLECT_FUZZ_DO", what)
            .stderr(Stdio::inherit())
            .output()
            .context("starting the engine")?;
        if !output.status.success() {
            bail!("the engine did not {what}");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn corpus(&self, target: &str) -> Result<PathBuf> {
        let corpus = folder().join("corpus").join(target);
        self.done(target, &format!("unpack {}", corpus.display()))?;
        Ok(corpus)
    }

    /// Feeds a target for so long.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn fuzz(&self, target: &str, time: Duration, seed: u32) -> Result<Outcome> {
        let corpus = self.corpus(target)?;
        let log = folder().join(format!("{target}.log"));
        let findings = folder().join("findings").join(format!("{target}-"));
        let status = self
            .command(target)
            .arg(corpus)
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg(format!("-seed={seed}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-artifact_prefix={}", findings.display()))
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .status()
            .context("starting the engine")?;
        // It prints inputs as they are.
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut outcome = Outcome::read(target, &text);
        if !status.success() {
            let input = text.lines().find_map(|line| {
                line.split_once("Test unit written to ")?
                    .1
                    .split(' ')
                    .next()
            });
            let said: Vec<&str> = text
                .lines()
                .skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR:"))
                .take(6)
                .collect();
            let input = match input {
                Some(input) => self.shorten(target, Path::new(input))?,
                None => log,
            };
            outcome.finding = Some((input, format!("{status}: {}", said.join("\n  "))));
        }
        Ok(outcome)
    }

    /// The same failure from fewer bytes, or the input itself.
    fn shorten(&self, target: &str, input: &Path) -> Result<PathBuf> {
        let short = input.with_extension("short");
        self.command(target)
            .arg(input)
            .arg("-minimize_crash=1")
            .arg(format!("-max_total_time={SHORTEN_SECONDS}"))
            .arg(format!("-exact_artifact_path={}", short.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("starting the engine")?;
        Ok(if short.is_file() {
            short
        } else {
            input.to_owned()
        })
    }

    /// Runs one input and shows what is said.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replay(&self, target: &str, input: &Path) -> Result<ExitCode> {
        let status = self
            .command(target)
            .env("RUST_BACKTRACE", "1")
            .arg(input)
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .status()
            .context("starting the engine")?;
        Ok(ExitCode::from(u8::from(!status.success())))
    }

    /// Makes the committed corpus anew; answers how many inputs it has.
    ///
    /// # Errors
    /// When it cannot be started, or an input of the corpus fails.
    pub fn keep(&self, target: &str) -> Result<String> {
        let grown = self.corpus(target)?;
        let merged = folder().join("merged").join(target);
        // There may be none of the last time.
        let _ = fs::remove_dir_all(&merged);
        fs::create_dir_all(&merged)?;
        let status = self
            .command(target)
            .arg("-merge=1")
            .arg(&merged)
            .arg(&grown)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("starting the engine")?;
        if !status.success() {
            bail!("{target}: an input of the corpus fails; fuzz it first");
        }
        let kept = self.done(target, &format!("keep {}", merged.display()))?;
        Ok(kept.trim().to_owned())
    }
}

impl Outcome {
    /// Reads the last line of the engine's that has its counts.
    fn read(name: &str, text: &str) -> Self {
        let line = text.lines().rfind(|line| line.contains(" cov: "));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let after = |what: &str| {
            let at = words.iter().position(|word| *word == what);
            let word = at.and_then(|at| words.get(at + 1)).unwrap_or(&"");
            word.split('/')
                .next()
                .unwrap_or_default()
                .parse()
                .unwrap_or(0)
        };
        let first = words.first().and_then(|word| word.strip_prefix('#'));
        Self {
            name: name.to_owned(),
            executions: first.and_then(|word| word.parse().ok()).unwrap_or(0),
            edges: after("cov:"),
            features: after("ft:"),
            per_second: after("exec/s:"),
            inputs: after("corp:"),
            finding: None,
        }
    }

    /// As `--json` prints it.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "target": self.name,
            "executions": self.executions,
            "edges": self.edges,
            "features": self.features,
            "per_second": self.per_second,
            "inputs": self.inputs,
            "finding": self.finding.as_ref().map(|(input, said)| {
                serde_json::json!({"input": input, "said": said})
            }),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {:>9} executions, {:>6} a second, {:>5} edges, {:>6} features, {:>5} inputs",
            self.name, self.executions, self.per_second, self.edges, self.features, self.inputs
        )?;
        if let Some((input, said)) = &self.finding {
            write!(
                f,
                "\n  FAILED: {said}\n  again: cargo xtask fuzz --target {} --input {}",
                self.name,
                input.display()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_counts_are_read() {
        let text = "INFO: Seed: 1\n#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 38Mb\n\
            #76173\tDONE   cov: 663 ft: 2651 corp: 236/6337b lim: 128 exec/s: 10881 rss: 40Mb\nDone\n";
        let outcome = Outcome::read("requests", text);
        assert_eq!(outcome.executions, 76173);
        assert_eq!((outcome.edges, outcome.features), (663, 2651));
        assert_eq!((outcome.per_second, outcome.inputs), (10881, 236));
        assert_eq!(Outcome::read("requests", "").executions, 0);
    }
}
