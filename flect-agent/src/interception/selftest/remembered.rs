//! The self-test's verdict from one start to the next: the kernel stays the same while the machine runs, and the
//! test takes longer than everything else at a start.
//!
//! Invariant: a verdict is that of this very boot, of these programs and of these scenarios, or it is none.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::AccelerationVerdict;
use super::super::object::HASH;

/// A verdict of all scenarios in both directions has some KiB.
const BYTES_MAX: u64 = 64 * 1024;

/// Made anew by the kernel at each boot (`proc_do_uuid` in drivers/char/random.c).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Remembered {
    of: Circumstances,
    verdict: AccelerationVerdict,
}

/// What a verdict holds for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    boot: String,
    programs: String,
    version: String,
}

impl Circumstances {
    fn now() -> io::Result<Self> {
        Ok(Self {
            boot: std::fs::read_to_string(BOOT_ID)?.trim().to_owned(),
            programs: HASH.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// What was remembered, if it holds: for these scenarios, by their names.
pub(super) fn recall(path: &Path, scenarios: &[String]) -> Option<AccelerationVerdict> {
    let recalled = read(path).and_then(|remembered| {
        let names = remembered.verdict.checks.iter().map(|check| &check.name);
        let holds = remembered.of == Circumstances::now()? && names.eq(scenarios);
        Ok(holds.then_some(remembered.verdict))
    });
    recalled
        .inspect_err(|error| tracing::debug!(%error, "no verdict of the self-test is remembered"))
        .ok()
        .flatten()
}

fn read(path: &Path) -> io::Result<Remembered> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    // Whoever else could write it would switch on what this kernel does not bear.
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not this user's alone"));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Remembers a verdict; where that fails, the next start takes as long as this one.
pub(super) fn remember(path: &Path, verdict: &AccelerationVerdict) {
    let written = || -> io::Result<()> {
        let remembered = Remembered {
            of: Circumstances::now()?,
            verdict: verdict.clone(),
        };
        let fresh = path.with_extension("verdict-new");
        // One that an earlier agent did not come to rename.
        let _ = std::fs::remove_file(&fresh);
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec(&remembered)?)?;
        std::fs::rename(&fresh, path)
    };
    if let Err(error) = written() {
        tracing::debug!(%error, "the verdict of the self-test is not remembered");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::super::{Acceleration, Check};
    use super::*;

    #[test]
    fn a_verdict_is_remembered_for_this_boot_and_these_scenarios() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.verdict");
        let names = vec!["a: b".to_owned()];
        let verdict = AccelerationVerdict {
            requested: Acceleration::Auto,
            client_to_agent: true,
            agent_to_client: false,
            reason: "auto".to_owned(),
            checks: vec![Check {
                name: names[0].clone(),
                failure: Some("it differs".to_owned()),
            }],
        };
        assert_eq!(recall(&path, &names), None);
        remember(&path, &verdict);
        assert_eq!(recall(&path, &names), Some(verdict.clone()));
        assert_eq!(recall(&path, &[]), None);
        let text = std::fs::read_to_string(&path).unwrap();
        let boot = Circumstances::now().unwrap().boot;
        std::fs::write(&path, text.replace(&boot, "another")).unwrap();
        assert_eq!(recall(&path, &names), None);
        remember(&path, &verdict);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert_eq!(recall(&path, &names), None, "anybody may have written it");
    }
}
