//! `cargo xtask`: everything that builds, tests, measures and demonstrates Flect KV.
//!
//! One file per task. Each installs what it needs by itself, below the target folder.

mod bench;
mod build;
mod chaos;
mod demo;
mod differ;
mod fuzz;
mod instructions;
mod package;
mod restarts;
mod sandbox;
mod sanitize;
mod setup;
mod suite;
mod test;
mod vm_test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flect_tests::child;

/// Builds, tests, measures and demonstrates Flect KV.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing to build and test, below the target folder
    ///
    /// Every other task does it by itself. Nothing of the system changes: packages are unpacked
    /// below target/tools.
    Setup(setup::Args),
    /// Build the agent, the command and the tests
    Build(build::Args),
    /// Make a Debian package of what is shipped
    Package(package::Args),
    /// Show what it is about: two apps, one address, two stores
    Demo(demo::Args),
    /// Run a command with a private Valkey behind a private agent
    Sandbox(sandbox::Args),
    /// Run Valkey's own tests against a store and a private Valkey
    Suite(suite::Args),
    /// Send random requests to a store and to a private Valkey, and compare every reply
    Differ(differ::Args),
    /// Feed the parts that read bytes of others with bytes that an engine makes up
    Fuzz(fuzz::Args),
    /// Measure, as tables or JSON
    Bench(bench::Args),
    /// Count what a request costs in the agent's own code, against what was written down
    Instructions(instructions::Args),
    /// Run the trials that reach the agent's unsafe code, with AddressSanitizer in the agent
    Sanitize(sanitize::Args),
    /// Inject faults while clients of several stores keep an exact ledger
    Chaos(chaos::Args),
    /// Let agents follow each other while clients are at work, and count what these see
    Restarts(restarts::Args),
    /// Run every test: unit, property and integration tests, here and in virtual machines
    Test(test::Args),
    /// Run the integration tests in virtual machines with other kernels
    VmTest(vm_test::Args),
}

fn main() -> ExitCode {
    if let Some(code) = child::dispatch(&bench::ROLES) {
        return code;
    }
    if let Some(code) = fuzz::compiler::dispatch() {
        return code;
    }
    let done = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Build(args) => build::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Package(args) => package::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Demo(args) => demo::run(&args),
        Task::Sandbox(args) => sandbox::run(&args),
        Task::Suite(args) => suite::run(&args),
        Task::Differ(args) => differ::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Sanitize(args) => sanitize::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::Restarts(args) => restarts::run(&args),
        Task::Test(args) => test::run(&args),
        Task::VmTest(args) => vm_test::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
