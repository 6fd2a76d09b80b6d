//! The unmodified clients of the demo and the tests, ioredis and redis-py, as pinned in
//! `tests/clients/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::{Step, is_stamped, link, on_path, stamp};

/// What the folder `tests/clients/` pins; copied, so that no tool writes into the sources.
const FILES: [&str; 4] = [
    "package.json",
    "package-lock.json",
    ".npmrc",
    "requirements.txt",
];
/// What a person types where the interpreters are missing.
const BY_HAND: &str = "apt-get install nodejs npm python3 python3-pip";

pub fn is_ready() -> bool {
    let there = tools::node_modules().join("ioredis/package.json").is_file()
        && tools::python_packages().join("redis/__init__.py").is_file()
        && ["node", "python3"]
            .iter()
            .all(|name| tools::program(name).is_ok());
    there && recipe().is_ok_and(|recipe| is_stamped("clients", &recipe))
}

pub fn install() -> Result<()> {
    let step = Step::start("clients")?;
    let folder = tools::tools().join("clients");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    for name in FILES {
        fs::copy(source().join(name), folder.join(name))
            .with_context(|| format!("copying tests/clients/{name}"))?;
    }
    let find = |name: &str| on_path(name).with_context(|| format!("{name} is missing: {BY_HAND}"));
    let npm = find("npm")?;
    let mut ci = Command::new(npm);
    ci.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    step.run(ci.current_dir(&folder))
        .context("installing ioredis")?;
    let node = real(&step, &find("node")?, &["-p", "process.execPath"])?;
    link("node", &node)?;

    let python = find("python3")?;
    let python = real(&step, &python, &["-c", "import sys; print(sys.executable)"])?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--target",
    ])
    .arg(tools::python_packages())
    .arg("-r")
    .arg(folder.join("requirements.txt"));
    step.run(&mut pip)
        .with_context(|| format!("installing redis-py (pip itself: {BY_HAND})"))?;
    link("python3", &python)?;
    stamp("clients", &recipe()?)?;
    step.done("ioredis, redis-py");
    Ok(())
}

/// The interpreter itself: the one on `PATH` may be a script that chooses among several, which
/// takes time and needs its own environment.
fn real(step: &Step, program: &Path, ask: &[&str]) -> Result<PathBuf> {
    let answer = step.run(Command::new(program).args(ask))?;
    Ok(PathBuf::from(answer.trim()))
}

fn recipe() -> Result<String> {
    let mut all = String::new();
    for name in FILES {
        let path = source().join(name);
        all += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(all)
}

fn source() -> PathBuf {
    tools::workspace().join("tests/clients")
}
