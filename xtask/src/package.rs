//! `cargo xtask package`: a Debian package of the programs, the unit, manual, completions and configuration.
//!
//! `dpkg-deb` packs a folder; everything in that folder is put there by [`tree`], so there is no list of files
//! beside it. The programs are those that are shipped, unless others are given.
//!
//! Invariant: the same programs and the same commit give the same package: times are the commit's.

mod control;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flect_tests::tools::{self, Programs};

use crate::build;

/// The package's name.
const NAME: &str = "flect";

/// The packaging of one release; raised when only the packaging changes.
const REVISION: u32 = 1;

/// The arguments of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Args {
    /// Pack the programs of this folder instead of building those that are shipped
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the package goes [default: target/package]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Do not compress: for tests
    #[arg(long)]
    uncompressed: bool,
}

/// Makes the package and prints its path.
///
/// # Errors
/// When programs are missing or something cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.programs {
        Some(folder) => folder.clone(),
        None => build::shipped()?,
    };
    let programs = Programs::in_folder(&folder)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| tools::target().join("package"));
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let root = out.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    tree::make(&root, &programs)?;
    control::make(&root, &programs)?;
    let file = out.join(format!("{NAME}_{}_{}.deb", version(), architecture()?));
    pack(&root, &file, args.uncompressed)?;
    fs::remove_dir_all(&root)?;
    println!("{}", file.display());
    Ok(())
}

/// The version as Debian writes it.
fn version() -> String {
    format!("{}-{REVISION}", env!("CARGO_PKG_VERSION"))
}

fn architecture() -> Result<String> {
    said(Command::new("dpkg").arg("--print-architecture"))
}

fn pack(root: &Path, file: &Path, uncompressed: bool) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]);
    command.args(uncompressed.then_some("-Znone"));
    command.arg(root).arg(file).env("SOURCE_DATE_EPOCH", time());
    said(&mut command).map(drop)
}

/// When this commit was made, in seconds since 1970; 0 where there is no repository.
fn time() -> String {
    let mut git = Command::new("git");
    git.current_dir(tools::workspace())
        .args(["log", "-1", "--format=%ct"]);
    said(&mut git).unwrap_or_else(|_| "0".to_owned())
}

/// What a command prints; its error otherwise.
fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("starting {name}"))?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
