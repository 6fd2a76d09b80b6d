//! valkey-server of the further versions that trials run on: from Debian's suites that have them, with all
//! their libraries, since their C library is newer than that of the machine may be.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flect_tests::tools::{self, FURTHER_VALKEYS};

use super::apt::Apt;
use super::{Step, is_stamped, link, on_path, stamp, valkey, wrap_with_own_loader};

const RECIPE: &str = "valkey-server of further versions 1\n";

/// Debian's suite that has a version.
const SUITES: &[(&str, &str)] = &[("8.1", "trixie"), ("9.1", "sid")];

pub fn is_ready() -> bool {
    let mut servers = FURTHER_VALKEYS.iter();
    is_stamped("versions", RECIPE) && servers.all(|series| tools::further_valkey(series).is_ok())
}

pub fn install() -> Result<()> {
    let step = Step::start("valkey-versions")?;
    let found: Vec<_> = FURTHER_VALKEYS
        .iter()
        .map(|series| install_one(&step, series))
        .collect::<Result<_>>()?;
    stamp("versions", RECIPE)?;
    step.done(&found.join(", "));
    Ok(())
}

/// Tells the version found, and where.
fn install_one(step: &Step, series: &str) -> Result<String> {
    let name = tools::further_valkey_name(series);
    if let Some(path) = on_path(&name) {
        let version = checked(&path, series)?;
        link(&name, &path)?;
        return Ok(format!("{version} of the machine"));
    }
    let suite = SUITES.iter().find(|(known, _)| *known == series);
    let (_, suite) = suite.with_context(|| format!("no suite is known to have {series}"))?;
    let root = format!("valkey-{series}");
    let unpacked = tools::tools().join(&root);
    let _ = fs::remove_dir_all(&unpacked);
    Apt::of_one_suite(step, suite)
        .and_then(|apt| apt.unpack_with_dependencies(&["valkey-server"], &unpacked))
        .with_context(|| format!("no valkey-server from Debian's {suite}; {}", remedy(series)))?;
    wrap_with_own_loader(&name, &root, "usr/bin/valkey-server")?;
    let version = checked(&tools::further_valkey(series)?, series)?;
    Ok(format!("{version} of {suite}"))
}

/// What a server says it is, when that is the version that is wanted.
fn checked(server: &Path, series: &str) -> Result<String> {
    let version = valkey::version(server)?;
    if !serves(&version, series) {
        let server = server.display();
        bail!("{server} is Valkey {version}; {}", remedy(series));
    }
    Ok(version)
}

fn remedy(series: &str) -> String {
    let name = tools::further_valkey_name(series);
    format!("have a valkey-server of version {series} on PATH, called {name}")
}

/// Debian's sid goes on: a later release of the newest major version is as good as the one that is named.
fn serves(version: &str, series: &str) -> bool {
    let parts = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let (Some((major, minor)), Some(wanted)) = (parts(version), parts(series)) else {
        return false;
    };
    let is_newest = FURTHER_VALKEYS.last() == Some(&series);
    major == wanted.0 && (minor == wanted.1 || is_newest && minor > wanted.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_a_suite() {
        let suites: Vec<_> = SUITES.iter().map(|(series, _)| *series).collect();
        assert_eq!(suites, FURTHER_VALKEYS);
    }

    #[test]
    fn a_server_of_another_version_is_not_taken() {
        for (version, series, expect) in [
            ("8.1.1", "8.1", true),
            ("8.1", "8.1", true),
            ("8.2.0", "8.1", false),
            ("8.10.0", "8.1", false),
            ("9.1.2", "9.1", true),
            ("9.2.0", "9.1", true),
            ("9.0.3", "9.1", false),
            ("10.1.0", "9.1", false),
            ("", "9.1", false),
            ("9", "9.1", false),
        ] {
            assert_eq!(serves(version, series), expect, "{version} for {series}");
        }
    }
}
