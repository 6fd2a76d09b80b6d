//! rust-src and bpf-linker: what the BPF programs are built with.
//!
//! bpf-linker is built against the LLVM that the compiler itself carries, so it reads the compiler's
//! bitcode and no LLVM of the system is needed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flect_tests::tools;

use super::{Step, cargo, is_stamped, stamp};

/// The release, and the LLVM of the compiler that rust-toolchain.toml pins.
const VERSION: &str = "0.13.0";
const LLVM_FEATURE: &str = "llvm-22";

/// The recipe changes with the compiler, whose library bpf-linker is linked to.
fn recipe() -> String {
    format!(
        "bpf-linker {VERSION} {LLVM_FEATURE} for {}\n",
        sysroot().display()
    )
}

pub fn is_ready() -> bool {
    has_rust_src() && tools::program("bpf-linker").is_ok() && is_stamped("bpf-linker", &recipe())
}

pub fn install() -> Result<()> {
    if !has_rust_src() {
        let step = Step::start("rust-src")?;
        step.run(Command::new("rustup").args(["component", "add", "rust-src"]))
            .context("rust-src is missing: rustup component add rust-src")?;
        step.done("by rustup");
    }
    if tools::program("bpf-linker").is_ok() && is_stamped("bpf-linker", &recipe()) {
        return Ok(());
    }
    let step = Step::start("bpf-linker")?;
    let root = tools::tools();
    let llvm = root.join("llvm");
    link_llvm(&llvm)?;
    let build = root.join("build");
    let mut command = cargo();
    command
        .args(["install", "bpf-linker", "--locked", "--force"])
        .args(["--version", VERSION])
        .args(["--no-default-features", "--features", LLVM_FEATURE])
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(&build)
        .env("LLVM_PREFIX", &llvm)
        // Flags for the project's own code are not for its tools.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    step.run(&mut command).context("building bpf-linker")?;
    // Hundreds of megabytes that nothing uses again.
    fs::remove_dir_all(&build).with_context(|| format!("removing {}", build.display()))?;
    stamp("bpf-linker", &recipe())?;
    step.done(VERSION);
    Ok(())
}

/// A folder that looks like an LLVM installation to bpf-linker's build: the compiler's library,
/// under its own name and under the plain one.
fn link_llvm(prefix: &Path) -> Result<()> {
    let from = sysroot().join("lib");
    let entries = fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libLLVM.so."))
    });
    let Some(library) = found else {
        bail!(
            "{} holds no libLLVM.so.*: is this compiler from rustup?",
            from.display()
        );
    };
    let lib = prefix.join("lib");
    let _ = fs::remove_dir_all(&lib);
    fs::create_dir_all(&lib)?;
    std::os::unix::fs::symlink(&library, lib.join("libLLVM.so"))?;
    if let Some(name) = library.file_name() {
        std::os::unix::fs::symlink(&library, lib.join(name))?;
    }
    Ok(())
}

fn has_rust_src() -> bool {
    sysroot()
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
}

/// The compiler's folder. cargo tells its own place, so no program need be started.
fn sysroot() -> PathBuf {
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    let beside = cargo.as_deref().and_then(|cargo| cargo.parent()?.parent());
    if let Some(root) = beside.filter(|root| root.join("lib/rustlib").is_dir()) {
        return root.to_path_buf();
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    PathBuf::from(text.unwrap_or_default())
}
