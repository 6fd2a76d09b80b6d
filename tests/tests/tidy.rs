//! The rules of the house that a program can check, over every tracked file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Past this a file is split; generated ones are data.
const LINES_MAX: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["mod", "utils", "util", "types", "helpers", "common", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Tracked files, and new ones that git does not ignore.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is needed to list the files");
    assert!(output.status.success(), "git ls-files failed");
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<PathBuf> = text
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(files.len() > 50, "that is not the whole tree: {files:?}");
    files
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).expect("tracked files are text");
            (path, text)
        })
        .collect()
}

fn assert_none(complaint: &str, found: &[String]) {
    assert!(found.is_empty(), "{complaint}:\n{}", found.join("\n"));
}

#[test]
fn files_are_named_for_what_they_hold() {
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            EMPTY_NAMES.contains(&stem)
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("a name that says nothing", &found);
}

#[test]
fn files_open_with_their_purpose() {
    let found: Vec<String> = rust_files()
        .iter()
        // A test module in a file of its own belongs to the file above it.
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("no purpose in the first line", &found);
}

#[test]
fn files_have_one_job() {
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|(path, text)| text.lines().count() > LINES_MAX && !path.ends_with("generated.rs"))
        .map(|(path, text)| format!("{} has {} lines", path.display(), text.lines().count()))
        .collect();
    assert_none("too long for one job", &found);
}

#[test]
fn exceptions_to_lints_have_reasons() {
    let bare = concat!("#[", "allow(");
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| text.contains(bare))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("use expect with a reason", &found);
}

#[test]
fn only_interception_knows_aya() {
    let imports = concat!("use ", "aya");
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|(path, text)| {
            text.contains(imports)
                && !path.starts_with("flect-ebpf")
                && !path.starts_with("flect-agent/src/interception")
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("aya outside of interception", &found);
}

#[test]
fn protocol_code_knows_no_sockets() {
    let pure = ["resp", "commands", "rewrite", "scoped", "explain"];
    let banned = ["tokio", "mio::", "std::net", "socket2"];
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| {
            pure.iter()
                .any(|part| path.starts_with(format!("flect-agent/src/{part}")))
        })
        .flat_map(|(path, text)| {
            banned
                .iter()
                .filter(|word| text.contains(**word))
                .map(move |word| format!("{} knows {word}", path.display()))
        })
        .collect();
    assert_none("protocol code with sockets", &found);
}

#[test]
fn nothing_names_one_machine() {
    // Put together, so that this file does not find itself.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let found: Vec<String> = files()
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            let word = banned.iter().find(|word| text.contains(**word))?;
            Some(format!("{} names {word}", path.display()))
        })
        .collect();
    assert_none("a path of one machine", &found);
}
