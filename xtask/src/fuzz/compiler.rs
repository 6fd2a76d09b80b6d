//! Building the engine: this program stands in front of rustc for the workspace's crates and adds what
//! libFuzzer needs to the two that are looked at.
//!
//! Invariant: dependencies are those of an ordinary build, so that nothing else is built twice; the pinned
//! stable compiler suffices, since coverage is a pass of LLVM's that needs no unstable option.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use flect_tests::tools;

use crate::setup;

/// Set for this program when cargo calls it in rustc's place.
const COMPILES: &str = "FLECT_FUZZ_COMPILES";

/// The crates whose branches count.
const LOOKED_AT: [&str; 2] = ["flect_agent", "flect_fuzz"];

/// What `cargo fuzz` gives to rustc, but for the sanitizer: the code that is fuzzed has no `unsafe`. The
/// dependencies stay unoptimised, as the unit tests have them; what is looked at is not.
const FLAGS: [&str; 9] = [
    "-Copt-level=2",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
];

/// Compiles, if cargo has called this program to do that; returns only when it did not or when it fails.
pub fn dispatch() -> Option<ExitCode> {
    env::var_os(COMPILES)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let args: Vec<_> = args.collect();
    let looked_at = args
        .windows(2)
        .any(|pair| pair[0] == "--crate-name" && LOOKED_AT.iter().any(|name| pair[1] == *name));
    let mut command = Command::new(rustc);
    command.args(args);
    if looked_at {
        command.args(FLAGS);
    }
    let error = command.exec();
    eprintln!("error: starting rustc: {error}");
    Some(ExitCode::FAILURE)
}

/// Builds the engine with its targets.
///
/// # Errors
/// When cargo or the C++ compiler fails; cargo's output says what.
pub fn build() -> Result<PathBuf> {
    let cxx = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = Command::new(&cxx)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("libFuzzer is C++, and there is no compiler for it: install g++ or set CXX");
    }
    let status = setup::cargo()
        .current_dir(tools::workspace())
        .args(["build", "--quiet", "--workspace"])
        .args(["--bin", "flect-fuzz", "--features", "flect-fuzz/engine"])
        .env("RUSTC_WORKSPACE_WRAPPER", tools::own_program()?)
        .env(COMPILES, "1")
        // The library is fuzzed, not the programs in the kernel.
        .env("FLECT_BPF_LINKER", "")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(tools::target().join("debug/flect-fuzz"))
}
