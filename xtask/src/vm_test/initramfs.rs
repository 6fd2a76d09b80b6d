//! The initramfs: busybox, the modules that a disk needs, and a script that hands over to it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flect_tests::tools;

use crate::setup::Kernel;

/// What the disk needs, each with what it depends on; later kernels have some of it built in.
/// veth is for the tests with network namespaces of their own; tcp_diag ends connections that are
/// older than the hooks. Elsewhere the kernel loads it by itself when it is asked for.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "ext4", "veth", "tcp_diag"];
/// An emulated machine finds its disk in less than a second.
const DISK_SECONDS_MAX: u32 = 30;

/// Makes the archive for a kernel.
///
/// # Errors
/// When a file cannot be read or written.
pub fn make(folder: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let modules = folder.join(format!("modules-{}", kernel.release));
    let _ = fs::remove_dir_all(&modules);
    fs::create_dir_all(&modules)?;
    let names = kernel.copy_modules(&MODULES, &modules)?;

    let mut archive = Archive::default();
    for name in ["bin", "dev", "proc", "sys", "modules", "disk"] {
        archive.add(name, 0o040_755, &[]);
    }
    archive.add(
        "bin/busybox",
        0o100_755,
        &fs::read(tools::program("busybox")?)?,
    );
    archive.add("init", 0o100_755, script(&names).as_bytes());
    for name in &names {
        archive.add(
            &format!("modules/{name}"),
            0o100_644,
            &fs::read(modules.join(name))?,
        );
    }
    let path = folder.join(format!("initramfs-{}", kernel.release));
    fs::write(&path, archive.finish()).with_context(|| format!("writing {}", path.display()))?;
    fs::remove_dir_all(&modules)?;
    Ok(path)
}

fn script(modules: &[String]) -> String {
    let loads: Vec<_> = modules
        .iter()
        .map(|name| format!("$b insmod /modules/{name}\n"))
        .collect();
    format!(
        "#!/bin/busybox sh\n\
         b=/bin/busybox\n\
         $b mount -t devtmpfs none /dev\n\
         $b mount -t proc none /proc\n\
         {}\
         n=0\n\
         until [ -b /dev/vda ]; do\n\
         [ $((n += 1)) -gt {DISK_SECONDS_MAX}0 ] && echo 'no disk' && $b poweroff -f\n\
         $b sleep 0.1\n\
         done\n\
         $b mount -t ext4 -o noatime /dev/vda /disk\n\
         $b umount /proc\n\
         $b mount --move /dev /disk/dev\n\
         exec $b switch_root /disk /sbin/flect-init\n",
        loads.concat()
    )
}

/// A cpio archive in the 'newc' format, which the kernel unpacks.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    /// Documentation/driver-api/early-userspace/buffer-format.rst
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_bytes = u32::try_from(name.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let fields = [
            self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_bytes, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_newc() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"hello");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"07070100000001000081ed"));
        assert_eq!(bytes.len() % 4, 0);
        // Header 110, name with its NUL 5, so content starts at 116 (a multiple of four).
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
    }
}
