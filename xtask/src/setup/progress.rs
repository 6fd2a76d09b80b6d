//! Showing what setup does: a spinner on a terminal, one line per step elsewhere, both on stderr.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flect_tests::tools;
use indicatif::{ProgressBar, ProgressStyle};

/// One thing being installed. Everything its commands print is kept in a log.
pub struct Step {
    name: &'static str,
    bar: ProgressBar,
    log: PathBuf,
    start: Instant,
}

impl Step {
    /// Shows that `name` is being installed.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn start(name: &'static str) -> Result<Self> {
        let folder = tools::tools().join("logs");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let log = folder.join(format!("{name}.log"));
        File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template(
            "{spinner:.cyan} {prefix:.bold} {wide_msg:.dim} {elapsed}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(100));
        if !std::io::stderr().is_terminal() {
            eprintln!("setup: installing {name}");
        }
        Ok(Self {
            name,
            bar,
            log,
            start: Instant::now(),
        })
    }

    /// Says what is being done right now.
    pub fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Runs a command, shows its last line of stderr and returns its stdout.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message has the command and the end of its output.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        let shown = shown(command);
        let log = File::options().append(true).open(&self.log)?;
        writeln!(&log, "$ {shown}")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {shown}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut output = String::new();
        let last = Mutex::new(Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let lines = stderr.map(BufReader::new).into_iter();
                for line in lines.flat_map(BufRead::lines).map_while(Result::ok) {
                    // The log is a help only; without it the step still works.
                    let _ = writeln!(&log, "{line}");
                    self.bar.set_message(line.trim().to_owned());
                    if let Ok(mut last) = last.lock() {
                        last.push(line);
                    }
                }
            });
            stdout
                .map(|mut out| out.read_to_string(&mut output))
                .transpose()
        })
        .with_context(|| format!("reading the output of {shown}"))?;
        writeln!(&log, "{output}")?;
        let status = child.wait()?;
        if !status.success() {
            const LINES_MAX: usize = 15;
            let last = last.into_inner().unwrap_or_default();
            let end = last[last.len().saturating_sub(LINES_MAX)..].join("\n");
            bail!(
                "{shown}\nfailed with {status}:\n{end}\n(everything it printed: {})",
                self.log.display()
            );
        }
        Ok(output)
    }

    /// The step is complete.
    pub fn done(&self, what: &str) {
        self.bar.finish_and_clear();
        let seconds = self.start.elapsed().as_secs_f32();
        eprintln!("setup: {} is ready: {what} ({seconds:.1} s)", self.name);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| {
        let arg = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+@,".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.into_owned()
        } else {
            format!("'{arg}'")
        }
    }));
    words.join(" ")
}
