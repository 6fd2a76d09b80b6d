//! Finding the cgroup v2 mount in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The mount point of the first cgroup v2 hierarchy.
pub(super) fn cgroup2(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .find_map(cgroup2_of_line)
}

/// `36 35 98:0 /root /mount/point options optional... - fstype source superoptions`
fn cgroup2_of_line(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mount_point = fields.nth(4)?;
    let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
    (file_system == b"cgroup2").then(|| PathBuf::from(unescape(mount_point)))
}

/// Blanks, tabs, line ends and backslashes stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, expect: Option<&str>) {
        assert_eq!(cgroup2(mountinfo.as_bytes()), expect.map(PathBuf::from));
    }

    #[test]
    fn finds_the_mount() {
        check("", None);
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
            Some("/sys/fs/cgroup"),
        );
        check(
            "29 23 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
             31 29 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            Some("/sys/fs/cgroup/unified"),
        );
        check("30 23 0:26 / /a\\040b rw - cgroup2 none rw", Some("/a b"));
        check("30 23 0:26 / /cgroup2 rw - ext4 cgroup2 rw", None);
        check("30 23", None);
    }
}
