//! Further unmodified clients and frameworks, as pinned in `tests/libraries/`: the integration tests
//! on this machine's kernel use them, virtual machines do without.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::clients::{npm_ci, pins, pip_install};
use super::{Step, is_stamped, stamp};

/// A file of each registry's that is there when all is.
const WITNESSES: [&str; 2] = ["redis/package.json", "connect-redis/package.json"];

pub fn is_ready() -> bool {
    let node = WITNESSES
        .iter()
        .all(|name| tools::further_node_modules().join(name).is_file());
    let python = tools::further_python_packages().join("celery/__init__.py");
    node && python.is_file() && pins("libraries").is_ok_and(|pins| is_stamped("libraries", &pins))
}

/// Installs them; the interpreters are those that the part `Clients` found.
pub fn install() -> Result<()> {
    let step = Step::start("libraries")?;
    let folder = tools::tools().join("libraries");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    npm_ci(&step, "libraries", &folder).context("installing node-redis, valkey-glide, express")?;
    let mut python = Command::new(tools::program("python3")?);
    // Every package is pinned, and redis-py, which some depend on, is the clients' own.
    python.args(["-m", "pip", "install", "--no-deps"]);
    let packages = tools::further_python_packages();
    pip_install(&step, python, &folder, &packages).context("installing Celery, RQ, valkey-py")?;
    stamp("libraries", &pins("libraries")?)?;
    step.done("node-redis, valkey-glide, valkey-py, Celery, RQ");
    Ok(())
}
