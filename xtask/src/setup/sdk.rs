//! `@flect/sdk`, built from `sdk/` and staged as an app that has it installed, together with its
//! tests. Everything happens in a copy, so that no tool writes into the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::{Step, is_stamped, on_path, stamp};

/// What somebody who works in `sdk/` by hand has there beside the sources.
const MADE: [&str; 3] = ["node_modules", "dist", "staged"];
/// What decides about the packages that npm installs.
const PACKAGES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];
/// What a person types where npm is missing.
const BY_HAND: &str = "apt-get install nodejs npm";

/// The content of every source file by its path below `sdk/`.
type Sources = BTreeMap<PathBuf, Vec<u8>>;

pub fn is_ready() -> bool {
    tools::sdk_app().join("test").is_dir()
        && sources().is_ok_and(|sources| is_stamped("sdk", &recipe(&sources)))
}

pub fn install() -> Result<()> {
    let step = Step::start("sdk")?;
    let sources = sources()?;
    copy(&sources)?;
    let packages: Sources = sources
        .iter()
        .filter(|(path, _)| {
            PACKAGES
                .iter()
                .any(|name| path.as_path() == Path::new(name))
        })
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect();
    let packages = recipe(&packages);
    if !folder().join("node_modules").is_dir() || !is_stamped("sdk-packages", &packages) {
        let mut ci = npm()?;
        ci.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        // What was fetched before is not asked for again.
        step.run(ci.arg("--prefer-offline"))
            .context("installing what the SDK is built with")?;
        stamp("sdk-packages", &packages)?;
    }
    for script in ["build", "stage"] {
        step.run(npm()?.args(["run", script]))
            .with_context(|| format!("`npm run {script}` in sdk/"))?;
    }
    stamp("sdk", &recipe(&sources))?;
    step.done("@flect/sdk and its tests");
    Ok(())
}

/// npm in the copy of `sdk/`.
///
/// # Errors
/// When there is none.
pub fn npm() -> Result<Command> {
    let npm = on_path("npm").with_context(|| format!("npm is missing: {BY_HAND}"))?;
    let mut command = Command::new(npm);
    command.current_dir(folder());
    Ok(command)
}

fn folder() -> PathBuf {
    tools::tools().join("sdk")
}

/// The sources in place of whatever was there, but for the installed packages.
fn copy(sources: &Sources) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for entry in fs::read_dir(&folder)?.flatten() {
        let path = entry.path();
        if entry.file_name() == "node_modules" {
            continue;
        }
        let removed = match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    for (path, content) in sources {
        let to = folder.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&folder))?;
        fs::write(&to, content).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

fn sources() -> Result<Sources> {
    let root = tools::workspace().join("sdk");
    let mut all = Sources::new();
    let mut left = vec![root.clone()];
    while let Some(folder) = left.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if folder == root && MADE.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                left.push(path);
                continue;
            }
            let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            all.insert(path.strip_prefix(&root)?.to_path_buf(), content);
        }
    }
    Ok(all)
}

/// The sources as one text.
fn recipe(sources: &Sources) -> String {
    let one = |(path, content): (&PathBuf, &Vec<u8>)| {
        format!("{}\n{}\n", path.display(), String::from_utf8_lossy(content))
    };
    sources.iter().map(one).collect()
}
