//! valgrind, whose callgrind counts instructions: the machine's own, otherwise Debian's, unpacked below the
//! target folder. Its dependency, the C library's debugging symbols, is for other tools of valgrind's.

use std::fs;

use anyhow::{Context, Result, ensure};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, on_path, stamp, write_script};

const VALGRIND: &str = "valgrind";
const RECIPE: &str = "valgrind 1\n";

pub fn is_ready() -> bool {
    is_stamped(VALGRIND, RECIPE) && tools::program(VALGRIND).is_ok()
}

pub fn install() -> Result<()> {
    let step = Step::start(VALGRIND)?;
    let from = if let Some(path) = on_path(VALGRIND) {
        // Not a link: Debian's is a script that looks for the program beside the name it is called by.
        write_script(VALGRIND, VALGRIND, &format!("exec \"{}\"", path.display()))?;
        "the machine's own"
    } else {
        let root = tools::tools().join(VALGRIND);
        let _ = fs::remove_dir_all(&root);
        Apt::open(&step, &[])
            .and_then(|apt| apt.unpack(&[VALGRIND.to_owned()], &root))
            .context("valgrind is missing; on Debian: apt-get install valgrind")?;
        ensure!(
            root.join("usr/bin/valgrind.bin").is_file()
                && root.join("usr/libexec/valgrind").is_dir(),
            "the package holds no valgrind; on Debian: apt-get install valgrind"
        );
        let start =
            "VALGRIND_LIB=\"$root/usr/libexec/valgrind\" exec \"$root/usr/bin/valgrind.bin\"";
        write_script(VALGRIND, VALGRIND, start)?;
        "Debian's"
    };
    stamp(VALGRIND, RECIPE)?;
    step.done(from);
    Ok(())
}
