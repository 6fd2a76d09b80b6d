//! What virtual machines need: QEMU, busybox and Debian's kernels, none of them installed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flect_tests::tools;

use super::apt::Apt;
use super::{Step, is_stamped, link, lock, on_path, stamp, wrap};

const QEMU: &str = "qemu-system-x86_64";
const RECIPE: &str = "qemu, busybox 1\n";
/// The suites that have the cloud kernels: 6.1 and 6.12 the first three, 7.3 the last.
const SUITES: [&str; 4] = [
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie-backports",
];

pub fn is_ready() -> bool {
    let there = [QEMU, "busybox"]
        .iter()
        .all(|name| tools::program(name).is_ok());
    there && is_stamped("vm", RECIPE)
}

pub fn install() -> Result<()> {
    let step = Step::start("qemu")?;
    let root = tools::tools().join("qemu");
    let _ = fs::remove_dir_all(&root);
    let apt = Apt::open(&step, &[]).context("QEMU is missing: apt-get install qemu-system-x86")?;
    let from = if let Some(path) = on_path(QEMU) {
        link(QEMU, &path)?;
        "the machine's own"
    } else {
        apt.unpack_with_dependencies(&["qemu-system-x86"], &root)?;
        // QEMU looks for its firmware where it would be installed.
        let firmware = "-L \"$root/usr/share/qemu\" -L \"$root/usr/share/seabios\"";
        wrap(QEMU, "qemu", &format!("usr/bin/{QEMU}"), firmware)?;
        "Debian's"
    };
    // Never the machine's own busybox: it may need libraries, which an initramfs does not have.
    let busybox = tools::tools().join("busybox");
    let _ = fs::remove_dir_all(&busybox);
    apt.unpack(&["busybox-static".to_owned()], &busybox)?;
    let found = ["usr/bin/busybox", "bin/busybox"].map(|path| busybox.join(path));
    let program = found.iter().find(|path| path.is_file());
    link(
        "busybox",
        program.context("busybox-static holds no busybox")?,
    )?;
    stamp("vm", RECIPE)?;
    step.done(from);
    Ok(())
}

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The release, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// The image.
    pub vmlinuz: PathBuf,
    /// The folder with the modules, `kernel/...` below it.
    pub modules: PathBuf,
}

/// The newest of Debian's cloud kernels of a series such as `6.1`, unpacked below the target
/// folder and kept there.
///
/// # Errors
/// When there is none.
pub fn kernel(series: &str) -> Result<Kernel> {
    let root = tools::tools().join("kernels").join(series);
    if let Ok(kernel) = in_folder(&root) {
        return Ok(kernel);
    }
    let _lock = lock()?;
    let step = Step::start("kernel")?;
    let _ = fs::remove_dir_all(&root);
    let apt = Apt::open(&step, &SUITES)?;
    let dotted = series.replace('.', "\\.");
    let pattern = format!("^linux-(image|binary)-{dotted}\\.[^ ]*-cloud-amd64$");
    let mut names = apt.names(&pattern)?;
    // Newer packages have the image in linux-binary-* and the modules in a package of their own.
    names.sort_by(|a, b| natural(version_of(a), version_of(b)).then_with(|| b.cmp(a)));
    let newest = names.last().with_context(|| {
        format!("Debian has no cloud kernel {series} now; give --kernel the path of a vmlinuz")
    })?;
    let version = version_of(newest);
    let binary = format!("linux-binary-{version}");
    let packages = if names.contains(&binary) {
        vec![binary, format!("linux-modules-{version}")]
    } else {
        vec![newest.clone()]
    };
    apt.unpack(&packages, &root)?;
    let kernel = in_folder(&root)?;
    step.done(&kernel.release);
    Ok(kernel)
}

/// The kernel in a folder that packages were unpacked into, or the one whose vmlinuz is given and
/// whose modules lie where its package puts them.
///
/// # Errors
/// When the folder holds no kernel with modules.
pub fn in_folder(root: &Path) -> Result<Kernel> {
    for base in ["usr/lib/modules", "lib/modules"] {
        let Ok(entries) = fs::read_dir(root.join(base)) else {
            continue;
        };
        for modules in entries.flatten().map(|entry| entry.path()) {
            let Some(release) = modules.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let images = [
                modules.join("vmlinuz"),
                root.join(format!("boot/vmlinuz-{release}")),
            ];
            let image = images.iter().find(|path| path.is_file());
            if let (Some(vmlinuz), true) = (image, modules.join("kernel").is_dir()) {
                return Ok(Kernel {
                    release: release.to_owned(),
                    vmlinuz: vmlinuz.clone(),
                    modules: modules.clone(),
                });
            }
        }
    }
    bail!("{} holds no kernel with its modules", root.display())
}

impl Kernel {
    /// The modules of these names and those that they depend on, in the order in which they can be
    /// loaded, decompressed into `folder`. What the kernel has built in is no file and left out.
    ///
    /// # Errors
    /// When one cannot be decompressed.
    pub fn copy_modules(&self, names: &[&str], folder: &Path) -> Result<Vec<String>> {
        let mut files = Vec::new();
        list(&self.modules.join("kernel"), &mut files)?;
        let mut copied = Vec::new();
        for name in names {
            copy_module(name, &files, folder, &mut copied)?;
        }
        Ok(copied)
    }
}

/// Copies a module behind those that it depends on.
fn copy_module(
    name: &str,
    files: &[PathBuf],
    folder: &Path,
    copied: &mut Vec<String>,
) -> Result<()> {
    let file = format!("{name}.ko");
    let named = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.map(|name| name.replace('-', "_"));
        name.is_some_and(|name| name == file || name.starts_with(&format!("{file}.")))
    };
    let Some(path) = files.iter().find(named) else {
        return Ok(());
    };
    if copied.contains(&file) {
        return Ok(());
    }
    let decompressor = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Some("xz"),
        Some("zst") => Some("zstd"),
        _ => None,
    };
    let bytes = match decompressor {
        None => fs::read(path)?,
        Some(program) => {
            let output = Command::new(program).arg("-dc").arg(path).output();
            let missing = || format!("decompressing modules: apt-get install {program}-utils");
            output.with_context(missing)?.stdout
        }
    };
    for dependency in dependencies(&bytes) {
        copy_module(&dependency, files, folder, copied)?;
    }
    fs::write(folder.join(&file), bytes)?;
    copied.push(file);
    Ok(())
}

/// The modules that a module names in its section `.modinfo`, as `depends=a,b` and a NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(FIELD.len()).position(|part| part == FIELD) else {
        return Vec::new();
    };
    let value = module[at + FIELD.len()..].split(|&byte| byte == 0).next();
    let text = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// `6.1.0-56-cloud-amd64` of `linux-image-6.1.0-56-cloud-amd64`.
fn version_of(package: &str) -> &str {
    package.splitn(3, '-').nth(2).unwrap_or(package)
}

/// Compares versions: digits as numbers, the rest as text.
fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(String, u64)> {
        let mut all = vec![(String::new(), 0)];
        for c in text.chars() {
            let ended = all.last().is_some_and(|(_, n)| *n > 0) && !c.is_ascii_digit();
            if ended {
                all.push((String::new(), 0));
            }
            if let Some((word, number)) = all.last_mut() {
                match c.to_digit(10) {
                    Some(digit) => *number = *number * 10 + u64::from(digit),
                    None => word.push(c),
                }
            }
        }
        all
    }
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = b"\x7fELF..license=GPL\0depends=virtio,virtio-ring\0name=x\0";
        assert_eq!(dependencies(module), ["virtio", "virtio_ring"]);
        assert!(dependencies(b"a\0depends=\0b").is_empty());
        assert!(dependencies(b"").is_empty());
    }

    #[test]
    fn versions_compare_as_numbers() {
        let mut all = [
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.90+deb12.1-cloud-amd64",
            "linux-image-6.12.90+deb12-cloud-amd64",
        ];
        all.sort_by(|a, b| natural(version_of(a), version_of(b)));
        assert_eq!(
            all,
            [
                "linux-image-6.12.90+deb12-cloud-amd64",
                "linux-image-6.12.90+deb12.1-cloud-amd64",
                "linux-image-6.12.95+deb12-cloud-amd64",
                "linux-image-6.12.117+deb12-cloud-amd64",
            ]
        );
        assert_eq!(natural("6.1.0-9-x", "6.1.0-56-x"), Ordering::Less);
    }
}
