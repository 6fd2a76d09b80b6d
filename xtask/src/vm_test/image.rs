//! The disk image: what the tests use of this machine, at the same paths.
//!
//! Debian's cloud kernels have no 9p, so the machine's files cannot simply be shared. The image
//! takes the programs named here with their libraries, Python's standard library, the installed
//! tools and the product as built. QEMU throws away what the virtual machine writes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flect_tests::tools;

/// What the trials and the programs' own scripts start. A trial that needs another program of the
/// machine adds it here.
const PROGRAMS: [&str; 22] = [
    "sh", "bash", "env", "cat", "ls", "echo", "sleep", "true", "false", "kill", "mkdir", "rm",
    "mount", "umount", "timeout", "head", "grep", "dd", "ip", "ss", "unshare", "nsenter",
];
/// Files that libraries read.
const FILES: [&str; 4] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/protocols",
];
/// Debian's Node.js has parts of its own library there.
const NODE_LIBRARY: &str = "/usr/share/nodejs";
const NODE_LIBRARY_PARTS: [&str; 5] = [
    "acorn",
    "acorn-walk",
    "cjs-module-lexer",
    "undici",
    "busboy",
];
/// Parts of Python's library that no test uses, a third of its size.
const PYTHON_UNUSED: [&str; 8] = [
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "dist-packages",
];
/// Room for what the tests write; the image is sparse.
const FREE_MEGABYTES: u64 = 512;

/// Makes the image from the programs in `built` (`target/debug`).
///
/// # Errors
/// When something is missing, or mke2fs fails.
pub fn make(folder: &Path, built: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root)?;
    let mut tree = Tree {
        root: root.clone(),
        done: BTreeSet::new(),
    };
    tree.frame()?;
    for name in PROGRAMS {
        match find(name) {
            Some(path) => tree.program(&path)?,
            None => bail!(
                "the tests use {name}, which this machine lacks: apt-get install {}",
                package(name)
            ),
        }
    }
    tree.tools()?;
    tree.python(&tools::program("python3")?)?;
    tree.node(&tools::program("node")?)?;
    tree.product(built)?;
    let image = write(&root, &folder.join("root.ext4"))?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// The staging folder, whose content is copied into the image.
struct Tree {
    root: PathBuf,
    done: BTreeSet<PathBuf>,
}

impl Tree {
    /// Folders, links and files that every system has.
    fn frame(&mut self) -> Result<()> {
        for path in [
            "proc", "sys", "dev", "tmp", "run", "root", "etc", "usr/bin", "usr/sbin", "var/tmp",
        ] {
            fs::create_dir_all(self.root.join(path))?;
        }
        // /bin and the like are links into /usr on a merged system and folders elsewhere.
        for path in ["/bin", "/sbin", "/lib", "/lib64"] {
            match fs::read_link(path) {
                Ok(target) => symlink(target, self.inside(Path::new(path)))?,
                Err(_) => fs::create_dir_all(self.inside(Path::new(path)))?,
            }
        }
        for path in FILES {
            if Path::new(path).exists() {
                self.copy(Path::new(path))?;
            }
        }
        let locale = Path::new("/usr/lib/locale/C.utf8");
        if locale.is_dir() {
            self.folder(locale, &[])?;
        }
        fs::write(
            self.root.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        let init = self.inside(Path::new("/sbin/flect-init"));
        fs::create_dir_all(init.parent().unwrap_or(&self.root))?;
        fs::write(&init, INIT)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let busybox = self.root.join("busybox");
        fs::copy(tools::program("busybox")?, &busybox)?;
        Ok(())
    }

    /// A program at its path, what it links to, and the libraries that it loads.
    fn program(&mut self, path: &Path) -> Result<()> {
        self.copy(path)?;
        self.libraries(path)
    }

    fn libraries(&mut self, path: &Path) -> Result<()> {
        // ldd answers 'not a dynamic executable' for scripts and static programs.
        let output = Command::new("ldd")
            .arg(path)
            .output()
            .context("starting ldd")?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let named = line.split("=>").last().unwrap_or(line).trim();
            let library = named.split(" (").next().unwrap_or(named);
            if library.starts_with('/') {
                self.copy(Path::new(library))?;
            }
        }
        Ok(())
    }

    /// What setup installed, as far as the tests use it.
    fn tools(&mut self) -> Result<()> {
        let own = tools::tools();
        for name in ["valkey", "clients"] {
            if own.join(name).is_dir() {
                self.folder(&own.join(name), &["doc", "man"])?;
            }
        }
        for name in [
            "valkey-server",
            "valkey-cli",
            "valkey-benchmark",
            "node",
            "python3",
        ] {
            self.program(&own.join("bin").join(name))?;
            let unpacked = own.join("valkey/usr/bin").join(name);
            if unpacked.is_file() {
                self.libraries(&unpacked)?;
            }
        }
        self.folder(&tools::sdk_app(), &[])?;
        self.folder(&tools::workspace().join("tests/clients"), &[])
    }

    fn python(&mut self, program: &Path) -> Result<()> {
        self.program(program)?;
        let ask = "import sys, sysconfig; print(sys.executable); \
                   print(sysconfig.get_path('stdlib')); print(sysconfig.get_path('platstdlib'))";
        let output = Command::new(program).args(["-c", ask]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut paths = text.lines().map(PathBuf::from);
        if let Some(executable) = paths.next() {
            self.program(&executable)?;
        }
        for library in paths {
            self.folder(&library, &PYTHON_UNUSED)?;
            let modules = fs::read_dir(library.join("lib-dynload"));
            for module in modules.into_iter().flatten().flatten() {
                self.libraries(&module.path())?;
            }
        }
        Ok(())
    }

    fn node(&mut self, program: &Path) -> Result<()> {
        self.program(program)?;
        for part in NODE_LIBRARY_PARTS {
            let path = Path::new(NODE_LIBRARY).join(part);
            if path.is_dir() {
                self.folder(&path, &[])?;
            }
        }
        Ok(())
    }

    /// The product and its tests, without debug information.
    fn product(&mut self, built: &Path) -> Result<()> {
        for name in ["flect-agent", "flect", "flect-integration"] {
            let path = built.join(name);
            let to = self.inside(&path);
            fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
            let status = Command::new("strip").arg("-o").arg(&to).arg(&path).status();
            if !status.context("starting strip")?.success() {
                bail!("strip {} failed", path.display());
            }
            self.libraries(&path)?;
        }
        Ok(())
    }

    /// A folder with everything in it but the entries of these names.
    fn folder(&mut self, path: &Path, without: &[&str]) -> Result<()> {
        if !self.done.insert(path.to_path_buf()) {
            return Ok(());
        }
        let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if without.iter().any(|other| name == *other) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.folder(&entry.path(), without)?;
            } else {
                self.copy(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A file; of a link, the link and what it leads to. Links among the folders above it are
    /// followed, so that the file is found by every path that leads to it.
    fn copy(&mut self, path: &Path) -> Result<()> {
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        let real = fs::canonicalize(folder)
            .with_context(|| format!("finding {}", path.display()))?
            .join(path.file_name().unwrap_or_default());
        if !self.done.insert(real.clone()) {
            return Ok(());
        }
        self.folder_links(folder)?;
        let to = self.inside(&real);
        fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
        if let Ok(target) = fs::read_link(&real) {
            symlink(&target, &to).with_context(|| format!("linking {}", to.display()))?;
            let target = real.parent().unwrap_or(Path::new("/")).join(target);
            // A link that leads nowhere is copied as it is.
            return if target.is_dir() || !target.exists() {
                Ok(())
            } else {
                self.copy(&target)
            };
        }
        // A link costs nothing; it fails where the staging folder is on another disk. Then the time
        // must be kept: Python compiles a file anew whose time is not the expected one.
        let copied = fs::hard_link(&real, &to).or_else(|_| {
            fs::copy(&real, &to)?;
            let time = fs::metadata(&real)?.modified()?;
            fs::File::options()
                .write(true)
                .open(&to)?
                .set_modified(time)
        });
        copied.with_context(|| format!("copying {}", real.display()))
    }

    /// Links among the folders of a path, such as `/lib`.
    fn folder_links(&mut self, folder: &Path) -> Result<()> {
        for part in folder.ancestors() {
            let Ok(target) = fs::read_link(part) else {
                continue;
            };
            let to = self.inside(part);
            if fs::symlink_metadata(&to).is_err() {
                fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
                symlink(target, to)?;
            }
        }
        Ok(())
    }

    fn inside(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").unwrap_or(path);
        self.root.join(relative)
    }
}

/// The first program of the disk. It is started by the initramfs, with /dev mounted.
const INIT: &str = r#"#!/bin/sh
b=/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
# What needs a program that the image leaves out, such as a browser, is tried on the host only.
export FLECT_VM=1
$b mount -t proc none /proc
$b mount -t sysfs none /sys
$b mount -t cgroup2 none /sys/fs/cgroup
# No tmpfs on /tmp: the work tree may lie below it.
$b chmod 1777 /tmp
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts none /dev/pts
$b mount -t tmpfs none /dev/shm
$b ip link set lo up
$b hostname flect-vm
# As Valkey asks for; without it a value of 512 MB may be refused.
echo 1 > /proc/sys/vm/overcommit_memory
# The command stands on the kernel's command line, where blanks are '%20'.
for word in $($b cat /proc/cmdline); do
    case $word in flect.run=*) run=$(echo "${word#flect.run=}" | $b sed 's/%20/ /g') ;; esac
done
eval "$run"
echo "flect-vm-status: $?"
$b sync
$b poweroff -f
"#;

fn write(root: &Path, image: &Path) -> Result<PathBuf> {
    let output = Command::new("du")
        .args(["-sm"])
        .arg(root)
        .output()
        .context("starting du")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let used: u64 = text
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("du says {text:?}"))?;
    let _ = fs::remove_file(image);
    // A third more for the file system's own structures.
    let megabytes = used + used / 3 + FREE_MEGABYTES;
    let output = Command::new(find("mke2fs").unwrap_or_else(|| PathBuf::from("mke2fs")))
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-E",
            "root_owner=0:0",
            "-d",
        ])
        .arg(root)
        .arg(image)
        .arg(format!("{megabytes}M"))
        .output()
        .context("starting mke2fs: apt-get install e2fsprogs")?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(image.to_path_buf())
}

/// A program of the machine itself.
fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

fn package(name: &str) -> &str {
    match name {
        "ip" | "ss" => "iproute2",
        "kill" => "procps",
        "unshare" | "nsenter" | "mount" | "umount" => "util-linux mount",
        "grep" => "grep",
        "bash" | "sh" => "bash dash",
        _ => "coreutils",
    }
}
