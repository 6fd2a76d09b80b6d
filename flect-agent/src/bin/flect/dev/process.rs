//! Child processes that do not outlive `flect dev`.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec is unsafe to std"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::signals::Signals;

/// Between two looks at a process that is ending.
const POLL: Duration = Duration::from_millis(10);

/// A server: ends with its value.
pub struct Process {
    child: Child,
    /// What it is called in messages.
    name: &'static str,
    log: PathBuf,
    ends_within: Duration,
}

/// Lets the kernel end `command` with SIGTERM when `flect dev` is killed, gives it the signals that
/// are blocked here, and keeps `held` open in it. The kernel watches the thread that starts it, so
/// that must be the main one.
pub fn end_with_us(command: &mut Command, signals: &Signals, held: Option<BorrowedFd<'_>>) {
    let own = std::process::id();
    let mask = signals.before();
    let held = held.map(|fd| fd.as_raw_fd());
    // SAFETY: prctl, getppid, fcntl and sigprocmask are async-signal-safe and touch only the calling
    // process; the closure neither allocates nor locks. Should `held` be closed by the time of the
    // start, fcntl says so.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid().unsigned_abs() != own {
                // It was killed before the kernel knew.
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if let Some(fd) = held
                && libc::fcntl(fd, libc::F_SETFD, 0) != 0
            {
                return Err(io::Error::last_os_error());
            }
            match libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

impl Process {
    /// Takes care of a server that was just started.
    pub fn new(child: Child, name: &'static str, log: PathBuf, ends_within: Duration) -> Self {
        Self {
            child,
            name,
            log,
            ends_within,
        }
    }

    /// The error that says so, once it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        /// The reason is in the last lines.
        const LINES_SHOWN: usize = 8;
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n  ");
        anyhow::anyhow!("{} ended ({status}); it said:\n  {last}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        signal(&self.child, Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > self.ends_within {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may be gone, which is what signals are mostly for.
        let _ = kill_process(pid, signal);
    }
}
