//! The token of the port, in a file for whoever scrapes: Prometheus reads a `credentials_file` anew for
//! each scrape.
//!
//! Invariant: the token is written only into a file that none but the agent's user writes and others do not
//! read. A file that is there keeps its owner and group, so that an operator decides who reads it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, ensure};
use flect_agent::registry::{TokenDigest, new_token};

/// Others reading, and anybody but the owner writing.
const FORBIDDEN_MODE: u32 = 0o027;

/// Makes a token and writes it down.
pub fn renew(path: &Path) -> anyhow::Result<TokenDigest> {
    let token = new_token();
    let mut file = open(path).with_context(|| format!("the token file {}", path.display()))?;
    file.write_all(token.as_bytes())
        .and_then(|()| file.set_len(token.len() as u64))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(TokenDigest::of(token.as_bytes()))
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A link would lead to a file that somebody else chose.
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is no file");
    ensure!(
        about.uid() == rustix::process::geteuid().as_raw(),
        "it belongs to user {}, who could put another in its place: let it be the agent's own user's",
        about.uid()
    );
    ensure!(
        about.mode() & FORBIDDEN_MODE == 0,
        "its mode is {:o}, expected 0600 or 0640",
        about.mode() & 0o7777
    );
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_new_each_time_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let first = renew(&path).unwrap();
        let text = fs::read(&path).unwrap();
        assert!(first.matches(&text));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = renew(&path).unwrap();
        assert!(!second.matches(&text), "the same token twice");
        assert!(second.matches(&fs::read(&path).unwrap()));
        // The operator's choice of readers stays.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        renew(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            renew(&path)
                .unwrap_err()
                .root_cause()
                .to_string()
                .contains("0600 or 0640")
        );
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(renew(&link).is_err(), "it followed a link");
    }
}
