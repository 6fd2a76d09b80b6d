//! The cgroups of `flect run`: `<managed root>/flect.run/<app>/<number>`, one for each command.
//!
//! Invariant: everything below `flect.run` belongs to the app that its path names; a process is only
//! put into a cgroup that was made for it, and an empty one is removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flect_agent::cgroup::CgroupMount;

use crate::control::Peer;
use crate::serving::Places;

/// Commands that may run at once through `flect run`: far more than a developer has, few enough that
/// nobody fills the kernel's table of cgroups (2^31 in all, each some kilobytes of memory).
const GROUPS_MAX: usize = 4096;

/// Makes and removes these cgroups.
pub struct RunGroups {
    mount: CgroupMount,
    places: Places,
    /// The last number given. Making and removing are one at a time.
    last: Mutex<u64>,
}

/// Why a process was not moved.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Too many commands run.
    #[error("{GROUPS_MAX} commands run in apps already; end some first")]
    Full,
    /// The kernel refuses.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// It is a set-user-ID program.
    #[error("the process runs as another user than the one who asked")]
    OtherUser,
    /// The process ended meanwhile.
    #[error("the process that asked for it is gone")]
    Gone,
}

impl RunGroups {
    pub fn new(mount: CgroupMount, places: Places) -> Self {
        Self {
            mount,
            places,
            last: Mutex::new(0),
        }
    }

    /// Moves the peer, all its threads, into a fresh cgroup of the app.
    pub fn enter(&self, peer: &Peer, app: &str) -> Result<(), EnterError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.groups().len() >= GROUPS_MAX {
            return Err(EnterError::Full);
        }
        let before = peer.cgroup().map_err(|_| EnterError::Gone)?;
        let (path, folder) = self.make(app, &mut last)?;
        let moved = self.put(peer, &path, &folder);
        if moved.is_err() {
            // Empty unless the move came through; then the sweep removes it in its time.
            let _ = std::fs::remove_dir(&folder);
        } else if self.places.run_app(&before).is_some()
            && let Ok(folder) = self.mount.directory(&before)
        {
            remove_if_empty(&folder);
        }
        moved
    }

    /// Removes what nobody lives in any more.
    pub fn sweep(&self) {
        let _one_at_a_time = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in self.groups() {
            remove_if_empty(&folder);
            if let Some(app) = folder.parent() {
                // Fails, as it should, while it has others.
                let _ = std::fs::remove_dir(app);
            }
        }
    }

    fn make(&self, app: &str, last: &mut u64) -> Result<(String, PathBuf), EnterError> {
        let app = format!("{}/{app}", self.places.run);
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |cause| EnterError::Io {
                action,
                path,
                cause,
            }
        };
        self.mount.create(&app).map_err(|error| {
            io("make the cgroup", Path::new(&app))(io::Error::other(error.to_string()))
        })?;
        loop {
            *last += 1;
            let path = format!("{app}/{last}");
            let folder = self.mount.path().join(path.trim_start_matches('/'));
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok((path, folder)),
                // Made by an agent before this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io("make the cgroup", &folder)(error)),
            }
        }
    }

    /// Between the look at the process and the write its id could pass to another process only if it
    /// ended and was waited for: its descriptor tells afterwards.
    fn put(&self, peer: &Peer, path: &str, folder: &Path) -> Result<(), EnterError> {
        let procs = folder.join("cgroup.procs");
        if !peer.is_there() {
            return Err(EnterError::Gone);
        }
        if !peer.is_still_its_user() {
            return Err(EnterError::OtherUser);
        }
        if let Err(cause) = std::fs::write(&procs, peer.pid.to_string()) {
            return Err(EnterError::Io {
                action: "move the process by writing",
                path: procs,
                cause,
            });
        }
        match peer.cgroup() {
            Ok(now) if now == path => Ok(()),
            _ => Err(EnterError::Gone),
        }
    }

    /// All run cgroups.
    fn groups(&self) -> Vec<PathBuf> {
        let Ok(run) = self.mount.directory(&self.places.run) else {
            return Vec::new();
        };
        folders(&run)
            .into_iter()
            .flat_map(|app| folders(&app))
            .collect()
    }
}

/// Removes a cgroup with nobody in it or below it, and what is left below it.
fn remove_if_empty(folder: &Path) {
    let events = std::fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default();
    if events.lines().any(|line| line == "populated 0") {
        remove_tree(folder);
    }
}

/// From the leaves up. The kernel refuses where somebody came in meanwhile.
fn remove_tree(folder: &Path) {
    for below in folders(folder) {
        remove_tree(&below);
    }
    // The next sweep tries again.
    let _ = std::fs::remove_dir(folder);
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
