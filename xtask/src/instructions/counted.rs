//! Running the cases, under callgrind or by the clock.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flect_tests::tools;

const PROGRAM: &str = "flect-instructions";

/// The function that the program calls at the beginning and at the end of each case.
const MARK: &str = "flect_instructions::mark*";

const WITHOUT_REP_MOVSB: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000";

/// One case's line, and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    pub part: String,
    pub name: String,
    /// `flect`, or whose code sets the limit.
    pub by: String,
    /// How much goes through it; 0 where that says nothing.
    pub bytes: u64,
    /// Instructions of one run, or nanoseconds.
    pub value: f64,
}

impl Count {
    /// What it is called in the baseline.
    pub fn key(&self) -> String {
        format!("{}, {}, {}", self.part, self.name, self.by)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut text = || fields.next().map(str::to_owned);
        Some(Self {
            part: text()?,
            name: text()?,
            by: text()?,
            bytes: text()?.parse().ok()?,
            value: text()?.parse().ok()?,
        })
    }
}

/// How many instructions each case takes.
pub fn count(folder: &Path) -> Result<Vec<Count>> {
    let dumps = tools::target().join("instructions");
    let _ = fs::remove_dir_all(&dumps);
    fs::create_dir_all(&dumps).with_context(|| format!("making {}", dumps.display()))?;
    let out = dumps.join("out");
    let mut command = Command::new(tools::program("valgrind")?);
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--dump-before={MARK}"))
        .arg(folder.join(PROGRAM))
        .arg("counted")
        // One instruction that copies any number of bytes would count once for each, where the processor
        // says that it is fast.
        .env("GLIBC_TUNABLES", WITHOUT_REP_MOVSB);
    let mut counts = lines(&mut command)?;
    for (at, count) in counts.iter_mut().enumerate() {
        // Dumps are numbered from 1: odd ones end where a case begins.
        let path = dumps.join(format!("out.{}", 2 * (at + 1)));
        let dump = fs::read_to_string(&path)
            .with_context(|| format!("callgrind has not written {}", path.display()))?;
        // The line says how often it ran.
        count.value = total(&dump).with_context(|| path.display().to_string())? / count.value;
    }
    fs::remove_dir_all(&dumps)?;
    Ok(counts)
}

/// How many nanoseconds each case takes.
pub fn time(folder: &Path) -> Result<Vec<Count>> {
    lines(&mut Command::new(folder.join(PROGRAM)))
}

fn lines(command: &mut Command) -> Result<Vec<Count>> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{PROGRAM} failed: {}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let parsed = text
        .lines()
        .map(|line| Count::parse(line).with_context(|| format!("{PROGRAM} said {line:?}")));
    let counts = parsed.collect::<Result<Vec<_>>>()?;
    ensure!(!counts.is_empty(), "{PROGRAM} has no cases");
    Ok(counts)
}

/// The sum of a dump, in whose head `events: Ir` says what it is of.
fn total(dump: &str) -> Result<f64> {
    let field = |name: &str| dump.lines().find_map(|line| line.strip_prefix(name));
    if field("events: ") != Some("Ir") {
        bail!("not instructions were counted");
    }
    let total = field("totals: ").or_else(|| field("summary: "));
    total
        .context("a dump without its sum")?
        .trim()
        .parse()
        .context("the dump's sum is no number")
}

/// What decides which instructions a source becomes, and which ones others' libraries choose as they run.
pub fn made_with() -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("--version").current_dir(tools::workspace());
    let mut valgrind = Command::new(tools::program("valgrind")?);
    let mut libc = Command::new("getconf");
    let parts = [
        said(&mut rustc)?,
        said(valgrind.arg("--version"))?,
        said(libc.arg("GNU_LIBC_VERSION"))?,
        processor(),
    ];
    Ok(parts.join(", "))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// callgrind shows programs a processor of its own making, with or without AVX2 as the real one.
fn processor() -> String {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let wide = flags.split_whitespace().any(|flag| flag == "avx2");
    let with = if wide { " with AVX2" } else { "" };
    format!("{}{with}", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_dumps_are_understood() {
        let count = Count::parse("scan\tGET\tflect\t36\t50").unwrap();
        assert_eq!((count.bytes, count.value), (36, 50.0));
        assert_eq!(count.key(), "scan, GET, flect");
        assert_eq!(Count::parse("scan\tGET\tflect\t36"), None);
        let dump = "version: 1\nevents: Ir\nfn=(1) a\n16 4\n\ntotals: 8142\n";
        assert_eq!(total(dump).unwrap(), 8142.0);
        assert!(total("events: Dr\ntotals: 1\n").is_err());
        assert!(total("events: Ir\n").is_err());
    }
}
