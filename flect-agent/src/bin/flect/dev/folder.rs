//! `.flect`, the folder of `flect dev` beside `flect.toml`: data, tokens, logs; for `--ephemeral` a
//! temporary one instead.
//!
//! Invariant: nobody but its owner may look into it, and one `flect dev` at a time uses it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flect_agent::registry::new_token;
use flect_agent::store::Slug;
use rustix::fs::{FlockOperation, flock};

/// What the folder is called.
const NAME: &str = ".flect";

/// A server whose `flect dev` was killed still writes its data down; it holds the lock meanwhile.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The stores' tokens.
pub type Tokens = BTreeMap<Slug, String>;

/// The folder, locked.
pub struct Folder {
    path: PathBuf,
    lock: File,
    temporary: bool,
}

impl Folder {
    /// Makes and locks the folder of a project.
    pub fn open(project: &Path, ephemeral: bool) -> anyhow::Result<Self> {
        let path = if ephemeral {
            let id: String = new_token().chars().take(12).collect();
            std::env::temp_dir().join(format!("flect-dev-{id}"))
        } else {
            // Programs with another working folder get to know it.
            let project = fs::canonicalize(project)
                .with_context(|| format!("the folder {}", project.display()))?;
            project.join(NAME)
        };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !ephemeral => {}
            made => made.with_context(|| {
                format!(
                    "cannot make {}; to write nothing here: --ephemeral",
                    path.display()
                )
            })?,
        }
        let owner = fs::metadata(&path)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            bail!(
                "{} belongs to another user (uid {owner}); remove it, or use --ephemeral",
                path.display()
            );
        }
        let lock = lock(&path)?;
        let folder = Self {
            path,
            lock,
            temporary: ephemeral,
        };
        folder.write(
            ".gitignore",
            "# Made by flect dev: data, tokens and logs of this machine.\n*\n",
        )?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder.data())?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder when it stays.
    pub fn kept(&self) -> Option<&Path> {
        (!self.temporary).then_some(self.path())
    }

    /// Where the server keeps its data.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The operator's password.
    pub fn password_file(&self) -> PathBuf {
        self.path.join("valkey.password")
    }

    /// A file for what a server says, emptied.
    pub fn log(&self, name: &str) -> anyhow::Result<(PathBuf, File)> {
        let path = self.path.join(name);
        let file = private().truncate(true).open(&path)?;
        Ok((path, file))
    }

    /// The lock, which the server keeps until it has written its data down.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Writes a file that nobody else may read; a reader sees all of it or what was there before.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let written = private()
            .truncate(true)
            .open(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, self.path.join(name)));
        written.with_context(|| format!("cannot write {}", self.path.join(name).display()))
    }

    /// Reads a file of the folder.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }

    /// The tokens of these stores: those kept here, and new ones for stores that have none.
    pub fn tokens(&self, slugs: &[&Slug]) -> anyhow::Result<Tokens> {
        const FILE: &str = "tokens.json";
        let mut tokens: Tokens = match self.read(FILE) {
            None => Tokens::new(),
            Some(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged; remove it", self.path.join(FILE).display())
            })?,
        };
        for slug in slugs {
            if !tokens.contains_key(*slug) {
                tokens.insert((*slug).clone(), new_token());
            }
        }
        self.write(FILE, &serde_json::to_string_pretty(&tokens)?)?;
        // Others are kept for the day when the manifest names their stores again.
        tokens.retain(|slug, _| slugs.contains(&slug));
        Ok(tokens)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing depends on it any more; what is left is the system's to sweep.
            let _ = fs::remove_dir_all(&self.path);
        } else {
            // It names a server that has ended, and a password that nothing takes.
            for name in ["agent.toml", "agent.sock", "valkey.password"] {
                let _ = fs::remove_file(self.path.join(name));
            }
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// Locks the folder, or says who has it.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let mut file = private().read(true).open(&path)?;
    let started = Instant::now();
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        let pid = holder
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let ended = pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_err());
        if !ended || started.elapsed() > PREDECESSOR_ENDS_WITHIN {
            bail!(
                "another flect dev (pid {}) uses {}; stop it, work inside it, or add --ephemeral for stores that begin empty",
                holder.trim(),
                folder.display()
            );
        }
        io::Seek::rewind(&mut file)?;
        thread::sleep(Duration::from_millis(50));
    }
    file.set_len(0)?;
    io::Seek::rewind(&mut file)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_and_used_by_one() {
        let project = tempfile::tempdir().unwrap();
        let folder = Folder::open(project.path(), false).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        let slug = Slug::try_from("a".to_owned()).unwrap();
        let tokens = folder.tokens(&[&slug]).unwrap();
        for name in ["tokens.json", "lock", ".gitignore"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        let error = Folder::open(project.path(), false)
            .err()
            .unwrap()
            .to_string();
        let own = format!("another flect dev (pid {})", std::process::id());
        assert!(error.contains(&own), "{error}");
        drop(folder);
        let again = Folder::open(project.path(), false).unwrap();
        assert_eq!(again.tokens(&[&slug]).unwrap(), tokens);
    }

    #[test]
    fn a_temporary_folder_leaves_nothing() {
        let project = tempfile::tempdir().unwrap();
        let folder = Folder::open(project.path(), true).unwrap();
        let path = folder.path().to_owned();
        assert!(path.join("data").is_dir() && folder.kept().is_none());
        drop(folder);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
    }
}
