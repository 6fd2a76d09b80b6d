//! The process at the other end of the control socket, as the kernel knows it.
//!
//! Invariant: what is read in `/proc` of a process id counts only if the process that connected still
//! has that id afterwards.

#![expect(
    unsafe_code,
    reason = "SO_PEERCRED with process 0, SO_PEERGROUPS and SO_PEERPIDFD have no safe wrapper in rustix or std"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use flect_agent::cgroup;

/// Who connected.
#[derive(Debug)]
pub struct Peer {
    /// The effective user when it connected.
    pub uid: u32,
    /// Its groups then.
    pub gids: Vec<u32>,
    /// The process, as the agent sees it.
    pub pid: u32,
    /// Where the kernel has them (6.5): a descriptor of the process, which no other can become.
    pidfd: Option<OwnedFd>,
    start: String,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When the peer is gone, or in a process namespace that the agent does not see into.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut credentials = [libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        }];
        if option(socket, libc::SO_PEERCRED, &mut credentials)? != size_of::<libc::ucred>() {
            return Err(io::Error::other("the kernel does not tell who connected"));
        }
        let [credentials] = credentials;
        // 0: a process that the agent's process namespace does not show.
        let pid = u32::try_from(credentials.pid).map_err(io::Error::other)?;
        let mut gids = groups(socket)?;
        gids.push(credentials.gid);
        let peer = Self {
            uid: credentials.uid,
            gids,
            pid,
            pidfd: pidfd(socket)?,
            start: start(pid)?,
        };
        if peer.is_there() {
            Ok(peer)
        } else {
            Err(io::Error::other("the process that connected is gone"))
        }
    }

    /// Whether the process that connected still has its id. Kernels without descriptors of peers tell
    /// by when the process was started: another of the same id, started in the same hundredth of a
    /// second, would have to be the 32,768th process since.
    pub fn is_there(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => {
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))
                    .is_ok_and(|info| {
                        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
                        pid.is_some_and(|text| text.trim() == self.pid.to_string())
                    })
            }
            None => start(self.pid).is_ok_and(|start| start == self.start),
        }
    }

    /// Whether it still runs as the user who connected, and nobody else: a program that is set-user-ID
    /// may have been started since, and it is not the user's to move.
    pub fn is_still_its_user(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.unwrap_or_default();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let uid = self.uid.to_string();
        uids.is_some_and(|uids| uids.split_ascii_whitespace().all(|each| each == uid))
            && self.is_there()
    }

    /// Its cgroup now, as a path below the cgroup v2 mount.
    ///
    /// # Errors
    /// When it is gone or not in a cgroup that the agent sees.
    pub fn cgroup(&self) -> io::Result<String> {
        let path = cgroup::of_process(self.pid)?;
        match self.is_there() {
            true => Ok(path),
            false => Err(io::Error::other("its cgroup cannot be told")),
        }
    }

    /// Whether it is of this machine's own users and processes and not in a container: elsewhere the
    /// same numbers may be other people's.
    pub fn is_at_home(&self) -> bool {
        let same = same_namespace(self.pid, "user").and_then(|user| {
            let pid = same_namespace(self.pid, "pid")?;
            Ok(user && pid)
        });
        let same = match same {
            // An agent that is not root may not look at the namespaces of others.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                looks_at_home(self.pid)
            }
            other => other,
        };
        same.unwrap_or(false) && self.is_there()
    }
}

fn same_namespace(pid: u32, kind: &str) -> io::Result<bool> {
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(std::fs::read_link(format!("/proc/self/ns/{kind}"))? == theirs)
}

/// The same by what everybody may read: a process of the agent's own process namespace has one process
/// id and not one more in another, and users of another user namespace are mapped.
fn looks_at_home(pid: u32) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let one = ids.is_some_and(|ids| ids.split_ascii_whitespace().count() == 1);
    let theirs = std::fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
    Ok(one && theirs == std::fs::read_to_string("/proc/self/uid_map")?)
}

/// When a process was started: field 22 of `/proc/PID/stat`, counted behind the name in parentheses.
fn start(pid: u32) -> io::Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    behind_name
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("/proc tells no start of the process"))
}

/// The supplementary groups, as they were when the peer connected.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // As many as a process can have (NGROUPS_MAX): one call is enough.
    let mut gids = vec![0_u32; 65_536];
    let size = option(socket, libc::SO_PEERGROUPS, &mut gids)?;
    gids.truncate(size / size_of::<u32>());
    gids.shrink_to_fit();
    Ok(gids)
}

fn pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut fd = [-1_i32];
    match option(socket, libc::SO_PEERPIDFD, &mut fd) {
        // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
        Ok(_) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd[0]) })),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An option of the socket, as far as it fits; answers its length in bytes.
fn option<T: Copy>(socket: BorrowedFd<'_>, name: i32, into: &mut [T]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(size_of_val(into)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which `into` has; all these options are
    // plain integers, for which every bit pattern is valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            into.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(length as usize)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_peer_is_known() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(here.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let gid = rustix::process::getegid().as_raw();
        assert!(peer.gids.contains(&gid));
        assert!(peer.is_there() && peer.is_at_home());
        assert!(peer.is_still_its_user());
        assert!(looks_at_home(peer.pid).unwrap());
    }
}
