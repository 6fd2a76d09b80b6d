//! valkey-server, valkey-cli and valkey-benchmark: the machine's own where it has them, otherwise
//! Debian's, unpacked below the target folder with the libraries that the machine lacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, link, on_path, stamp, wrap};

const PROGRAMS: [&str; 3] = ["valkey-server", "valkey-cli", "valkey-benchmark"];
const RECIPE: &str = "valkey 1\n";

pub fn is_ready() -> bool {
    is_stamped("valkey", RECIPE) && PROGRAMS.iter().all(|name| tools::program(name).is_ok())
}

pub fn install() -> Result<()> {
    let step = Step::start("valkey")?;
    let own: Option<Vec<_>> = PROGRAMS.iter().map(|name| on_path(name)).collect();
    let from = if let Some(paths) = own {
        for (name, path) in PROGRAMS.iter().zip(&paths) {
            link(name, path)?;
        }
        "the machine's own"
    } else {
        let root = tools::tools().join("valkey");
        let _ = fs::remove_dir_all(&root);
        Apt::open(&step, &[])
            .and_then(|apt| apt.unpack_with_dependencies(&["valkey-server", "valkey-tools"], &root))
            .context(
                "valkey-server is missing; install version 8.0 or newer so that it is on PATH, \
                 on Debian: apt-get install valkey-server valkey-tools (in Debian 12 from \
                 bookworm-backports: add -t bookworm-backports)",
            )?;
        for name in PROGRAMS {
            wrap(name, "valkey", &format!("usr/bin/{name}"), "")?;
        }
        "Debian's"
    };
    stamp("valkey", RECIPE)?;
    step.done(from);
    Ok(())
}

/// What a server says it is, such as `8.0.1`.
pub fn version(server: &Path) -> Result<String> {
    let output = Command::new(server)
        .arg("--version")
        .output()
        .with_context(|| format!("asking {} for its version", server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .map(str::to_owned)
        .with_context(|| format!("{} --version said {text:?}", server.display()))
}
