//! The integration tests: everything that needs root, cgroups and BPF.
//!
//! Run by `cargo xtask test` on the host and by `cargo xtask vm-test` in virtual machines. It takes
//! the options of cargo's own test runner: `flect-integration --list`, a filter, `--test-threads`.
//! Each trial makes a bed of its own, so they run in parallel.

use std::process::ExitCode;

use flect_tests::bed::cleanup;
use flect_tests::{
    chaos, child, cli, clients, cluster, confinement, containers, control, data, differ,
    documentation, equality, hostile, integrity, intruders, kernel, libraries, limits, monitoring,
    operator, package, protocol, recording, resources, restarts, sdk, seed, sessions, smoke, tools,
    upstream, versions, views, wide, worker,
};
use libtest_mimic::{Arguments, Trial};

/// Records a corpus into the folder that follows, instead of running trials.
const RECORD: &str = "--record-corpus";

fn main() -> ExitCode {
    let roles: Vec<_> = kernel::ROLES
        .into_iter()
        .chain(containers::ROLES)
        .chain(control::ROLES)
        .chain(intruders::ROLES)
        .chain(worker::ROLES)
        .chain(libraries::ROLES)
        .collect();
    if let Some(code) = child::dispatch(&roles) {
        return code;
    }
    let mut words = std::env::args_os().skip(1);
    let records = words.next().is_some_and(|word| word == RECORD);
    let folder = words.next().filter(|_| records);
    let arguments = if records {
        Arguments::default()
    } else {
        Arguments::from_args()
    };
    if let Err(error) = cleanup::end_on_signals() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    if let Some(folder) = folder {
        return match recording::record(folder.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut trials = of_every_kernel();
    if !tools::in_vm() {
        trials.extend(of_the_host());
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit_code()
}

/// What depends on the kernel: hooks, sockets, cgroups, and what travels through them.
fn of_every_kernel() -> Vec<Trial> {
    [
        kernel::trials(),
        intruders::trials(),
        confinement::trials(),
        smoke::trials(),
        protocol::trials(),
        sessions::trials(),
        equality::trials(),
        limits::trials(),
        clients::trials(),
        control::trials(),
        restarts::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is the same on every kernel, or needs what a machine's image has not: these run where the
/// integration tests run first, and an emulated machine would take ten times as long for them.
fn of_the_host() -> Vec<Trial> {
    [
        protocol::of_the_host(),
        sessions::of_the_host(),
        wide::trials(),
        worker::trials(),
        integrity::trials(),
        intruders::of_the_host(),
        resources::trials(),
        hostile::trials(),
        libraries::trials(),
        differ::trials(),
        cluster::trials(),
        upstream::trials(),
        versions::trials(),
        chaos::trials(),
        containers::trials(),
        data::trials(),
        documentation::trials(),
        monitoring::trials(),
        operator::trials(),
        package::trials(),
        cli::trials(),
        sdk::trials(),
        seed::trials(),
        views::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
