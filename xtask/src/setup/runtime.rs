//! crun, a container runtime, for the trial of containers: the machine's own, otherwise Debian's, unpacked
//! below the target folder with the libraries that it wants.

use std::fs;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, link, on_path, stamp, wrap};

const CRUN: &str = "crun";
const RECIPE: &str = "crun 1\n";

pub fn is_ready() -> bool {
    is_stamped(CRUN, RECIPE) && tools::program(CRUN).is_ok()
}

pub fn install() -> Result<()> {
    let step = Step::start(CRUN)?;
    let from = if let Some(path) = on_path(CRUN) {
        link(CRUN, &path)?;
        "the machine's own"
    } else {
        let root = tools::tools().join(CRUN);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root)?;
        Apt::open(&step, &[])
            .and_then(|apt| apt.unpack_with_dependencies(&[CRUN], &root))
            .context("crun is missing; on Debian: apt-get install crun")?;
        wrap(CRUN, CRUN, "usr/bin/crun", "")?;
        "Debian's"
    };
    stamp(CRUN, RECIPE)?;
    step.done(from);
    Ok(())
}
