//! One thread of an agent that stands still, while all others go on.

#![expect(unsafe_code, reason = "ptrace(2) has no safe wrapper")]

use std::fs;
use std::io;
use std::ptr::null_mut;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bed::Bed;

/// How long the kernel may take to stop a thread.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// A thread that is held; dropped, it goes on. To be dropped by the thread that made it, as ptrace has it.
#[derive(Debug)]
pub struct Held(libc::pid_t);

impl Held {
    /// Holds the thread of this name.
    ///
    /// # Errors
    /// When there is none, or the kernel refuses.
    pub fn thread(bed: &Bed, name: &str) -> Result<Self> {
        let tasks = format!("/proc/{}/task", bed.agent_pid()?);
        let mut found = None;
        for task in fs::read_dir(&tasks)? {
            let task = task?;
            if fs::read_to_string(task.path().join("comm"))?.trim() == name {
                found = task.file_name().to_str().map(str::to_owned);
            }
        }
        let thread = found.with_context(|| format!("the agent has no thread {name}"))?;
        let held = Self(thread.parse()?);
        trace(libc::PTRACE_SEIZE, held.0).context("seizing a thread of the agent")?;
        trace(libc::PTRACE_INTERRUPT, held.0)?;
        let begun = Instant::now();
        loop {
            let status = fs::read_to_string(format!("{tasks}/{thread}/status"))?;
            if status.lines().any(|line| line.starts_with("State:\tt")) {
                return Ok(held);
            }
            ensure!(begun.elapsed() < STOPPED_WITHIN, "the thread does not stop");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the status is not asked for.
        unsafe { libc::waitpid(self.0, null_mut(), libc::__WALL | libc::WNOHANG) };
        // An agent that has ended holds nothing.
        let _ = trace(libc::PTRACE_DETACH, self.0);
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    // SAFETY: none of the requests above takes memory of ours.
    let result = unsafe { libc::ptrace(request, thread, null_mut::<u8>(), null_mut::<u8>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
