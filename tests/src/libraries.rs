//! Further clients and frameworks, each in a program such as its users write.
//!
//! A program asserts what must be so, ends by itself, and prints what it sees. It runs through the
//! agent and against a private Valkey at the same time, and must print the same.

mod fred;
mod program;
mod redis_rs;

use std::process::Command;

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};

use crate::bed::{APP1, Acceleration, Bed};
use crate::child;
use crate::pair::Pair;
use crate::tools;
use program::alike;

/// The roles that trials start this executable in, inside an app.
pub const ROLES: [(&str, child::Role); 2] =
    [(redis_rs::ROLE, redis_rs::role), (fred::ROLE, fred::role)];

/// What stands for the program: a file beside this one, or a role of this executable.
const PROGRAMS: [(&str, &str); 12] = [
    ("node_redis", "node_redis.js"),
    ("ioredis", "ioredis.js"),
    ("bullmq", "bullmq.js"),
    ("sessions", "sessions.js"),
    ("glide_node", "glide_node.js"),
    ("redis_py", "redis_py.py"),
    ("valkey_py", "valkey_py.py"),
    ("glide_python", "glide_python.py"),
    ("celery", "celery_tasks.py"),
    ("rq", "rq_jobs.py"),
    ("redis_rs", redis_rs::ROLE),
    ("fred", fred::ROLE),
];

/// The trials of this module, with acceleration as the kernel allows.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let trial = |(name, program): (&'static str, &'static str)| {
        Trial::test(format!("libraries::{name}"), move || {
            try_program(program).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    PROGRAMS.into_iter().map(trial).collect()
}

/// The programs that tell nothing of the machine they run on, each ready to run beside a bed.
///
/// # Errors
/// When what runs them is not installed.
pub fn recorded(bed: &Bed) -> Result<Vec<(&'static str, Command)>> {
    // Job queues send the names of hosts and processes.
    const OTHERS: [&str; 3] = ["bullmq", "celery", "rq"];
    PROGRAMS
        .into_iter()
        .filter(|(name, _)| !OTHERS.contains(name))
        .map(|(name, program)| Ok((name, start(bed, program)?)))
        .collect()
}

fn try_program(program: &str) -> Result<()> {
    let pair = Pair::start(Acceleration::Auto)?;
    let private = start(&pair.private, program)?;
    let store = start(&pair.bed, program)?;
    alike(private, store).with_context(|| format!("the agent's log:\n{}", pair.bed.agent_log()))
}

/// The command that runs a program, inside app1 where there is one.
fn start(bed: &Bed, program: &str) -> Result<Command> {
    let mut command = match program.rsplit_once('.') {
        Some((_, extension)) => {
            let interpreter = if extension == "js" { "node" } else { "python3" };
            let mut command = Command::new(tools::program(interpreter)?);
            let folder = tools::workspace().join("tests/src/libraries");
            command.arg(folder.join(program));
            command
        }
        None => child::command(program, &[])?,
    };
    let joined = |folders| std::env::join_paths::<[_; 2], _>(folders);
    command
        .envs(bed.environment())
        .env(
            "NODE_PATH",
            joined([tools::node_modules(), tools::further_node_modules()])?,
        )
        .env(
            "PYTHONPATH",
            joined([tools::python_packages(), tools::further_python_packages()])?,
        )
        // The sources' folder shall hold nothing but sources.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if !bed.is_direct() {
        bed.place(APP1, &mut command)?;
    }
    Ok(command)
}
