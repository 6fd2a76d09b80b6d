//! The Debian package: what is in it, and that it comes and goes cleanly.
//!
//! dpkg works on a root of its own, with a shell and the programs' libraries in it, so that the package's scripts
//! run as they would on a machine, and nothing of this one is touched. systemctl there writes down what it is
//! asked for.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::smoke::output;
use crate::tools::{self, Programs};

/// The trials of this module.
#[must_use]
pub fn trials() -> Vec<Trial> {
    vec![Trial::test("package::comes_and_goes_cleanly", || {
        comes_and_goes_cleanly().map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

/// What the package puts where.
const FILES: [&str; 10] = [
    "usr/bin/flect",
    "usr/bin/flect-agent",
    "usr/lib/systemd/system/flect-agent.service",
    "etc/flect/agent.toml",
    "usr/share/man/man1/flect.1.gz",
    "usr/share/man/man1/flect-agent.1.gz",
    "usr/share/bash-completion/completions/flect",
    "usr/share/zsh/vendor-completions/_flect",
    "usr/share/doc/flect/examples/agent.toml",
    "usr/share/doc/flect/copyright",
];

/// A configuration that is valid.
const CONFIG: &str = "[valkey]\naddress = \"127.0.0.1:6379\"\n";

/// Everything that the scripts and dpkg call, as busybox has it.
const APPLETS: [&str; 3] = ["sh", "rm", "cat"];

/// Writes down what it is asked; `is-active` says what the test wants.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$@\" >> /systemctl.log\n\
    case \"$*\" in *is-active*) [ -e /agent-runs ] ;; esac\n";

/// A machine without anything.
struct Root(tempfile::TempDir);

impl Root {
    fn make() -> Result<Self> {
        let root = Self(tempfile::tempdir()?);
        for folder in ["info", "updates", "triggers", "parts"] {
            fs::create_dir_all(root.path("var/lib/dpkg").join(folder))?;
        }
        for file in ["status", "available"] {
            fs::write(root.path("var/lib/dpkg").join(file), "")?;
        }
        let busybox = tools::tools().join("busybox/bin/busybox");
        fs::create_dir_all(root.path("bin"))?;
        fs::copy(&busybox, root.path("bin/busybox")).with_context(|| {
            let path = busybox.display();
            format!("{path}: `cargo xtask setup --vm` puts it there")
        })?;
        fs::create_dir(root.path("dev"))?;
        // Scripts throw away what they do not want to show.
        let null = root.path("dev/null");
        output(
            Command::new("mknod")
                .arg(null)
                .args(["-m", "666", "c", "1", "3"]),
        )?;
        for applet in APPLETS {
            symlink("busybox", root.path("bin").join(applet))?;
        }
        fs::write(root.path("bin/systemctl"), SYSTEMCTL)?;
        fs::set_permissions(
            root.path("bin/systemctl"),
            fs::Permissions::from_mode(0o755),
        )?;
        let programs = Programs::beside_current()?;
        for program in [&programs.agent, &programs.flect] {
            for line in output(Command::new("ldd").arg(program))?.lines() {
                let path = line.split_whitespace().find(|word| word.starts_with('/'));
                let Some(path) = path else { continue };
                let copy = root.path(path.trim_start_matches('/'));
                fs::create_dir_all(copy.parent().context("a library has a folder")?)?;
                fs::copy(path, copy)?;
            }
        }
        Ok(root)
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(below)
    }

    /// dpkg on this root; it prints what scripts say, too.
    fn dpkg(&self, words: &[&str]) -> Result<String> {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.path().display()))
            // The libraries are there, their packages are not.
            .args(["--force-depends", "--force-confold"])
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        let ended = dpkg.output().context("starting dpkg")?;
        let text = [ended.stdout, ended.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(ended.status.success(), "dpkg {words:?}: {text}");
        Ok(text)
    }

    /// What systemctl was asked since the last look.
    fn asked(&self) -> Result<Vec<String>> {
        let log = self.path("systemctl.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        fs::write(&log, "")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every file and folder, but for dpkg's own notes and the test's.
    fn everything(&self) -> Result<BTreeSet<PathBuf>> {
        let mut all = BTreeSet::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let below = path.strip_prefix(self.0.path())?.to_owned();
                if below.starts_with("var/lib/dpkg") || below == Path::new("systemctl.log") {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
                all.insert(below);
            }
        }
        Ok(all)
    }
}

/// `cargo xtask package` with the programs of this build.
fn package(out: &Path) -> Result<PathBuf> {
    let xtask = match env::var_os("FLECT_XTASK") {
        Some(path) => path.into(),
        None => tools::target().join("debug/xtask"),
    };
    ensure!(
        xtask.exists(),
        "no {}: cargo build --workspace makes it",
        xtask.display()
    );
    let programs = Programs::beside_current()?;
    let programs = programs
        .flect
        .parent()
        .context("the programs' folder")?
        .to_owned();
    let mut command = Command::new(&xtask);
    command
        .args(["package", "--uncompressed", "--programs"])
        .arg(programs)
        .arg("--out")
        .arg(out);
    Ok(output(&mut command)?.into())
}

fn comes_and_goes_cleanly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let deb = package(folder.path())?;
    let file = deb.to_str().context("a path in UTF-8")?;
    let listed =
        output(Command::new("dpkg-deb").args(["--field", file, "Depends", "Architecture"]))?;
    ensure!(listed.contains("libc6 (>= 2."), "{listed}");
    without_systemd(file)?;
    with_systemd(file)
}

/// Nothing is started, nothing is left.
fn without_systemd(deb: &str) -> Result<()> {
    let root = Root::make()?;
    let before = root.everything()?;
    let said = root.dpkg(&["--install", deb])?;
    ensure!(said.contains("edit /etc/flect/agent.toml"), "{said}");
    for file in FILES {
        ensure!(root.path(file).is_file(), "no {file}");
    }
    ensure!(
        root.dpkg(&["--verify", "flect"])?.is_empty(),
        "files are not as they were packed"
    );
    let mode = fs::metadata(root.path("usr/bin/flect-agent"))?
        .permissions()
        .mode()
        & 0o777;
    ensure!(mode == 0o755, "{mode:o}");
    // The commented sample is no configuration: an agent cannot be started with it.
    let config = fs::read_to_string(root.path("etc/flect/agent.toml"))?;
    ensure!(
        config
            .lines()
            .all(|line| line.is_empty() || line.starts_with('#')),
        "{config}"
    );
    let marked = root.dpkg(&["--status", "flect"])?;
    let marked = marked.split("Conffiles:").nth(1).context("no conffiles")?;
    ensure!(marked.contains("/etc/flect/agent.toml"), "{marked}");
    ensure!(
        root.asked()?.is_empty(),
        "systemctl is called where systemd does not run"
    );

    // Removed, only the configuration stays; purged, that goes as well, with what install.md puts beside it.
    fs::write(root.path("etc/flect/valkey.password"), "secret")?;
    fs::create_dir_all(root.path("var/lib/flect"))?;
    fs::write(root.path("var/lib/flect/metrics.token"), "secret")?;
    root.dpkg(&["--remove", "flect"])?;
    let left: Vec<_> = root.everything()?.difference(&before).cloned().collect();
    let expect: Vec<PathBuf> = [
        "etc",
        "etc/flect",
        "etc/flect/agent.toml",
        "etc/flect/valkey.password",
        "var/lib/flect",
        "var/lib/flect/metrics.token",
    ]
    .map(PathBuf::from)
    .to_vec();
    ensure!(left == expect, "removed, and left: {left:?}");
    root.dpkg(&["--purge", "flect"])?;
    let left: Vec<_> = root.everything()?.difference(&before).cloned().collect();
    // dpkg itself leaves folders of the system's.
    ensure!(
        left.iter().all(|path| path == Path::new("etc")),
        "purged, and left: {left:?}"
    );
    Ok(())
}

/// The agent is started with a configuration that is valid, and only then; an upgrade starts the new one.
fn with_systemd(deb: &str) -> Result<()> {
    let root = Root::make()?;
    fs::create_dir_all(root.path("run/systemd/system"))?;
    root.dpkg(&["--install", deb])?;
    let asked = root.asked()?;
    ensure!(
        asked == ["daemon-reload"],
        "without a configuration: {asked:?}"
    );
    root.dpkg(&["--purge", "flect"])?;
    root.asked()?;

    fs::create_dir_all(root.path("etc/flect"))?;
    fs::write(root.path("etc/flect/agent.toml"), CONFIG)?;
    root.dpkg(&["--install", deb])?;
    let asked = root.asked()?;
    ensure!(
        asked == ["daemon-reload", "enable --now flect-agent.service"],
        "{asked:?}"
    );
    // The operator's configuration is left as it is.
    let kept = fs::read_to_string(root.path("etc/flect/agent.toml"))?;
    ensure!(kept == CONFIG, "{kept}");

    // An agent that runs is exchanged, one that was stopped stays so.
    fs::write(root.path("agent-runs"), "")?;
    root.dpkg(&["--install", deb])?;
    let asked = root.asked()?;
    ensure!(
        asked
            .last()
            .is_some_and(|last| last == "restart flect-agent.service"),
        "{asked:?}"
    );
    ensure!(
        !asked
            .iter()
            .any(|it| it.contains("stop") || it.contains("disable")),
        "{asked:?}"
    );
    fs::remove_file(root.path("agent-runs"))?;
    root.dpkg(&["--install", deb])?;
    let asked = root.asked()?;
    ensure!(
        !asked
            .iter()
            .any(|it| it.contains("restart") || it.contains("enable")),
        "{asked:?}"
    );
    ensure!(
        fs::read_to_string(root.path("etc/flect/agent.toml"))? == CONFIG,
        "the upgrade changed it"
    );

    let said = root.dpkg(&["--remove", "flect"])?;
    ensure!(said.contains("removing the kernel hooks"), "{said}");
    let asked = root.asked()?;
    ensure!(
        asked == ["disable --now flect-agent.service", "daemon-reload"],
        "{asked:?}"
    );
    ensure!(
        fs::read_to_string(root.path("etc/flect/agent.toml"))? == CONFIG,
        "the removal took it"
    );
    Ok(())
}
