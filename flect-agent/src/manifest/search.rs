//! Finding and reading `flect.toml`.
//!
//! A manifest stands beside `.env.local`, whose variables the command gets. So one that is found on
//! the way up, and not named, must belong to somebody whom the user trusts: otherwise a file in /tmp
//! would choose `LD_PRELOAD` for everyone who works below it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::ManifestError;

/// What the file is called.
pub const FILE_NAME: &str = "flect.toml";

/// A manifest has a few lines; past this somebody named a wrong file.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// The nearest `flect.toml` from the working folder upwards.
pub(super) fn upwards() -> Result<PathBuf, ManifestError> {
    let from = std::env::current_dir().map_err(|cause| ManifestError::Read {
        path: ".".into(),
        cause,
    })?;
    upwards_from(&from, rustix::process::geteuid().as_raw())
}

fn upwards_from(from: &Path, user: u32) -> Result<PathBuf, ManifestError> {
    for folder in from.ancestors() {
        let path = folder.join(FILE_NAME);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                // The folder's owner too: in a container a project is often mounted from outside.
                let here = std::fs::metadata(from).map_or(user, |meta| meta.uid());
                return if trusted(&meta, &[user, here]) {
                    Ok(path)
                } else {
                    Err(ManifestError::Foreign {
                        path,
                        owner: meta.uid(),
                    })
                };
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(cause) => return Err(ManifestError::Read { path, cause }),
        }
    }
    Err(ManifestError::Missing { from: from.into() })
}

/// Whether a file belongs to root or to one of these users.
pub(super) fn trusted(meta: &Metadata, users: &[u32]) -> bool {
    meta.uid() == 0 || users.contains(&meta.uid())
}

/// A text file's content, as long as it is small.
pub(super) fn read(path: &Path) -> Result<String, ManifestError> {
    let failed = |cause| ManifestError::Read {
        path: path.to_owned(),
        cause,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        failed(io::Error::other(format!("line {line} is not UTF-8")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_upwards_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        let user = rustix::process::geteuid().as_raw();
        // A folder of that name is no manifest.
        std::fs::create_dir(deep.join(FILE_NAME)).unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "").unwrap();
        let found = upwards_from(&deep, user).unwrap();
        assert_eq!(found, folder.path().join(FILE_NAME));
        std::fs::write(folder.path().join("a").join(FILE_NAME), "").unwrap();
        let found = upwards_from(&deep, user).unwrap();
        assert_eq!(found, folder.path().join("a").join(FILE_NAME));
    }

    #[test]
    fn what_is_no_small_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let check = |bytes: &[u8], expect: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(b"a\nb\xff\n", "line 2 is not UTF-8");
        check(&vec![b' '; 1024 * 1024 + 1], "larger than 1 MiB");
        assert!(read(folder.path()).is_err());
    }
}
