//! The agent's process, and waiting for it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::tools::Programs;

/// How long an agent may take until it is ready: a fraction of a second on a real machine, the
/// verifier alone takes seconds in an emulated one.
pub const READY_SECONDS_MAX: u64 = 90;
/// How long an agent may take to end after SIGTERM.
const STOP_SECONDS_MAX: u64 = 15;
/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(20);

/// How long a child may take from fork to exec.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// A running flect-agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts the agent; its log is appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(programs: &Programs, config: &Path, log: &Path) -> Result<Self> {
        Self::spawn_as(programs, "run", config, log)
    }

    /// The same with another of its commands.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_as(programs: &Programs, command: &str, config: &Path, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut start = Command::new(&programs.agent);
        start
            .arg(command)
            .arg("--config")
            .arg(config)
            .envs(programs.weaknesses.iter().map(|it| ("FLECT_WEAKENED", it)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal is for the command under test.
            .process_group(0);
        let begun = Instant::now();
        let child = loop {
            match start.spawn() {
                // A script that was written just now is open for writing in a child that another trial has forked,
                // until that child executes its own program.
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && begun.elapsed() < WRITTEN_WITHIN =>
                {
                    thread::sleep(POLL);
                }
                started => break started,
            }
        };
        let child = child.with_context(|| format!("starting {}", programs.agent.display()))?;
        Ok(Self { child })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the agent")?;
        self.child.wait().context("waiting for the agent")?;
        Ok(())
    }

    /// SIGTERM, and SIGKILL for one that does not listen.
    ///
    /// # Errors
    /// When it did not end by itself, or not with status 0.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the agent has no process id")?;
        kill_process(pid, Signal::TERM).context("stopping the agent")?;
        let waited = wait_until(Duration::from_secs(STOP_SECONDS_MAX), || {
            Ok(self.child.try_wait()?.is_some())
        });
        if let Err(error) = waited {
            self.kill()?;
            return Err(error.context("the agent did not end on SIGTERM"));
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

/// What `flect status --json` says.
///
/// # Errors
/// When the agent does not answer with JSON.
pub fn status(programs: &Programs, socket: &Path) -> Result<serde_json::Value> {
    let output = Command::new(&programs.flect)
        .args(["status", "--json", "--socket"])
        .arg(socket)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", programs.flect.display()))?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("flect status: {}", said.trim())
    })
}

/// Looks again and again until `ready` says yes.
///
/// # Errors
/// When `ready` fails, or the time is over.
pub fn wait_until(time_max: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !ready()? {
        if start.elapsed() > time_max {
            bail!("not ready after {} seconds", time_max.as_secs());
        }
        thread::sleep(POLL);
    }
    Ok(())
}
