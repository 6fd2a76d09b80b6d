//! cgroup v2: where it is mounted, and what an id or a path means.
//!
//! Invariant: a [`CgroupId`] is the kernel's own id, which BPF programs report and which is never
//! used twice while the machine runs; a path is always the one below the cgroup v2 mount, `/` first,
//! so the same text means the same cgroup on pure and on hybrid (v1 beside v2) machines.

mod handle;
mod mountinfo;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A cgroup as the kernel names it: the inode number of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cgroup id {}", self.0)
    }
}

/// What can be wrong with cgroups; each names what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The machine mounts only cgroup v1, or none.
    #[error(
        "no cgroup v2 hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NotMounted,
    /// The text is not a path below the mount.
    #[error(
        "'{0}' is no cgroup path: it must start with '/', relative to the cgroup v2 mount, without '..'"
    )]
    InvalidPath(String),
    /// The process stands in no cgroup that this mount shows.
    #[error("/proc/self/cgroup names no cgroup v2 (a line starting with '0::')")]
    NoOwnCgroup,
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The cgroup v2 mount of this machine.
#[derive(Debug)]
pub struct CgroupMount {
    path: PathBuf,
    /// The mount's root, kept open: `open_by_handle_at` asks for it on every lookup.
    root: OwnedFd,
}

impl CgroupMount {
    /// Finds the mount in `/proc/self/mountinfo`: `/sys/fs/cgroup` or, on hybrid machines, usually
    /// `/sys/fs/cgroup/unified`.
    ///
    /// # Errors
    /// When there is no cgroup v2 mount, or it cannot be opened.
    pub fn find() -> Result<Self, CgroupError> {
        let table = Path::new("/proc/self/mountinfo");
        let text = std::fs::read(table).map_err(io_error("read", table))?;
        let path = mountinfo::cgroup2(&text).ok_or(CgroupError::NotMounted)?;
        let root = rustix::fs::open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| io_error("open", &path)(errno.into()))?;
        Ok(Self { path, root })
    }

    /// The same mount, for another owner.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self, CgroupError> {
        Ok(Self {
            path: self.path.clone(),
            root: self
                .root
                .try_clone()
                .map_err(io_error("open once more", &self.path))?,
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a cgroup.
    ///
    /// # Errors
    /// When the text is not a path below the mount.
    pub fn directory(&self, below_mount: &str) -> Result<PathBuf, CgroupError> {
        let relative = below_mount
            .strip_prefix('/')
            .filter(|rest| {
                Path::new(rest)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)))
            })
            .ok_or_else(|| CgroupError::InvalidPath(below_mount.to_owned()))?;
        Ok(self.path.join(relative))
    }

    /// The path below the mount of a cgroup's directory, as [`CgroupMount::directory`] gives it.
    #[must_use]
    pub fn below(&self, directory: &Path) -> Option<String> {
        let relative = directory.strip_prefix(&self.path).ok()?;
        Some(format!("/{}", relative.to_string_lossy()))
    }

    /// The id of a cgroup, by its path below the mount.
    ///
    /// # Errors
    /// When there is no such cgroup.
    pub fn id_of(&self, below_mount: &str) -> Result<CgroupId, CgroupError> {
        let directory = self.directory(below_mount)?;
        let metadata =
            std::fs::metadata(&directory).map_err(io_error("look up the cgroup", &directory))?;
        Ok(CgroupId(metadata.ino()))
    }

    /// The path below the mount of a cgroup, by its id; `None` when the cgroup is gone.
    ///
    /// # Errors
    /// When the kernel refuses handles: it asks for `CAP_DAC_READ_SEARCH`.
    pub fn path_of(&self, id: CgroupId) -> Result<Option<String>, CgroupError> {
        let Some(absolute) = handle::path(&self.root, id)
            .map_err(io_error("resolve a cgroup id below", &self.path))?
        else {
            return Ok(None);
        };
        // A cgroup outside what this mount shows has no path here, so it has none at all for us.
        let Ok(relative) = absolute.strip_prefix(&self.path) else {
            return Ok(None);
        };
        Ok(Some(format!("/{}", relative.to_string_lossy())))
    }

    /// Creates a cgroup and its missing ancestors; one that exists already is fine.
    ///
    /// # Errors
    /// When the path is invalid or the kernel refuses.
    pub fn create(&self, below_mount: &str) -> Result<CgroupId, CgroupError> {
        let directory = self.directory(below_mount)?;
        std::fs::create_dir_all(&directory).map_err(io_error("create the cgroup", &directory))?;
        self.id_of(below_mount)
    }

    /// Moves the current process, all its threads, into a cgroup.
    ///
    /// # Errors
    /// When the cgroup does not exist or the kernel refuses.
    pub fn join(&self, below_mount: &str) -> Result<(), CgroupError> {
        let procs = self.directory(below_mount)?.join("cgroup.procs");
        std::fs::write(&procs, "0").map_err(io_error("join the cgroup by writing", &procs))
    }

    /// Removes an empty cgroup; one that is gone already is fine.
    ///
    /// # Errors
    /// When it still holds processes or children.
    pub fn remove(&self, below_mount: &str) -> Result<(), CgroupError> {
        let directory = self.directory(below_mount)?;
        match std::fs::remove_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove the cgroup", &directory)(error))
            }
            _ => Ok(()),
        }
    }

    /// The current process's cgroup, as a path below the mount.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub fn current(&self) -> Result<String, CgroupError> {
        let table = Path::new("/proc/self/cgroup");
        let text = std::fs::read(table).map_err(io_error("read", table))?;
        text.split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(b"0::"))
            .map(|path| OsStr::from_bytes(path).to_string_lossy().into_owned())
            .ok_or(CgroupError::NoOwnCgroup)
    }
}

/// The cgroup of a process now, as a path below the cgroup v2 mount.
///
/// # Errors
/// When the process is gone or not in a cgroup that this one sees.
pub fn of_process(process: u32) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    // The kernel's mark on a cgroup that was removed with a dying process in it; and what lies
    // outside of this process's cgroup namespace begins with `/..`.
    let path = path.filter(|path| !path.ends_with(" (deleted)") && !path.starts_with("/.."));
    path.map(str::to_owned)
        .ok_or_else(|| io::Error::other("its cgroup cannot be told"))
}

/// Whether a path below the mount is the ancestor or lies below it.
#[must_use]
pub fn is_within(below_mount: &str, ancestor: &str) -> bool {
    Path::new(below_mount).starts_with(ancestor)
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CgroupError + use<'a> {
    move |source| CgroupError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_mount_stay_below_it() {
        let Ok(mount) = CgroupMount::find() else {
            return; // A machine without cgroup v2 has nothing to escape from.
        };
        for good in ["/", "/a", "/a/b.slice"] {
            assert!(mount.directory(good).unwrap().starts_with(mount.path()));
        }
        for bad in ["", "a", "/../etc", "/a/../..", "//a"] {
            assert!(mount.directory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ancestors_are_compared_by_component() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a"));
        assert!(is_within("/a", "/"));
        assert!(!is_within("/ab", "/a"));
        assert!(!is_within("/", "/a"));
    }

    #[test]
    fn an_id_leads_back_to_its_path() {
        let Ok(mount) = CgroupMount::find() else {
            return; // As above.
        };
        let id = mount.id_of("/").unwrap();
        match mount.path_of(id) {
            Ok(path) => assert_eq!(path.as_deref(), Some("/")),
            // Without root the kernel refuses handles; the kernel tests cover it as root.
            Err(CgroupError::Io { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
            }
            Err(other) => panic!("{other}"),
        }
    }
}
