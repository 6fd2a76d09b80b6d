//! Where the hooks are kept while no agent runs: a folder on a bpffs, one sub-folder per schema.
//!
//! Invariant: what is pinned works by itself. Links hold their programs and programs their maps, so
//! intercepted connects go to the agent's port, and are refused there, for as long as the pins exist.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flect_ebpf::SCHEMA;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{DetachReport, InterceptionError, kernel};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Where the world expects the bpffs.
const BPF_FS: &str = "/sys/fs/bpf";

/// How long another process may attach or detach: longer than the self-test takes on a busy machine.
const LOCKED_FOR_MAX: Duration = Duration::from_secs(60);

/// Between two tries at its lock.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How pins of links and maps begin; in this order they are removed.
const LINK: &str = "link_";
const MAP: &str = "map_";

/// The pin folder, locked against other agents that attach or detach.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    schema: String,
    /// Folders of other schemas, whose hooks are in place.
    others: Vec<PathBuf>,
    _lock: File,
}

impl Pins {
    /// Opens the pin folder; mounts the bpffs and makes folders where they are missing.
    pub(super) fn open(root: &Path) -> Result<Self, InterceptionError> {
        mount_if_missing(root)?;
        fs::create_dir_all(root)
            .map_err(step(format!("create the pin folder {}", root.display())))?;
        if !is_bpffs(root) {
            return Err(InterceptionError::Settings(format!(
                "pin folder {} is not on a bpffs: choose one below {BPF_FS}",
                root.display()
            )));
        }
        let lock = lock(root)?;
        let schema = format!("v{SCHEMA}");
        let pins = Self {
            root: root.to_owned(),
            others: other_schemas(root, &schema)?,
            schema,
            _lock: lock,
        };
        let folder = pins.folder();
        fs::create_dir_all(&folder)
            .map_err(step(format!("create the pin folder {}", folder.display())))?;
        Ok(pins)
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.schema)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{MAP}{name}"))
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{LINK}{name}"))
    }

    /// Whether any hook is in place, of this schema or another.
    pub(super) fn hold_links(&self) -> bool {
        let holds = |folder: &Path| {
            fs::read_dir(folder).is_ok_and(|entries| {
                entries
                    .flatten()
                    .any(|entry| entry.file_name().to_string_lossy().starts_with(LINK))
            })
        };
        holds(&self.folder()) || self.others.iter().any(|folder| holds(folder))
    }

    /// Removes hooks of other schemas, once those of this one are in place. For the moment in which there are
    /// both, the later ones see what the earlier ones have redirected as a connect to the agent's own port, and
    /// refuse it: nothing goes past.
    pub(super) fn retire_others(&self) -> Result<(), InterceptionError> {
        for folder in &self.others {
            tracing::info!(
                schema = %relative(folder, &self.root),
                "hooks of another release are exchanged"
            );
            remove_folder(folder, &self.root, &mut DetachReport::default())?;
        }
        Ok(())
    }

    /// Removes everything, links first: without them nothing else is used.
    pub(super) fn remove_all(self) -> Result<DetachReport, InterceptionError> {
        remove(&self.root)
    }
}

/// Where a map of this release's schema is pinned below a folder.
pub(super) fn map_of_schema(root: &Path, name: &str) -> PathBuf {
    root.join(format!("v{SCHEMA}")).join(format!("{MAP}{name}"))
}

/// Removes whatever is pinned below a folder, of any schema.
pub(super) fn detach(root: &Path) -> Result<DetachReport, InterceptionError> {
    if !root.exists() {
        return Ok(DetachReport::default());
    }
    if !is_bpffs(root) {
        return Err(InterceptionError::Settings(format!(
            "{} is not on a bpffs, so no hooks are pinned there",
            root.display()
        )));
    }
    let _lock = lock(root)?;
    remove(root)
}

/// Pinned sub-folders that are other schemas'.
fn other_schemas(root: &Path, own: &str) -> Result<Vec<PathBuf>, InterceptionError> {
    let mut others = Vec::new();
    for path in list(root)? {
        let name = relative(&path, root);
        if name == own {
            continue;
        }
        let number = name.strip_prefix('v').map(str::parse::<u32>);
        if !matches!(number, Some(Ok(_))) || !path.is_dir() {
            return Err(InterceptionError::OtherSchema {
                pin: root.to_owned(),
                found: name,
                ours: own.to_owned(),
            });
        }
        others.push(path);
    }
    Ok(others)
}

/// What is in a folder, links before maps.
fn list(folder: &Path) -> Result<Vec<PathBuf>, InterceptionError> {
    let reading = || step(format!("read the pin folder {}", folder.display()));
    let mut paths = fs::read_dir(folder)
        .map_err(reading())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(reading())?;
    paths.sort();
    Ok(paths)
}

fn remove(root: &Path) -> Result<DetachReport, InterceptionError> {
    let mut report = DetachReport::default();
    for schema in list(root)? {
        if schema.is_dir() {
            remove_folder(&schema, root, &mut report)?;
        } else {
            fs::remove_file(&schema).map_err(step(format!("unpin {}", schema.display())))?;
            report.removed.push(relative(&schema, root));
        }
    }
    fs::remove_dir(root).map_err(step(format!("remove {}", root.display())))?;
    Ok(report)
}

/// Removes a schema's hooks, then its maps.
fn remove_folder(
    schema: &Path,
    root: &Path,
    report: &mut DetachReport,
) -> Result<(), InterceptionError> {
    for pin in list(schema)? {
        if pin
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(LINK))
        {
            kernel::pinned(&pin)
                .and_then(|link| kernel::link_detach(link.as_fd()))
                .map_err(step(format!("detach {}", pin.display())))?;
        }
        fs::remove_file(&pin).map_err(step(format!("unpin {}", pin.display())))?;
        report.removed.push(relative(&pin, root));
    }
    fs::remove_dir(schema).map_err(step(format!("remove {}", schema.display())))
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn mount_if_missing(root: &Path) -> Result<(), InterceptionError> {
    if !root.starts_with(BPF_FS) || is_bpffs(Path::new(BPF_FS)) {
        return Ok(());
    }
    // Another agent may be about to do the same: of two mounts the later one would hide what has been
    // pinned in the earlier. The lock is on the folder below the mount.
    let _lock = lock(Path::new(BPF_FS))?;
    if is_bpffs(Path::new(BPF_FS)) {
        return Ok(());
    }
    tracing::info!("mounting a bpffs at {BPF_FS}");
    rustix::mount::mount(
        "bpf",
        BPF_FS,
        "bpf",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Some(c"mode=0700"),
    )
    .map_err(|errno| {
        step(format!(
            "mount a bpffs at {BPF_FS} (mount -t bpf bpf {BPF_FS})"
        ))(errno.into())
    })
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|info| info.f_type.cast_unsigned() == BPF_FS_MAGIC)
}

/// Waits for another agent that attaches or detaches just now; it takes seconds.
fn lock(root: &Path) -> Result<File, InterceptionError> {
    let locking = || step(format!("lock the folder {}", root.display()));
    let folder = File::open(root).map_err(locking())?;
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCKED_FOR_MAX => {}
            Err(Errno::WOULDBLOCK) => {
                let text = format!(
                    "another process has held the lock for {} s; `lsof {}` tells which",
                    LOCKED_FOR_MAX.as_secs(),
                    root.display()
                );
                return Err(locking()(io::Error::other(text)));
            }
            Err(errno) => return Err(locking()(errno.into())),
        }
        if !is_told {
            is_told = true;
            tracing::info!(folder = %root.display(), "waiting for another process that attaches or detaches hooks");
        }
        std::thread::sleep(LOCK_POLL);
    }
}

pub(super) fn step(action: impl Into<String>) -> impl FnOnce(io::Error) -> InterceptionError {
    let action = action.into();
    move |source| InterceptionError::Step { action, source }
}
