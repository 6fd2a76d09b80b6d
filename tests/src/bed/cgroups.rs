//! The cgroups of a bed.
//!
//! Invariant: only cgroups that bear the bed's own name are made, emptied or removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result, bail};

use super::name::Name;
use super::{APP1, UNCLAIMED};

/// How long killed processes may take to leave their cgroup. The kernel needs milliseconds, an
/// emulated and busy one seconds.
const EMPTY_SECONDS_MAX: u64 = 20;

/// The cgroups of one bed.
#[derive(Clone, Debug)]
pub struct Groups {
    managed: PathBuf,
    valkey: PathBuf,
}

impl Groups {
    /// The paths; nothing is made yet.
    ///
    /// # Errors
    /// When there is no cgroup v2 mount.
    pub fn new(name: &Name) -> Result<Self> {
        let mount = mount()?;
        Ok(Self {
            managed: mount.join(name.cgroup()),
            valkey: mount.join(name.valkey_cgroup()),
        })
    }

    /// Makes the cgroups of Valkey and of the apps.
    ///
    /// # Errors
    /// When a folder cannot be made, usually for lack of root.
    pub fn make(&self, apps: &[String]) -> Result<()> {
        let all = [APP1, UNCLAIMED].into_iter();
        for app in all.chain(apps.iter().map(String::as_str)) {
            make(&self.apps().join(app))?;
        }
        make(&self.valkey)
    }

    /// The folder that holds one cgroup per app.
    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.managed.join("apps")
    }

    /// The cgroup of Valkey.
    #[must_use]
    pub fn valkey(&self) -> &Path {
        &self.valkey
    }

    /// Kills what is left in the cgroups and removes them.
    ///
    /// # Errors
    /// When a process does not go or a folder stays.
    pub fn remove(&self) -> Result<()> {
        let managed = remove(&self.managed);
        let valkey = remove(&self.valkey);
        managed.and(valkey)
    }
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside v1.
///
/// # Errors
/// When it is not mounted.
pub fn mount() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    parse_mountinfo(&text).context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

fn parse_mountinfo(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        // proc_pid_mountinfo(5): the file system's type follows a lone hyphen.
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next() == Some("cgroup2"))
            .then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making the cgroup {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(EMPTY_SECONDS_MAX);
    loop {
        // Linux 5.14 and later; it kills the whole subtree at once, forks included.
        if let Err(error) = fs::write(path.join("cgroup.kill"), "1") {
            bail!("killing what is left in {}: {error}", path.display());
        }
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error)
                    .with_context(|| format!("removing the cgroup {}", path.display()));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// rmdir from the bottom up: the files in a cgroup go with it.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_beside_v1() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let expect = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(parse_mountinfo(text).as_deref(), Some(expect));
        assert_eq!(parse_mountinfo("1 2 3:4 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
