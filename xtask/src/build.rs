//! `cargo xtask build`: the product's programs and the integration tests.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use flect_tests::tools::{self, Programs};

use crate::setup::{self, Part};

/// The arguments of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Build with optimisation, as it is shipped, measured and demonstrated
    #[arg(long)]
    release: bool,
}

/// Builds the whole workspace.
///
/// # Errors
/// When setup or cargo fails.
pub fn run(args: &Args) -> Result<()> {
    cargo_build(args.release, &["--workspace"])?;
    Ok(())
}

/// Builds the agent, the command and the integration tests with optimisation, and returns their
/// folder.
///
/// Always together: another selection of packages makes cargo select other features of what they
/// share, and build all of it once more.
///
/// # Errors
/// When setup or cargo fails.
pub fn optimised() -> Result<PathBuf> {
    cargo_build(true, &["-p", "flect-agent", "-p", "flect-tests", "--bins"])
}

/// `flect-agent` and `flect`, built with optimisation.
///
/// # Errors
/// When setup or cargo fails.
pub fn programs() -> Result<Programs> {
    Programs::in_folder(&optimised()?)
}

/// Runs `cargo build` and returns the folder of the executables. All output goes to stderr.
///
/// # Errors
/// When setup or cargo fails.
fn cargo_build(release: bool, selection: &[&str]) -> Result<PathBuf> {
    setup::ensure(&[Part::Bpf])?;
    let mut command = setup::cargo();
    command
        .current_dir(tools::workspace())
        .args(["build", "--quiet"])
        .args(selection)
        .env("PATH", setup::path_variable()?)
        .stdin(std::process::Stdio::null())
        .stdout(std::io::stderr());
    if release {
        command.arg("--release");
    }
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("cargo build failed");
    }
    Ok(tools::target().join(if release { "release" } else { "debug" }))
}
