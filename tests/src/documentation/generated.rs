//! Pages that are made from the programs: the trials compare, and with `FLECT_WRITE_DOCS=1` write.

mod commands;
mod help;
mod messages;

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::tools;

/// Set to anything, the trials write the pages instead of comparing them.
const WRITE: &str = "FLECT_WRITE_DOCS";

/// A trial for each page that follows the programs.
pub fn trials() -> [Trial; 3] {
    [
        super::trial("commands_are_as_in_the_table", || {
            compare("docs/commands.md", &commands::page()?)
        }),
        super::trial("cli_is_as_in_the_help", || {
            compare("docs/cli.md", &help::page()?)
        }),
        super::trial("messages_are_as_in_the_programs", messages::check),
    ]
}

fn compare(name: &str, page: &str) -> Result<()> {
    let path = tools::workspace().join(name);
    if env::var_os(WRITE).is_some() {
        return fs::write(&path, page).with_context(|| format!("writing {name}"));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
    let mut lines = text.lines().zip(page.lines()).enumerate();
    let different = lines.find(|(_, (old, new))| old != new);
    if let Some((index, (old, new))) = different {
        let number = index + 1;
        anyhow::bail!(
            "{name}:{number} is not what the programs say\n  file:     {old}\n  programs: {new}\n\
             write it anew: {WRITE}=1 target/debug/flect-integration documentation"
        );
    }
    ensure!(
        text == page,
        "{name} has not the programs' length; write it anew with {WRITE}=1"
    );
    Ok(())
}
