//! Starting a command inside a cgroup.
#![expect(
    unsafe_code,
    reason = "a process enters a cgroup between fork and exec, which std calls unsafe"
)]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Lets `command` enter a cgroup before it becomes the program, so that the program's first system
/// call is already made inside.
///
/// # Errors
/// When the cgroup cannot be opened.
pub fn in_cgroup(command: &mut Command, cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    let procs = File::options()
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    // SAFETY: the closure makes one write(2) to an open descriptor, which is async-signal-safe;
    // it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || (&procs).write_all(b"0"));
    }
    Ok(())
}

/// Lets the kernel send `signal` to `command` when the thread that starts it ends, for a process
/// that no cgroup holds.
pub fn end_with_parent(command: &mut Command, signal: i32) {
    // SAFETY: prctl is async-signal-safe and this option touches only the calling process.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, signal) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
