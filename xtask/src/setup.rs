//! `cargo xtask setup`: installs whatever is missing to build, test and demonstrate, below the
//! target folder. Every other task calls it first.
//!
//! Invariant: a part is installed when its stamp says the present recipe and its files are there;
//! so a second run starts no program at all and takes no time.

mod apt;
mod bpf_linker;
mod chromium;
mod clients;
mod libraries;
mod peers;
mod progress;
mod runtime;
mod sdk;
pub mod suite;
mod valgrind;
mod valkey;
mod versions;
mod vm;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flect_tests::tools;

use progress::Step;
pub use sdk::npm;
pub use vm::{Kernel, in_folder as kernel_in, kernel};

/// A part that a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// rust-src and bpf-linker, for the BPF programs.
    Bpf,
    /// valkey-server, valkey-cli and valkey-benchmark.
    Valkey,
    /// valkey-server of the further versions that trials run on.
    Versions,
    /// ioredis and redis-py.
    Clients,
    /// Further clients and frameworks; after `Clients`.
    Libraries,
    /// `@flect/sdk`, built, and its tests.
    Sdk,
    /// A browser without a window, for the status page.
    Chromium,
    /// tclsh, which runs Valkey's own tests.
    Tcl,
    /// Valkey's own tests.
    Suite,
    /// Other proxies to measure against; after `Clients`.
    Peers,
    /// callgrind, which counts instructions.
    Valgrind,
    /// crun, which runs containers.
    Runtime,
    /// QEMU and busybox.
    Vm,
}

/// The arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Also install QEMU, busybox and the kernels of `cargo xtask vm-test`
    #[arg(long)]
    vm: bool,
    /// Also install the proxies of `cargo xtask bench --peers`
    #[arg(long)]
    peers: bool,
}

/// Installs everything, or everything but what virtual machines need.
///
/// # Errors
/// When a part cannot be installed; the message names the command that does it by hand.
pub fn run(args: &Args) -> Result<()> {
    ensure(&[
        Part::Bpf,
        Part::Valkey,
        Part::Versions,
        Part::Clients,
        Part::Libraries,
        Part::Sdk,
        Part::Chromium,
        Part::Valgrind,
        Part::Runtime,
    ])?;
    if args.peers {
        ensure(&[Part::Peers])?;
    }
    if args.vm {
        ensure(&[Part::Vm])?;
        for series in crate::vm_test::SERIES {
            kernel(series)?;
        }
    }
    Ok(())
}

/// Installs the parts that are missing.
///
/// # Errors
/// When one cannot be installed.
pub fn ensure(parts: &[Part]) -> Result<()> {
    if parts.iter().all(|part| part.is_ready()) {
        return Ok(());
    }
    let _lock = lock()?;
    for part in parts {
        // Another xtask may have installed it while this one waited for the lock.
        if !part.is_ready() {
            part.install()?;
        }
    }
    Ok(())
}

/// `PATH` with the installed tools in front, for cargo and everything it starts.
///
/// # Errors
/// When `PATH` holds something that cannot stand in it.
pub fn path_variable() -> Result<OsString> {
    let own = env::var_os("PATH").unwrap_or_default();
    let all = [tools::tools().join("bin")]
        .into_iter()
        .chain(env::split_paths(&own));
    env::join_paths(all).context("PATH")
}

impl Part {
    fn is_ready(self) -> bool {
        match self {
            Self::Bpf => bpf_linker::is_ready(),
            Self::Valkey => valkey::is_ready(),
            Self::Versions => versions::is_ready(),
            Self::Clients => clients::is_ready(),
            Self::Libraries => libraries::is_ready(),
            Self::Sdk => sdk::is_ready(),
            Self::Chromium => chromium::is_ready(),
            Self::Tcl => suite::has_tcl(),
            Self::Suite => suite::is_ready(),
            Self::Peers => peers::is_ready(),
            Self::Valgrind => valgrind::is_ready(),
            Self::Runtime => runtime::is_ready(),
            Self::Vm => vm::is_ready(),
        }
    }

    fn install(self) -> Result<()> {
        match self {
            Self::Bpf => bpf_linker::install(),
            Self::Valkey => valkey::install(),
            Self::Versions => versions::install(),
            Self::Clients => clients::install(),
            Self::Libraries => libraries::install(),
            Self::Sdk => sdk::install(),
            Self::Chromium => chromium::install(),
            Self::Tcl => suite::install_tcl(),
            Self::Suite => suite::install(),
            Self::Peers => peers::install(),
            Self::Valgrind => valgrind::install(),
            Self::Runtime => runtime::install(),
            Self::Vm => vm::install(),
        }
    }
}

/// One xtask installs at a time; the others wait.
fn lock() -> Result<File> {
    let folder = tools::tools();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = File::create(folder.join("lock"))?;
    file.lock().context("waiting for another setup")?;
    Ok(file)
}

/// Does the stamp of a part hold exactly this recipe?
fn is_stamped(name: &str, recipe: &str) -> bool {
    fs::read_to_string(stamp_path(name)).is_ok_and(|text| text == recipe)
}

fn stamp(name: &str, recipe: &str) -> Result<()> {
    let path = stamp_path(name);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&path, recipe).with_context(|| format!("writing {}", path.display()))
}

fn stamp_path(name: &str) -> PathBuf {
    tools::tools().join("stamps").join(name)
}

/// A program on `PATH`, but not one that setup put there itself.
fn on_path(name: &str) -> Option<PathBuf> {
    let own = tools::tools();
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|folder| !folder.starts_with(&own))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Puts a program of the machine into the tools' folder, as a link.
fn link(name: &str, target: &Path) -> Result<()> {
    let path = fresh(name)?;
    std::os::unix::fs::symlink(target, &path).with_context(|| format!("linking {}", path.display()))
}

/// Puts an unpacked program into the tools' folder, as a script that finds its libraries.
///
/// `root` is a folder below the tools' one and `program` a path in it.
fn wrap(name: &str, root: &str, program: &str, arguments: &str) -> Result<()> {
    let libraries = libraries(root, program)?;
    let start = format!(
        "LD_LIBRARY_PATH=\"{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" \
         exec \"$root/{program}\" {arguments}"
    );
    write_script(name, root, &start)
}

/// The same for a program that was unpacked with the C library that it wants: the loader of that library
/// starts it, since the machine's own cannot.
fn wrap_with_own_loader(name: &str, root: &str, program: &str) -> Result<()> {
    let libraries = libraries(root, program)?;
    let unpacked = tools::tools().join(root);
    let loader = ["usr/lib64", "usr/lib"]
        .iter()
        .flat_map(|folder| {
            let entries = fs::read_dir(unpacked.join(folder)).into_iter().flatten();
            entries.flatten().map(move |entry| (folder, entry))
        })
        .map(|(folder, entry)| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        .find(|path| path.contains("/ld-linux"))
        .context("the packages hold no loader")?;
    let start =
        format!("exec \"$root/{loader}\" --library-path \"{libraries}\" \"$root/{program}\"");
    write_script(name, root, &start)
}

/// The folders of an unpacked program's libraries, as the script that starts it knows them.
fn libraries(root: &str, program: &str) -> Result<String> {
    let unpacked = tools::tools().join(root);
    if !unpacked.join(program).is_file() {
        bail!("the packages hold no {program}");
    }
    let mut libraries = Vec::new();
    for folder in ["usr/lib", "lib"] {
        for entry in fs::read_dir(unpacked.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let triplet = entry.file_name().to_string_lossy().into_owned();
            if triplet.contains("-linux-gnu") {
                libraries.push(format!("$root/{folder}/{triplet}"));
            }
        }
    }
    Ok(libraries.join(":"))
}

fn write_script(name: &str, root: &str, start: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\n# Made by `cargo xtask setup`.\nroot=\"${{0%/*}}/../{root}\"\n{start} \"$@\"\n"
    );
    let path = fresh(name)?;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The path of a program in the tools' folder, with nothing there.
fn fresh(name: &str) -> Result<PathBuf> {
    let folder = tools::tools().join("bin");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replacing {}", path.display()))
        }
        _ => Ok(path),
    }
}

/// cargo as it runs this xtask.
#[must_use]
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
