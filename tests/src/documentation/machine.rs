//! The machine on which a document is followed: namespaces of its own, started by `machine.sh`.
//!
//! Invariant: it lives in a bed's cgroup, folder and pins, so whatever ends the test removes it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::session::{Outcome, Session};
use crate::bed::cgroups::Groups;
use crate::bed::cleanup::{self, Guard, Inner};
use crate::bed::name::Name;
use crate::bed::place;
use crate::tools::{self, Programs};

/// A document takes seconds; one that waits for something that never comes must not hold the others
/// up for long.
const TIME_MAX: Duration = Duration::from_secs(180);

/// Between two looks at whether the machine is done.
const POLL: Duration = Duration::from_millis(50);

/// What separates the machine from this one.
const UNSHARE: [&str; 9] = [
    "--mount",
    "--net",
    "--pid",
    "--cgroup",
    "--uts",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
];

/// Runs a session on a machine of its own.
///
/// # Errors
/// When the machine cannot be made; what a block does wrong is in the outcome.
pub fn run(session: &Session) -> Result<Outcome> {
    cleanup::sweep();
    let programs = Programs::beside_current()?;
    let programs = programs.flect.parent().context("the programs' folder")?;
    let name = Name::fresh();
    let groups = Groups::new(&name)?;
    let home = crate::bed::cgroups::mount()?.join(name.cgroup());
    let pins = name.pins();
    let inner = Inner::new(name, Some(groups), None, 0)?;
    let folder = inner.folder().to_owned();
    // From here on the guard removes what is made, on errors too.
    let _guard = Guard(Some(Arc::clone(&inner)));
    fs::create_dir(&home).with_context(|| format!("making {}", home.display()))?;
    fs::create_dir(&pins).with_context(|| format!("making {}", pins.display()))?;
    write_scripts(&folder)?;
    session.write(&folder)?;
    let log = folder.join("machine.log");
    let mut command = Command::new("unshare");
    command
        .args(UNSHARE)
        .args(["bash", "--noprofile", "--norc"])
        .arg(folder.join("machine.sh"))
        .arg(&folder)
        .arg(tools::tools())
        .arg(programs)
        .arg(tools::workspace())
        .arg(&pins)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    place::in_cgroup(&mut command, &home)?;
    let mut child = command.spawn().context("starting unshare")?;
    let start = Instant::now();
    let mut late = false;
    while child.try_wait()?.is_none() {
        if start.elapsed() > TIME_MAX {
            late = true;
            child.kill().context("stopping the machine")?;
            child.wait()?;
        }
        thread::sleep(POLL);
    }
    let mut outcome = read(&folder, session);
    if late {
        outcome.finished = false;
        outcome.log = format!("stopped after {} seconds", TIME_MAX.as_secs());
    }
    Ok(outcome)
}

fn write_scripts(folder: &Path) -> Result<()> {
    for (name, text) in [
        ("machine.sh", include_str!("machine.sh")),
        ("systemctl", include_str!("systemctl.sh")),
        ("journalctl", include_str!("journalctl.sh")),
    ] {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn read(folder: &Path, session: &Session) -> Outcome {
    let text = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let at = text("at").trim().parse();
    Outcome {
        finished: folder.join("finished").exists(),
        at: at.unwrap_or(usize::MAX),
        printed: (0..session.len())
            .map(|number| text(&format!("{number}.out")))
            .collect(),
        log: text("machine.log"),
    }
}
