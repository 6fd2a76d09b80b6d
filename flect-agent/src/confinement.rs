//! What the agent gives up: rights that it does not need must not be there to be taken over.
//!
//! Invariant: [`process`] runs before there is a second thread, so that all threads inherit it; nothing
//! given up comes back. A right that cannot be given up ends the agent: less confined than it says, it
//! must not serve.
//!
//! | | whole process | worker threads |
//! | --- | --- | --- |
//! | capabilities | [`KEPT`] | none |
//! | system calls | none that starts a program, traces, loads into the kernel, changes clocks or roots | besides, none that opens or changes a file, makes or signals a process or thread, changes credentials or namespaces, or asks for BPF; sockets of TCP alone, and unix sockets where Valkey is reached over one |
//! | core dumps, being traced | no | no |

use std::collections::BTreeMap;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// System calls, each with what must be true of its arguments for it to be forbidden.
type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// A system call that gives something up failed.
    #[error("giving up {0}: {1}")]
    Refused(&'static str, #[source] io::Error),
    /// The filter of system calls could not be made or set.
    #[error("the filter of system calls: {0}")]
    Filter(#[from] seccompiler::Error),
    /// The filter could not be compiled.
    #[error("the filter of system calls: {0}")]
    Compile(#[from] seccompiler::BackendError),
}

/// The capabilities that the agent keeps, where it has them.
///
/// BPF, PERFMON, NET_ADMIN: the hooks, their maps, ending connections (`SOCK_DESTROY`). SYS_ADMIN: a
/// bpffs of its own, and listeners in workloads' network namespaces (setns). DAC_READ_SEARCH, SYS_PTRACE:
/// cgroups by their id (open_by_handle_at), and namespaces of processes of other users.
pub const KEPT: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_PTRACE);

/// The highest capability there can be: the sets have 64 bits.
const CAPABILITY_MAX: u32 = 63;

/// What no thread of the agent ever asks the kernel for.
const NEVER: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
];

/// What a worker never asks for besides: it has its sockets, and makes more of them. `tgkill` stays: a thread
/// that panics while it panics aborts by it.
const NEVER_IN_WORKERS: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fsetxattr,
    libc::SYS_ftruncate,
    libc::SYS_io_uring_setup,
    libc::SYS_kill,
    libc::SYS_linkat,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setns,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_symlinkat,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umount2,
    libc::SYS_unlinkat,
    libc::SYS_unshare,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Gives up what the agent as a whole does not need.
///
/// # Errors
/// When something cannot be given up.
pub fn process() -> Result<(), ConfinementError> {
    let refused =
        |what| move |error: rustix::io::Errno| ConfinementError::Refused(what, error.into());
    // Before Linux 6.4 rustix reads them from /proc/self/auxv, which is root's once the process leaves no dumps:
    // an agent without root would end at the first look at its own memory. They are read once.
    rustix::param::page_size();
    // Keys of stores and passwords are in its memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("core dumps"))?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused("core dumps"))?;
    set_no_new_privs(true).map_err(refused("new privileges"))?;
    keep(KEPT)?;
    filter(always(NEVER))
}

/// Gives up what a thread that reads what apps send does not need. `unix_sockets`: Valkey is reached over one;
/// otherwise none is made, since the machine's own services listen on them.
///
/// # Errors
/// When something cannot be given up.
pub fn worker(unix_sockets: bool) -> Result<(), ConfinementError> {
    keep(CapabilitySet::empty())?;
    let mut rules = always(NEVER_IN_WORKERS);
    let mut families = vec![libc::AF_INET, libc::AF_INET6];
    families.extend(unix_sockets.then_some(libc::AF_UNIX));
    let mut others = Vec::new();
    for family in families {
        let family = u64::from(family.unsigned_abs());
        others.push(SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            family,
        )?);
    }
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    filter(rules)
}

/// System calls whatever their arguments.
fn always(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// The calling thread keeps no capability but these.
fn keep(kept: CapabilitySet) -> Result<(), ConfinementError> {
    let refused =
        |error: rustix::io::Errno| ConfinementError::Refused("capabilities", error.into());
    let had = capabilities(None).map_err(refused)?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..=CAPABILITY_MAX {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // A number that this kernel does not have is an error, and nothing to give up.
            if !kept.contains(one) {
                let _ = remove_capability_from_bounding_set(one);
            }
        }
    }
    clear_ambient_capability_set().map_err(refused)?;
    let sets = CapabilitySets {
        effective: had.effective & kept,
        permitted: had.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(refused)
}

/// The calling thread, and those that it will start, may not make these system calls: `EPERM`.
fn filter(rules: Rules) -> Result<(), ConfinementError> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_opens_no_file_and_starts_no_thread() {
        // A thread of its own: nothing that it gives up comes back.
        let outcome = std::thread::spawn(|| {
            std::fs::read("/proc/self/stat").expect("before, it may");
            worker(false).expect("every thread may give rights up");
            let unix = std::os::unix::net::UnixStream::pair().map(|_| ());
            let local = std::os::unix::net::UnixDatagram::unbound().map_err(|e| e.raw_os_error());
            let file = std::fs::read("/proc/self/stat").map_err(|error| error.raw_os_error());
            let thread = std::thread::Builder::new().spawn(|| {});
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").map(|_| ());
            let left = capabilities(None)
                .expect("capabilities can be read")
                .permitted;
            (
                file,
                thread.map(|_| ()).map_err(|e| e.raw_os_error()),
                socket.is_ok() && unix.is_ok(),
                left,
                local.map(|_| ()),
            )
        });
        let (file, thread, socket, left, local) = outcome.join().expect("the thread ends");
        assert_eq!(file, Err(Some(libc::EPERM)));
        assert_eq!(thread, Err(Some(libc::EPERM)));
        assert!(socket, "sockets are a worker's work");
        assert_eq!(local, Err(Some(libc::EPERM)));
        assert!(left.is_empty());
    }
}
