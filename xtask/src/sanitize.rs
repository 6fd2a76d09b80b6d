//! `cargo xtask sanitize`: the agent with AddressSanitizer in it, under the trials that reach its unsafe code
//! (`interception/kernel.rs`: bpf(2), getsockopt(2); the rest of the product has none but a signal's handler).
//!
//! Invariant: dependencies and the standard library's own code are instrumented as far as they are compiled
//! here, in a target folder of their own; a report of the sanitizer ends the agent, and with it the trial.
//!
//! Miri cannot run these: what is unsafe is a system call each. Leaks are not looked for, since the
//! sanitizer traces its process for that, which the agent gives up the right to.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use flect_tests::tools;

use crate::build;
use crate::sandbox::need_root;
use crate::setup::{self, Part};

/// Trials that load programs, read maps, make and hand over listeners and look up who connects.
const TRIALS: [&str; 4] = ["kernel::", "smoke::", "intruders::", "control::"];

/// The arguments of `cargo xtask sanitize`.
#[derive(clap::Args)]
pub struct Args {
    /// Only trials whose name contains one of these [default: those that reach unsafe code]
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Builds and runs.
///
/// # Errors
/// When something cannot be built or started.
pub fn run(args: &Args) -> Result<ExitCode> {
    need_root("sanitize", "everything it makes is removed at the end")?;
    setup::ensure(&[Part::Bpf, Part::Valkey, Part::Clients])?;
    let trials = build::tried()?.join("flect-integration");
    let folder = instrumented()?;
    let own = folder.join("flect-integration");
    // Trials take the programs beside them.
    let _ = fs::remove_file(&own);
    fs::copy(&trials, &own).with_context(|| format!("copying {}", trials.display()))?;
    let defaults: Vec<String> = TRIALS.map(str::to_owned).to_vec();
    let filters = match args.filters.is_empty() {
        true => &defaults,
        false => &args.filters,
    };
    let mut failed = false;
    for filter in filters {
        let status = Command::new(&own)
            .arg(filter)
            // Those prove that attacks succeed against an agent that is another one than this.
            .args(["--skip", "::weakened::"])
            .env("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1")
            .status()
            .with_context(|| format!("starting {}", own.display()))?;
        failed |= !status.success();
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// The agent and the command with the sanitizer; answers their folder.
fn instrumented() -> Result<PathBuf> {
    let target = tools::target().join("sanitize");
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = setup::cargo()
        .current_dir(tools::workspace())
        .args(["build", "--quiet", "-p", "flect-agent", "--bins"])
        // With a target named, build scripts stay as they are.
        .args(["--target", &machine])
        .arg("--target-dir")
        .arg(&target)
        // An unstable option; the toolchain is pinned.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address -Cdebug-assertions=on")
        .env("PATH", setup::path_variable()?)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(target.join(machine).join("debug"))
}
