//! The tests of `@flect/sdk` inside an app: the package as npm would install it, and the code of
//! its README word for word, with three stores.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::bed::{APP1, Acceleration, Bed};
use crate::smoke::output;
use crate::tools;

/// The folders of tests that need stores.
const FOLDERS: [&str; 2] = ["test/store", "test/recipes"];
/// The variables of the README's bindings, and the bed's for the same store.
const BINDINGS: [(&str, &str); 2] = [
    ("SESSION_STORE_URL", "STORE2_URL"),
    ("RATE_LIMIT_URL", "STORE3_URL"),
];

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut all = vec![Trial::test("sdk::without_flect", || {
        run(Bed::builder().direct(true))
    })];
    all.extend([Acceleration::On, Acceleration::Off].map(|acceleration| {
        let name = format!("sdk::in_an_app::accel_{}", acceleration.word());
        Trial::test(name, move || run(Bed::builder().acceleration(acceleration)))
    }));
    all
}

fn run(builder: crate::bed::Builder) -> Result<(), Failed> {
    let run = || -> Result<()> {
        let bed = builder.stores(1 + BINDINGS.len()).start()?;
        node_tests(&bed).with_context(|| format!("the agent's log:\n{}", bed.agent_log()))
    };
    run().map_err(|error| Failed::from(format!("{error:#}")))
}

fn node_tests(bed: &Bed) -> Result<()> {
    let mut command = match bed.is_direct() {
        false => bed.node(APP1)?,
        true => std::process::Command::new(tools::program("node")?),
    };
    let environment = bed.environment();
    for (binding, own) in BINDINGS {
        let url = environment.iter().find(|(name, _)| name == own);
        command.env(binding, &url.context("the bed has too few stores")?.1);
    }
    command
        .envs(environment)
        // The package must find ioredis where npm puts it.
        .env_remove("NODE_PATH")
        .current_dir(tools::sdk_app())
        .args(["--test", "--test-reporter=tap"])
        // They use the same stores.
        .arg("--test-concurrency=1")
        .args(files(&tools::sdk_app())?);
    let said = output(&mut command)?;
    let passed: Option<u64> = said
        .lines()
        .find_map(|line| line.strip_prefix("# pass ")?.parse().ok());
    ensure!(
        passed.is_some_and(|count| count > 0),
        "no test ran:\n{said}"
    );
    Ok(())
}

/// The compiled tests.
fn files(app: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in FOLDERS.map(|folder| app.join(folder)) {
        let entries = fs::read_dir(&folder).with_context(|| {
            format!(
                "the SDK is not built ({}): run `cargo xtask setup`",
                folder.display()
            )
        })?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".test.js") || name.ends_with(".test.cjs") {
                all.push(path);
            }
        }
    }
    ensure!(
        !all.is_empty(),
        "the SDK has no tests: run `cargo xtask setup`"
    );
    all.sort();
    Ok(all)
}
