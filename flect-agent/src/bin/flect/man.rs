//! `flect man`: the manual, made of the same words as `--help`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::Global;

/// The arguments of `flect man`.
#[derive(clap::Args)]
pub struct Args {
    /// Write a page for every command into this folder [default: print flect(1)]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(_: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let tree = crate::tree();
    let Some(folder) = &args.out else {
        clap_mangen::Man::new(tree).render(&mut std::io::stdout())?;
        std::io::stdout().flush()?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(tree, folder))
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
