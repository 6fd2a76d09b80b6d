//! Chromium without a window, for the tests of the status page: the machine's own where it has
//! one, otherwise Debian's, unpacked below the target folder with the libraries and the font that
//! the machine lacks.
//!
//! Debian's `chromium-headless-shell` and not the browser: a third of the size, and it needs
//! neither GTK nor a desktop. It comes with the security updates of the machine's own release.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, link, on_path, stamp, wrap};

const PROGRAM: &str = "chromium-headless-shell";
const RECIPE: &str = "chromium-headless-shell, fonts-inter 1\n";
/// A font that looks alike everywhere, so that screenshots can be compared by people. Servers
/// often have none at all.
const FONT: &str = "fonts-inter";

pub fn is_ready() -> bool {
    is_stamped("chromium", RECIPE)
        && tools::program(PROGRAM).is_ok()
        && tools::font_configuration().is_file()
}

pub fn install() -> Result<()> {
    let step = Step::start("chromium")?;
    let root = tools::tools().join("chromium");
    let _ = fs::remove_dir_all(&root);
    let by_hand = format!("chromium is missing: apt-get install {PROGRAM} {FONT}");
    let apt = Apt::open(&step, &[]).context(by_hand.clone())?;
    apt.unpack(&[FONT.to_owned()], &root)
        .context(by_hand.clone())?;
    let from = if let Some(path) = on_path(PROGRAM) {
        link(PROGRAM, &path)?;
        "the machine's own"
    } else {
        apt.unpack_with_dependencies(&[PROGRAM], &root)
            .context(by_hand)?;
        flatten(&root)?;
        wrap(
            PROGRAM,
            "chromium",
            &format!("usr/lib/chromium/{PROGRAM}"),
            "",
        )?;
        "Debian's"
    };
    fs::write(tools::font_configuration(), FONT_CONFIGURATION)?;
    stamp("chromium", RECIPE)?;
    step.done(from);
    Ok(())
}

/// libpulse looks for a library of its own in a folder of `/usr/lib`, and nowhere else: put it
/// where all the others are.
fn flatten(root: &Path) -> Result<()> {
    for triplet in fs::read_dir(root.join("usr/lib"))?.flatten() {
        let own = triplet.path().join("pulseaudio");
        for library in fs::read_dir(own).into_iter().flatten().flatten() {
            fs::rename(library.path(), triplet.path().join(library.file_name()))?;
        }
    }
    Ok(())
}

/// fonts-conf(5): the machine's configuration where it has one, and the font beside this file.
const FONT_CONFIGURATION: &str = r#"<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<!-- Made by `cargo xtask setup`. -->
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <include ignore_missing="yes" prefix="relative">etc/fonts/fonts.conf</include>
</fontconfig>
"#;
