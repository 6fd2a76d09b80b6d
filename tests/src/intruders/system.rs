//! System calls that an intruder makes and that nobody wraps: namespaces, forks, socket options, bpf(2).

#![expect(
    unsafe_code,
    reason = "attacks are made of system calls that have no safe form"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::UnshareFlags;

/// Who the root of a container is on the node: nobody.
const OUTSIDE_ID: u32 = 231_072;

/// Sets an integer option of a socket.
pub(super) fn set_option(
    socket: impl AsFd,
    level: i32,
    name: i32,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is valid for the size that is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A network namespace of its own, with a loopback.
pub(super) fn own_network() -> Result<()> {
    unshare(UnshareFlags::NEWNET)?;
    Ok(crate::kernel::loopback_up()?)
}

/// Becomes root inside a container: nobody on the node, everything in user, network, mount, cgroup,
/// IPC and UTS namespaces of its own.
pub(super) fn enter_container() -> Result<()> {
    let id = OUTSIDE_ID;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(id))?;
    rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(id))?;
    // Changing the user has made /proc/self root's.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    unshare(
        UnshareFlags::NEWUSER
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWCGROUP
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS,
    )
    .context("no user namespaces")?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {id} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {id} 1"))?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "not root inside the container"
    );
    Ok(crate::kernel::loopback_up()?)
}

fn unshare(what: UnshareFlags) -> io::Result<()> {
    // SAFETY: an intruder's process has one thread, so nothing shares what is taken apart.
    Ok(unsafe { rustix::thread::unshare_unsafe(what) }?)
}

/// Runs something in a child of this process that has copies of all it has, and returns what it says.
pub(super) fn in_child(body: impl FnOnce() -> Result<String>) -> Result<String> {
    use std::io::Read as _;
    let (reads, writes) = rustix::pipe::pipe()?;
    // SAFETY: an intruder's process has one thread, so the child has all that it needs.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let said = body().unwrap_or_else(|error| format!("error {error:#}"));
            let written = rustix::io::write(&writes, said.as_bytes());
            // SAFETY: ends this process without what its parent would do at its end.
            unsafe { libc::_exit(i32::from(written.is_err())) }
        }
        child => {
            drop(writes);
            let mut said = String::new();
            std::fs::File::from(reads).read_to_string(&mut said)?;
            // SAFETY: waits for the child just made; its status is in what it said.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            if let Some(error) = said.strip_prefix("error ") {
                bail!("in the child: {error}");
            }
            Ok(said)
        }
    }
}

/// Lets a command keep a descriptor, under the same number.
pub(super) fn keep(command: &mut Command, descriptor: &impl AsFd) {
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: fcntl is async-signal-safe and touches only the new process.
    unsafe {
        command.pre_exec(move || match libc::fcntl(number, libc::F_SETFD, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// A descriptor that this process was started with.
pub(super) fn inherited(number: i32) -> Result<OwnedFd> {
    ensure!(number > 2, "{number} is no inherited descriptor");
    // SAFETY: whoever started this process left it open for this caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub(super) enum Bpf {
    NextProg = 11,
    ProgById = 13,
    MapById = 14,
    LinkById = 30,
}

/// bpf(2) with the words of its attribute.
fn bpf(command: Bpf, mut words: [u64; 8]) -> io::Result<i64> {
    // SAFETY: the callers below put only addresses of living buffers into the words.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i64,
            words.as_mut_ptr(),
            size_of_val(&words),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Tries to get at BPF objects without their pins.
pub(super) fn bpf_by_id(command: Bpf, id: u32) -> io::Result<i64> {
    bpf(command, [u64::from(id), 0, 0, 0, 0, 0, 0, 0])
}

/// A packet socket (AF_PACKET) that sends on the loopback device, and hears what has this ethertype: 0 is
/// nothing.
pub(super) fn loopback_packets(ethertype: u16) -> Result<socket2::Socket> {
    let kind = socket2::Type::RAW;
    let socket = socket2::Socket::new(socket2::Domain::PACKET, kind, None)?;
    // SAFETY: zeroes are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    // `lo` is device 1 in every network namespace.
    address.sll_ifindex = 1;
    // SAFETY: the address is valid for the size that is told.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    ensure!(result == 0, "bind: {}", io::Error::last_os_error());
    Ok(socket)
}

/// Its own view of the cgroups.
pub(super) fn own_cgroup_namespace() -> io::Result<()> {
    unshare(UnshareFlags::NEWCGROUP)
}

/// A child that does something beside this process.
pub(super) struct Beside(libc::pid_t);

/// Starts one.
pub(super) fn start_child(body: impl FnOnce() -> Result<()>) -> Result<Beside> {
    // SAFETY: an intruder's process has one thread, so the child has all that it needs.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let result = body();
            if let Err(error) = &result {
                eprintln!("beside: {error:#}");
            }
            // SAFETY: ends this process without what its parent would do at its end.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        child => Ok(Beside(child)),
    }
}

impl Beside {
    /// Waits for its end, which must be a good one.
    pub(super) fn end(self) -> Result<()> {
        let mut status = 0;
        // SAFETY: waits for the child that `start_child` made.
        unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        ensure!(status == 0, "the process beside ended with {status}");
        Ok(())
    }
}
