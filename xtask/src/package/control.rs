//! What dpkg is told of the package: its control file, scripts, sums, and which files are configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools::{self, Programs};

use super::tree::put;
use super::{NAME, architecture, said, version};

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What programs that ask for a symbol of the C library's have in them.
const SYMBOL: &[u8] = b"GLIBC_2.";

/// Adds the folder DEBIAN to the files.
///
/// # Errors
/// When something cannot be read or written.
pub fn make(root: &Path, programs: &Programs) -> Result<()> {
    let folder = root.join("DEBIAN");
    let files = files(root)?;
    let mut size = 0;
    let mut sums = String::new();
    let mut configuration = String::new();
    for file in &files {
        let path = root.join(file);
        // dpkg counts in KiB, each file for itself.
        size += fs::metadata(&path)?.len().div_ceil(1024);
        let sum = said(Command::new("md5sum").arg(&path))?;
        let sum = sum.split(' ').next().unwrap_or_default();
        let name = file.display();
        // Writing to a String cannot fail.
        let _ = writeln!(sums, "{sum}  {name}");
        if file.starts_with("etc") {
            let _ = writeln!(configuration, "/{name}");
        }
    }
    let control = format!(
        "Package: {NAME}\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: Flect KV <flect@localhost>\n\
         Section: database\n\
         Priority: optional\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {}), libgcc-s1\n\
         Suggests: valkey-server\n\
         Description: private stores for apps inside one shared Valkey\n \
         The agent of a node gives every app a store of its own on a shared Valkey: eBPF\n \
         programs hand the app's connections to it, and it puts the store's prefix in front\n \
         of every key. The command flect is for those who run stores and those who use them.\n",
        version(),
        architecture()?,
        c_library(programs)?,
    );
    put(control.as_bytes(), &folder.join("control"), 0o644)?;
    put(sums.as_bytes(), &folder.join("md5sums"), 0o644)?;
    put(configuration.as_bytes(), &folder.join("conffiles"), 0o644)?;
    for script in SCRIPTS {
        let text = fs::read(tools::workspace().join("config/debian").join(script))?;
        put(&text, &folder.join(script), 0o755)?;
    }
    Ok(())
}

/// All files below the root, in order.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The oldest C library that has everything that the programs ask for.
fn c_library(programs: &Programs) -> Result<String> {
    let mut newest = None;
    for program in [&programs.agent, &programs.flect] {
        newest = newest.max(newest_symbol(&fs::read(program)?));
    }
    let minor = newest.context("the programs ask for no C library")?;
    Ok(format!("2.{minor}"))
}

/// The highest N of `GLIBC_2.N` in a program.
fn newest_symbol(program: &[u8]) -> Option<u32> {
    let found = program.windows(SYMBOL.len()).enumerate();
    let found = found.filter(|(_, window)| *window == SYMBOL);
    let minors = found.filter_map(|(at, _)| {
        let rest = &program[at + SYMBOL.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let text: String = digits.map(|byte| char::from(*byte)).collect();
        text.parse().ok()
    });
    minors.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let program = b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.\0GLIBC_2.9\0";
        assert_eq!(newest_symbol(program), Some(34));
        assert_eq!(newest_symbol(b"static"), None);
    }
}
