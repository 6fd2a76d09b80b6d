//! The unmodified clients of the demo and the tests, ioredis and redis-py, as pinned in
//! `tests/clients/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::{Step, is_stamped, link, on_path, stamp};

/// What a folder such as `tests/clients/` pins with; copied, so that no tool writes into the sources.
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
    there && pins("clients").is_ok_and(|pins| is_stamped("clients", &pins))
}

pub fn install() -> Result<()> {
    let step = Step::start("clients")?;
    let folder = tools::tools().join("clients");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    npm_ci(&step, "clients", &folder).context("installing ioredis")?;
    let node = find("node")?;
    let node = real(&step, &node, &["-p", "process.execPath"])?;
    link("node", &node)?;

    let python = find("python3")?;
    let python = real(&step, &python, &["-c", "import sys; print(sys.executable)"])?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install"]);
    pip_install(&step, pip, &folder, &tools::python_packages())
        .with_context(|| format!("installing redis-py (pip itself: {BY_HAND})"))?;
    link("python3", &python)?;
    stamp("clients", &pins("clients")?)?;
    step.done("ioredis, redis-py");
    Ok(())
}

/// Copies what `tests/NAME/` pins into `folder` and lets npm install what the lock file says.
pub fn npm_ci(step: &Step, name: &str, folder: &Path) -> Result<()> {
    for file in FILES {
        fs::copy(source(name).join(file), folder.join(file))
            .with_context(|| format!("copying tests/{name}/{file}"))?;
    }
    let mut ci = Command::new(find("npm")?);
    ci.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    step.run(ci.current_dir(folder)).map(drop)
}

/// Lets pip install what `requirements.txt` of `folder` says into `packages`.
pub fn pip_install(step: &Step, mut pip: Command, folder: &Path, packages: &Path) -> Result<()> {
    pip.args(["--quiet", "--require-hashes", "--target"])
        .arg(packages)
        .arg("-r")
        .arg(folder.join("requirements.txt"));
    step.run(&mut pip).map(drop)
}

/// What `tests/NAME/` pins, as one text.
pub fn pins(name: &str) -> Result<String> {
    let mut all = String::new();
    for file in FILES {
        let path = source(name).join(file);
        all += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(all)
}

fn find(name: &str) -> Result<PathBuf> {
    on_path(name).with_context(|| format!("{name} is missing: {BY_HAND}"))
}

/// The interpreter itself: the one on `PATH` may be a script that chooses among several, which
/// takes time and needs its own environment.
fn real(step: &Step, program: &Path, ask: &[&str]) -> Result<PathBuf> {
    let answer = step.run(Command::new(program).args(ask))?;
    Ok(PathBuf::from(answer.trim()))
}

fn source(name: &str) -> PathBuf {
    tools::workspace().join("tests").join(name)
}
