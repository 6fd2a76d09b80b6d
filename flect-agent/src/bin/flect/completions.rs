//! `flect completions`: what a shell needs to complete flect's commands.

use std::process::ExitCode;

use clap_complete::Shell;

use crate::Global;

/// The arguments of `flect completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub fn run(_: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = crate::tree();
    clap_complete::generate(args.shell, &mut command, "flect", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
