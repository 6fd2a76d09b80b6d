//! redis-py, ioredis, BullMQ and rate-limiter-flexible doing what their users do.
//!
//! Each script is run through the agent and against a private Valkey; it must say the same.

use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bed::{APP1, Bed};
use crate::pair::{self, Pair};
use crate::smoke::output;
use crate::tools;

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    pair::trials(
        "clients",
        &[
            ("redis_py", redis_py),
            ("ioredis", ioredis),
            ("recipes", recipes),
            ("bullmq", bullmq),
        ],
    )
}

fn redis_py(pair: &Pair) -> Result<()> {
    let script = include_str!("clients/redis_py.py");
    alike(pair, &["-c", script], |bed| match bed.is_direct() {
        false => bed.python(APP1),
        true => {
            let mut command = Command::new(tools::program("python3")?);
            command.env("PYTHONPATH", tools::python_packages());
            command.envs(bed.environment());
            Ok(command)
        }
    })
}

fn ioredis(pair: &Pair) -> Result<()> {
    alike(pair, &["-e", include_str!("clients/ioredis.js")], node)
}

/// The users' documentation, word for word where it is code.
fn recipes(pair: &Pair) -> Result<()> {
    alike(pair, &["-e", include_str!("clients/recipes.js")], node)
}

/// Queues and rate limits in Lua that makes up names of keys as it goes.
fn bullmq(pair: &Pair) -> Result<()> {
    alike(pair, &["-e", include_str!("clients/bullmq.js")], node)
}

fn node(bed: &Bed) -> Result<Command> {
    if !bed.is_direct() {
        return bed.node(APP1);
    }
    let mut command = Command::new(tools::program("node")?);
    command.env("NODE_PATH", tools::node_modules());
    command.envs(bed.environment());
    Ok(command)
}

fn alike(pair: &Pair, args: &[&str], command: fn(&Bed) -> Result<Command>) -> Result<()> {
    let valkey = output(command(&pair.private)?.args(args))?;
    let store = output(command(&pair.bed)?.args(args))?;
    for (valkey, store) in valkey.lines().zip(store.lines()) {
        ensure!(valkey == store, "{store}\ninstead of\n{valkey}");
    }
    ensure!(
        valkey == store,
        "one of them said more:\n{valkey}\n---\n{store}"
    );
    ensure!(store.ends_with("end"), "the script did not end: {store}");
    Ok(())
}
