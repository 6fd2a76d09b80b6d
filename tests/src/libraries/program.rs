//! Running a program on both sides at the same time and comparing what it prints.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// The longest program takes 10 s on an idle machine; eight busy neighbours make that four times as
/// long.
const TIME_MAX: Duration = Duration::from_secs(90);
/// What a failed trial shows of each side: enough for the lines around the failure.
const SHOWN_BYTES_MAX: usize = 4000;

/// A program that runs, with all it started.
struct Running {
    child: Child,
    folder: TempDir,
    started: Instant,
}

/// Runs a program on both sides; its standard output must be the same and say `end` in the end.
///
/// # Errors
/// When one of them fails or takes too long, or what they print differs.
pub fn alike(private: Command, store: Command) -> Result<()> {
    let private = Running::start(private)?;
    let store = Running::start(store)?;
    // Valkey's own side first: where it fails, the program is wrong and not the agent.
    let private = private.printed().context("against a private Valkey")?;
    let store = store.printed().context("against a store")?;
    for (private, store) in private.lines().zip(store.lines()) {
        ensure!(private == store, "{store}\ninstead of\n{private}");
    }
    ensure!(
        private == store,
        "one of them said more:\n{private}\n---\n{store}"
    );
    let ended = store.lines().next_back() == Some("end");
    ensure!(ended, "the program did not end:\n{store}");
    Ok(())
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for a program")?;
        let child = command
            // What frameworks write beside themselves goes away with the folder.
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("stdout"))?)
            .stderr(File::create(folder.path().join("stderr"))?)
            // Workers that a framework forks end with it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self {
            child,
            folder,
            started: Instant::now(),
        })
    }

    fn printed(mut self) -> Result<String> {
        let status = self.wait()?;
        let stdout = self.read("stdout")?;
        let Some(status) = status else {
            bail!("still ran after {TIME_MAX:?}:\n{}", self.shown()?);
        };
        ensure!(status.success(), "{status}:\n{}", self.shown()?);
        Ok(stdout)
    }

    /// How it ended; `None` after too long.
    fn wait(&mut self) -> Result<Option<ExitStatus>> {
        while self.started.elapsed() < TIME_MAX {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    fn shown(&self) -> Result<String> {
        let mut all = String::new();
        for name in ["stdout", "stderr"] {
            let text = self.read(name)?;
            let from = text.len().saturating_sub(SHOWN_BYTES_MAX);
            let from = text.ceil_char_boundary(from);
            all += &format!("--- {name}\n{}\n", &text[from..]);
        }
        Ok(all)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path: PathBuf = self.folder.path().join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The program itself has usually ended, and so have its children.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
