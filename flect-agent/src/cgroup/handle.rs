//! From a cgroup id to its directory: a cgroup v2 id is the file handle of the directory
//! (`kernfs_fh_to_dentry` in fs/kernfs/mount.c), so no map from ids to paths has to be kept or raced.

#![expect(
    unsafe_code,
    reason = "open_by_handle_at has no safe wrapper in rustix or std"
)]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use super::CgroupId;

/// `FILEID_KERNFS` of include/linux/exportfs.h: the handle is the node's 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;

/// `struct file_handle` with room for exactly such a handle.
#[repr(C)]
struct KernfsHandle {
    handle_bytes: u32,
    handle_type: i32,
    id: [u8; 8],
}

/// The absolute path of a cgroup; `None` when it is gone.
pub(super) fn path(mount: &OwnedFd, id: CgroupId) -> io::Result<Option<PathBuf>> {
    let mut handle = KernfsHandle {
        handle_bytes: 8,
        handle_type: FILEID_KERNFS,
        id: id.0.to_ne_bytes(),
    };
    // SAFETY: the handle is a file_handle whose handle_bytes tells the room behind it, and the kernel
    // only reads it.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast::<libc::file_handle>(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        // ESTALE: the cgroup was removed. ENOENT: it never was.
        return match error.raw_os_error() {
            Some(libc::ESTALE | libc::ENOENT) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
    let directory = unsafe { OwnedFd::from_raw_fd(fd) };
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).map(Some)
}
