//! Valkey's own tests, of the version of the installed valkey-server, and the Tcl that runs them.
//!
//! They come with Debian's source package; they are not ours and are not kept in the repository.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, link, on_path, stamp, valkey, wrap};

const TCLSH: &str = "tclsh";

/// The folder of the source, with `tests` in it.
pub fn folder() -> PathBuf {
    tools::tools().join("valkey-source")
}

pub fn is_ready() -> bool {
    is_stamped("suite", &recipe()) && folder().join("tests/test_helper.tcl").is_file()
}

/// Another server wants other tests.
fn recipe() -> String {
    format!("suite 1 {}\n", version().unwrap_or_default())
}

/// Such as `8.0.1`.
pub fn version() -> Result<String> {
    valkey::version(&tools::program("valkey-server")?)
}

pub fn install() -> Result<()> {
    let step = Step::start("valkey-source")?;
    let version = version()?;
    let folder = folder();
    // What an interrupted set-up has left.
    let _ = fs::remove_dir_all(&folder);
    Apt::sources(&step)
        .and_then(|apt| apt.unpack_source("valkey", &version, "tests", &folder))
        .with_context(|| {
            format!(
                "no source of Valkey {version}; have a checkout of that release and run: \
                 cargo xtask suite --source FOLDER"
            )
        })?;
    if !folder.join("tests/test_helper.tcl").is_file() {
        bail!("the source package holds no tests/test_helper.tcl");
    }
    stamp("suite", &recipe())?;
    step.done(&format!("of {version}"));
    Ok(())
}

pub fn has_tcl() -> bool {
    tools::program(TCLSH).is_ok()
}

pub fn install_tcl() -> Result<()> {
    let step = Step::start("tclsh")?;
    if let Some(path) = on_path(TCLSH) {
        link(TCLSH, &path)?;
        step.done("the machine's own");
    } else {
        let root = tools::tools().join("tcl");
        let _ = fs::remove_dir_all(&root);
        Apt::open(&step, &[])
            .and_then(|apt| apt.unpack_with_dependencies(&["tcl8.6"], &root))
            .context("tclsh is missing; on Debian: apt-get install tcl")?;
        wrap(TCLSH, "tcl", "usr/bin/tclsh8.6", "")?;
        step.done("Debian's");
    }
    Ok(())
}

/// What Tcl needs to find its own library, where it was unpacked rather than installed.
pub fn environment() -> Option<(&'static str, PathBuf)> {
    let library = tools::tools().join("tcl/usr/share/tcltk/tcl8.6");
    library.is_dir().then_some(("TCL_LIBRARY", library))
}
