//! Where things are: the tools that `cargo xtask setup` installs and the programs cargo builds.
//!
//! Everything is below the workspace's target folder, so that `cargo clean` removes it and nothing
//! of the system changes. xtask writes this layout, the bed reads it.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The workspace's root folder, absolute.
#[must_use]
pub fn workspace() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        tests.parent().unwrap_or(tests).to_path_buf()
    })
}

/// The target folder: `CARGO_TARGET_DIR` where set, as cargo itself does it.
#[must_use]
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// The folder of the weakened agent, beside the other programs.
pub const WEAKENED: &str = "weakened";

/// The folder of everything that setup installs.
#[must_use]
pub fn tools() -> PathBuf {
    // Not below CARGO_TARGET_DIR: the agent's build script looks here for its linker.
    workspace().join("target/tools")
}

/// A program that setup installs or links: `valkey-server`, `valkey-cli`, `python3`, `node` ...
///
/// # Errors
/// When it is not there; the message names the command that installs it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = tools().join("bin").join(name);
    if path.exists() {
        return Ok(path);
    }
    bail!("{name} is not installed: run `cargo xtask setup`")
}

/// Versions of Valkey that trials run on besides that of [`program`]'s `valkey-server`, oldest first.
pub const FURTHER_VALKEYS: [&str; 2] = ["8.1", "9.1"];

/// The name of the valkey-server of one of [`FURTHER_VALKEYS`].
#[must_use]
pub fn further_valkey_name(series: &str) -> String {
    format!("valkey-server-{series}")
}

/// The valkey-server of one of [`FURTHER_VALKEYS`].
///
/// # Errors
/// As [`program`].
pub fn further_valkey(series: &str) -> Result<PathBuf> {
    program(&further_valkey_name(series))
}

/// Where this program is. Cargo may have put another in its place since it was started, which will do.
///
/// # Errors
/// When the kernel does not say.
pub fn own_program() -> Result<PathBuf> {
    let path = env::current_exe().context("the path of the running executable")?;
    // What the kernel adds to the name of a file that is gone (fs/d_path.c).
    let kept = path
        .to_str()
        .and_then(|text| text.strip_suffix(" (deleted)"));
    Ok(kept.map_or_else(|| path.clone(), PathBuf::from))
}

/// The clients for Node.js, for `NODE_PATH`.
#[must_use]
pub fn node_modules() -> PathBuf {
    tools().join("clients/node_modules")
}

/// The clients for Python, for `PYTHONPATH`.
#[must_use]
pub fn python_packages() -> PathBuf {
    tools().join("clients/python")
}

/// Further clients and frameworks for Node.js, behind those of [`node_modules`] in `NODE_PATH`.
#[must_use]
pub fn further_node_modules() -> PathBuf {
    tools().join("libraries/node_modules")
}

/// Further clients and frameworks for Python, behind those of [`python_packages`] in `PYTHONPATH`.
#[must_use]
pub fn further_python_packages() -> PathBuf {
    tools().join("libraries/python")
}

/// An app that has the built SDK installed as npm would, with the SDK's tests.
#[must_use]
pub fn sdk_app() -> PathBuf {
    tools().join("sdk/staged")
}

/// The configuration of the fonts that the browser uses, for `FONTCONFIG_FILE`.
#[must_use]
pub fn font_configuration() -> PathBuf {
    tools().join("chromium/fonts.conf")
}

/// The folder of what tests leave to be looked at, such as screenshots.
#[must_use]
pub fn artefacts() -> PathBuf {
    target().join("artefacts")
}

/// Does this run in a virtual machine of `cargo xtask vm-test`? Its image has less than a host.
#[must_use]
pub fn in_vm() -> bool {
    env::var_os("FLECT_VM").is_some()
}

/// The product's own programs, as built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon, `flect-agent`.
    pub agent: PathBuf,
    /// The users' command, `flect`.
    pub flect: PathBuf,
    /// What the agent is without, as a list for `FLECT_WEAKENED`; only a weakened one reads it.
    pub weaknesses: Option<String>,
}

impl Programs {
    /// The programs in one folder, such as `target/release`.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = folder.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                bail!("{} is missing: run `cargo xtask build`", path.display())
            }
        };
        Ok(Self {
            agent: find("flect-agent")?,
            flect: find("flect")?,
            weaknesses: None,
        })
    }

    /// The programs beside the running executable: what the integration tests use, since one cargo
    /// command builds them all.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn beside_current() -> Result<Self> {
        let own = own_program()?;
        Self::in_folder(own.parent().unwrap_or(Path::new(".")))
    }

    /// The same with the agent whose defences can be taken away, without the named ones, for the hostile
    /// suite's self-check.
    ///
    /// # Errors
    /// When it is missing.
    pub fn weakened(&self, names: &str) -> Result<Self> {
        let folder = self.agent.parent().unwrap_or(Path::new("."));
        let agent = folder.join(WEAKENED).join("flect-agent");
        if !agent.is_file() {
            let path = agent.display();
            bail!("{path} is missing: run `cargo xtask build --weakened`");
        }
        let flect = self.flect.clone();
        Ok(Self {
            agent,
            flect,
            weaknesses: Some(names.to_owned()),
        })
    }
}
