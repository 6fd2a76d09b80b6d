//! `cargo xtask build`: the product's programs and the integration tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flect_tests::tools::{self, Programs};

use crate::setup::{self, Part};

/// The arguments of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Build with optimisation of what is called per request, as it is demonstrated
    #[arg(long)]
    release: bool,
    /// Build what is shipped and measured, into target/dist: takes minutes
    #[arg(long, conflicts_with = "release")]
    dist: bool,
    /// Also build the agent whose defences the hostile suite takes away, into a folder of its own
    #[arg(long, conflicts_with = "dist")]
    weakened: bool,
}

/// Builds the whole workspace.
///
/// # Errors
/// When setup or cargo fails.
pub fn run(args: &Args) -> Result<()> {
    if args.dist {
        return shipped().map(drop);
    }
    let profile = if args.release { "release" } else { "dev" };
    if args.weakened {
        weakened(profile)?;
    }
    cargo_build(profile, &["--workspace"])?;
    Ok(())
}

/// Builds the whole workspace as it is tried, and returns the folder. Without optimisation, as unit tests have it:
/// trials wait more than they work, and to build everything twice would take longer than they all do.
///
/// # Errors
/// When setup or cargo fails.
pub fn tried() -> Result<PathBuf> {
    cargo_build("dev", &["--workspace"])
}

/// Builds the agent and the command with optimisation, and returns their folder.
///
/// Always together: another selection of packages makes cargo select other features of what they
/// share, and build all of it once more.
///
/// # Errors
/// When setup or cargo fails.
fn optimised() -> Result<PathBuf> {
    cargo_build(
        "release",
        &["-p", "flect-agent", "-p", "flect-tests", "--bins"],
    )
}

/// Builds what counts instructions, from what [`optimised`] builds as well, and returns its folder.
///
/// # Errors
/// When setup or cargo fails.
pub fn instructions() -> Result<PathBuf> {
    let packages = ["-p", "flect-agent", "-p", "flect-tests"];
    let own = ["-p", "flect-instructions", "--bin", "flect-instructions"];
    cargo_build("release", &[&packages[..], &own].concat())
}

/// Builds the agent and the command as they are shipped, and returns their folder.
///
/// # Errors
/// When setup or cargo fails.
pub fn shipped() -> Result<PathBuf> {
    cargo_build("dist", &["-p", "flect-agent", "--bins"])
}

/// Builds the agent with the feature `weakened`, and puts it into a folder of its own beside the programs of
/// a profile. Never optimised: what it is there for is to be beaten.
///
/// # Errors
/// When setup or cargo fails.
pub fn weakened(profile: &str) -> Result<()> {
    // The packages that are built otherwise too, for the reason that `optimised` has.
    let folder = cargo_build(
        "dev",
        &[
            "--workspace",
            "--bin",
            "flect-agent",
            "--features",
            "flect-agent/weakened",
        ],
    )?;
    let own = built(profile).join(tools::WEAKENED);
    fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
    let (from, to) = (folder.join("flect-agent"), own.join("flect-agent"));
    // A running one cannot be written to, only replaced.
    let _ = fs::remove_file(&to);
    fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
    // Nobody must take it for the real one; cargo puts that back whenever it is asked to build it.
    fs::remove_file(&from).with_context(|| format!("removing {}", from.display()))
}

/// `flect-agent` and `flect`, built with optimisation.
///
/// # Errors
/// When setup or cargo fails.
pub fn programs() -> Result<Programs> {
    Programs::in_folder(&optimised()?)
}

/// The programs of a folder, or built with optimisation.
///
/// # Errors
/// When one is missing in the folder, or setup or cargo fails.
pub fn in_folder(folder: Option<&Path>) -> Result<Programs> {
    folder.map_or_else(programs, Programs::in_folder)
}

/// Runs `cargo build` and returns the folder of the executables. All output goes to stderr.
fn cargo_build(profile: &str, selection: &[&str]) -> Result<PathBuf> {
    setup::ensure(&[Part::Bpf])?;
    let status = setup::cargo()
        .current_dir(tools::workspace())
        .args(["build", "--quiet", "--profile", profile])
        .args(selection)
        .env("PATH", setup::path_variable()?)
        .stdin(std::process::Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("cargo build failed");
    }
    Ok(built(profile))
}

/// Where cargo puts what it builds with a profile.
fn built(profile: &str) -> PathBuf {
    // It names the folder of `dev` otherwise.
    tools::target().join(if profile == "dev" { "debug" } else { profile })
}
