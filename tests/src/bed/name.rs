//! The name of a bed, and what is called after it.
//!
//! Invariant: the name holds the process id of its owner, so that anybody can tell whether a bed
//! that is found still has one.

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

/// Where BPF objects are pinned, on every system.
const BPFFS: &str = "/sys/fs/bpf";
/// What every bed's name begins with.
const START: &str = "flect-";
/// What the name of Valkey's cgroup adds: it lies beside the managed one, not in it.
const VALKEY: &str = ".valkey";

/// `flect-PID-RANDOM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// A name for a new bed of this process.
    #[must_use]
    pub fn fresh() -> Self {
        // The hasher is seeded from the system's randomness.
        let random = RandomState::new().build_hasher().finish() & 0xff_ffff;
        Self(format!("{START}{}-{random:06x}", std::process::id()))
    }

    /// The name in the name of a cgroup, pin folder or temporary folder; `None` for other things.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<Self> {
        let text = file_name.strip_suffix(VALKEY).unwrap_or(file_name);
        let (pid, random) = text.strip_prefix(START)?.split_once('-')?;
        let hex = random.len() == 6 && random.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && pid.parse::<i32>().is_ok_and(|pid| pid > 0)).then(|| Self(text.to_owned()))
    }

    /// The process id of the owner.
    #[must_use]
    pub fn owner(&self) -> i32 {
        let digits = self.0[START.len()..].split('-').next();
        digits.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The managed cgroup, below the mount.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.0
    }

    /// Valkey's cgroup, below the mount.
    #[must_use]
    pub fn valkey_cgroup(&self) -> String {
        format!("{}{VALKEY}", self.0)
    }

    /// The folder of pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new(BPFFS).join(&self.0)
    }

    /// The folder of files.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        env::temp_dir().join(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        let name = Name::fresh();
        assert_eq!(Name::parse(name.cgroup()), Some(name.clone()));
        assert_eq!(Name::parse(&name.valkey_cgroup()), Some(name.clone()));
        assert_eq!(i64::from(name.owner()), i64::from(std::process::id()));
        for other in [
            "flect-agent",
            "flect-1",
            "flect-1-xyz",
            "flect-0-00ff00",
            "a-1-00ff00",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
