//! Builds the BPF programs of `flect-ebpf` and hands them to `interception::object` for embedding.
//!
//! Invariant: what is embedded was built from the sources as they are now. It is built by a nested
//! cargo into this crate's own OUT_DIR whenever a source, the lock file or the linker changes; there is
//! no other place to take an object from. Without bpf-linker or rust-src the agent is built without
//! programs, and says so when it is asked to intercept.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Little-endian BPF: every machine that Flect supports (x86-64, arm64) is little-endian.
const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let manifest_dir = PathBuf::from(required("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir
        .parent()
        .unwrap_or_else(|| panic!("{} has no parent", manifest_dir.display()));
    let out_dir = PathBuf::from(required("OUT_DIR"));
    // target/PROFILE/build/CRATE/out: cargo tells the profile's name by nothing else.
    let is_shipped = out_dir.components().any(|part| part.as_os_str() == "dist");
    assert!(
        !(is_shipped && env::var_os("CARGO_FEATURE_WEAKENED").is_some()),
        "the feature `weakened` is for tests and must not be in what is shipped"
    );

    for source in [
        "flect-ebpf/src",
        "flect-ebpf/Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let generated = match (linker(workspace), rust_src()) {
        (Some(linker), Some(sysroot)) => {
            let object = build(workspace, &out_dir, &linker, &sysroot);
            format!(
                "pub(super) static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!({object:?}));\n\
                 pub(super) const HASH: &str = {:?};\n",
                hash(&object)
            )
        }
        _ => "pub(super) static OBJECT: Option<&[u8]> = None;\n\
              pub(super) const HASH: &str = \"none\";\n"
            .to_owned(),
    };
    write(&out_dir.join("object.rs"), &generated);
}

/// bpf-linker: `$FLECT_BPF_LINKER`, or the one that `cargo xtask setup` has installed. Set to nothing, there is
/// none: who fuzzes the library needs no programs.
fn linker(workspace: &Path) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=FLECT_BPF_LINKER");
    if let Some(named) = env::var_os("FLECT_BPF_LINKER") {
        if named.is_empty() {
            return None;
        }
        let named = PathBuf::from(named);
        assert!(
            named.is_file(),
            "FLECT_BPF_LINKER names {}, which is no file",
            named.display()
        );
        println!("cargo::rerun-if-changed={}", named.display());
        return Some(named);
    }
    // The folder is made here so that cargo can watch it: it takes a missing path for one that has
    // changed, and would build the agent anew each time.
    let folder = workspace.join("target/tools/bin");
    fs::create_dir_all(&folder)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    println!("cargo::rerun-if-changed={}", folder.display());
    Some(folder.join("bpf-linker")).filter(|linker| linker.is_file())
}

/// The compiler's sysroot, where it has the sources of `core`.
fn rust_src() -> Option<PathBuf> {
    let output = Command::new(required("RUSTC"))
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
        .then_some(sysroot)
}

fn build(workspace: &Path, out_dir: &Path, linker: &Path, sysroot: &Path) -> PathBuf {
    let target_dir = out_dir.join("bpf");
    let mut cargo = Command::new(required("CARGO"));
    // What the outer cargo, clippy or the user's shell has set is meant for the host.
    for (name, _) in env::vars_os() {
        if is_for_the_host(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    let flags = [
        // BTF of the maps comes from debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "flect-ebpf"])
        .args(["--bin", "flect-ebpf", "--target", TARGET])
        .arg("-Zbuild-std=core")
        .arg("--target-dir")
        .arg(&target_dir)
        // -Zbuild-std is a nightly option; the toolchain is pinned, so it cannot change under us.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's profile is made for the host.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        // bpf-linker is linked with the compiler's own LLVM.
        .env("LD_LIBRARY_PATH", library_path(&sysroot.join("lib")));
    if env::var_os("CARGO_FEATURE_WEAKENED").is_some() {
        cargo.args(["--features", "weakened"]);
    }
    let status = cargo
        .status()
        .unwrap_or_else(|error| panic!("cannot run {cargo:?}: {error}"));
    assert!(
        status.success(),
        "the BPF programs do not build ({status}); see above"
    );
    target_dir.join(TARGET).join("release/flect-ebpf")
}

fn is_for_the_host(name: &str) -> bool {
    // Where crates come from and how they are fetched stays as it is.
    let kept = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_MAKEFLAGS",
    ];
    let compiler = [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTFLAGS",
        "RUSTDOC",
        "RUSTDOCFLAGS",
    ];
    (name.starts_with("CARGO_") && !kept.iter().any(|prefix| name.starts_with(prefix)))
        || compiler.contains(&name)
}

fn library_path(first: &Path) -> OsString {
    let mut paths = first.as_os_str().to_owned();
    if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        paths.push(":");
        paths.push(rest);
    }
    paths
}

/// Tells two objects apart in a log; not a proof of anything.
fn hash(object: &Path) -> String {
    let bytes = fs::read(object)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", object.display()));
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    format!("{:016x}", hasher.finish())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn required(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
