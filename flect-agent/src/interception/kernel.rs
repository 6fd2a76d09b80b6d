//! The calls of bpf(2) and of sockets that aya and rustix have no safe form of.
//!
//! Links are made here and not by aya, whose link types detach when dropped: ours hold for as long as
//! they are pinned or their descriptor is open, which is just what a descriptor says.

#![expect(unsafe_code, reason = "bpf(2) and getsockopt(2) take raw memory")]

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// `enum bpf_attach_type` of include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum AttachType {
    Egress = 1,
    SockCreate = 2,
    SockOps = 3,
    SkMsgVerdict = 7,
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    Getpeername4 = 29,
    Getpeername6 = 30,
}

/// `enum bpf_cmd`.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapGetNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    ProgAttach = 8,
    ObjGetInfoByFd = 15,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// `union bpf_attr`, seen as words: each call below fills the fields of its command. The kernel takes
/// any size and asks for zeroes behind what it knows.
#[repr(C, align(8))]
struct Attr([u32; 12]);

impl Attr {
    const fn new() -> Self {
        Self([0; 12])
    }

    fn with(mut self, word: usize, value: u32) -> Self {
        self.0[word] = value;
        self
    }

    /// A pointer fills two words, the low one first (little-endian machines only).
    fn with_pointer<T>(mut self, word: usize, pointer: *const T) -> Self {
        let address = pointer as u64;
        self.0[word] = address as u32;
        self.0[word + 1] = (address >> 32) as u32;
        self
    }

    fn with_fd(self, word: usize, fd: BorrowedFd<'_>) -> Self {
        // Descriptors are never negative.
        self.with(word, fd.as_raw_fd().cast_unsigned())
    }
}

const _: () = assert!(cfg!(target_endian = "little"));

/// # Safety
/// Pointers in `attr` are valid for what the command does with them.
unsafe fn bpf(command: Command, attr: &mut Attr) -> io::Result<i64> {
    // SAFETY: the caller vouches for the pointers inside; attr itself is valid for its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<Attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup. Links always let other programs stand beside them.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    let mut attr = Attr::new()
        .with_fd(0, program)
        .with_fd(1, cgroup)
        .with(2, attach_type as u32);
    // SAFETY: no pointers.
    owned(unsafe { bpf(Command::LinkCreate, &mut attr) }?)
}

/// Puts another program in a link's place, in one step.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new().with_fd(0, link).with_fd(1, program);
    // SAFETY: no pointers.
    unsafe { bpf(Command::LinkUpdate, &mut attr) }.map(drop)
}

/// Detaches a link's program at once. Without it the kernel does so some time after the last reference
/// is gone (`bpf_link_put` leaves it to a worker).
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new().with_fd(0, link);
    // SAFETY: no pointers.
    unsafe { bpf(Command::LinkDetach, &mut attr) }.map(drop)
}

/// Attaches a program to a map of sockets. It holds until the map has no user left: pin the map.
pub(super) fn attach_to_map(
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<()> {
    let mut attr = Attr::new()
        .with_fd(0, map)
        .with_fd(1, program)
        .with(2, attach_type as u32);
    // SAFETY: no pointers.
    unsafe { bpf(Command::ProgAttach, &mut attr) }.map(drop)
}

pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::new()
        .with_pointer(0, path.as_ptr())
        .with_fd(2, object);
    // SAFETY: the path lives until the call returns.
    unsafe { bpf(Command::ObjPin, &mut attr) }.map(drop)
}

pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::new().with_pointer(0, path.as_ptr());
    // SAFETY: the path lives until the call returns.
    owned(unsafe { bpf(Command::ObjGet, &mut attr) }?)
}

/// The id of the cgroup that a link is attached to; 0 when that cgroup was removed.
pub(super) fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    // `struct bpf_link_info`: type, id, prog_id, padding, then for cgroups cgroup_id and attach_type.
    let mut info = [0u64; 8];
    let mut attr = Attr::new()
        .with_fd(0, link)
        .with(1, size_of_val(&info) as u32)
        .with_pointer(2, info.as_mut_ptr());
    // SAFETY: info is valid for the size that is told.
    unsafe { bpf(Command::ObjGetInfoByFd, &mut attr) }?;
    Ok(info[2])
}

/// A type that is valid as any bytes and has no padding, so that it can travel to a map and back.
///
/// # Safety
/// That is so: integers in C layout, explicit padding.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: integers, or `repr(C)` structures of integers whose sizes flect-ebpf asserts.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above; a socket descriptor, the key of a socket storage.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for flect_ebpf::Config {}
// SAFETY: as above.
unsafe impl Plain for flect_ebpf::Memory {}
// SAFETY: as above.
unsafe impl Plain for flect_ebpf::Namespace {}
// SAFETY: as above.
unsafe impl Plain for flect_ebpf::PendingKey {}
// SAFETY: as above.
unsafe impl Plain for NetworkKey {}

/// The key of the map NETWORKS, a `struct bpf_lpm_trie_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetworkKey {
    pub(super) prefix_bits: u32,
    pub(super) address: flect_ebpf::Address,
}

/// A map with keys of K and values of V.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Takes a map whose sizes are those of the types.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        // `struct bpf_map_info`: type, id, key_size, value_size, max_entries, ...
        let mut info = [0u32; 16];
        let mut attr = Attr::new()
            .with_fd(0, fd.as_fd())
            .with(1, size_of_val(&info) as u32)
            .with_pointer(2, info.as_mut_ptr());
        // SAFETY: info is valid for the size that is told.
        unsafe { bpf(Command::ObjGetInfoByFd, &mut attr) }?;
        let [_, _, key_bytes, value_bytes, ..] = info;
        if (key_bytes as usize, value_bytes as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::other(format!(
                "its keys have {key_bytes} bytes and its values {value_bytes}, not {} and {}",
                size_of::<K>(),
                size_of::<V>()
            )));
        }
        Ok(Self {
            fd,
            types: PhantomData,
        })
    }

    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        // SAFETY: V is valid as any bytes.
        let mut value: V = unsafe { zeroed() };
        let mut attr = self.element(key).with_pointer(4, &raw mut value);
        // SAFETY: `new` has compared the sizes.
        absent_is_none(unsafe { bpf(Command::MapLookup, &mut attr) })
            .map(|found| found.map(|_| value))
    }

    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        let mut attr = self.element(key).with_pointer(4, std::ptr::from_ref(value));
        // SAFETY: as above.
        unsafe { bpf(Command::MapUpdate, &mut attr) }.map(drop)
    }

    /// Whether there was something to remove.
    pub(super) fn remove(&self, key: &K) -> io::Result<bool> {
        // SAFETY: as above.
        absent_is_none(unsafe { bpf(Command::MapDelete, &mut self.element(key)) })
            .map(|found| found.is_some())
    }

    /// All keys, as they are while nobody else writes; more than the map can hold are never returned.
    pub(super) fn keys(&self, entries_max: usize) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        while keys.len() < entries_max {
            // SAFETY: K is valid as any bytes.
            let mut next: K = unsafe { zeroed() };
            let mut attr = Attr::new()
                .with_fd(0, self.fd.as_fd())
                .with_pointer(4, &raw mut next);
            if let Some(last) = keys.last() {
                attr = attr.with_pointer(2, std::ptr::from_ref(last));
            }
            // SAFETY: `new` has compared the sizes; no key asks for the first one.
            match absent_is_none(unsafe { bpf(Command::MapGetNextKey, &mut attr) })? {
                Some(_) => keys.push(next),
                None => break,
            }
        }
        Ok(keys)
    }

    fn element(&self, key: &K) -> Attr {
        Attr::new()
            .with_fd(0, self.fd.as_fd())
            .with_pointer(2, std::ptr::from_ref(key))
    }
}

fn absent_is_none(result: io::Result<i64>) -> io::Result<Option<i64>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `SO_NETNS_COOKIE` (5.14): which network namespace a socket lives in.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    /// include/uapi/asm-generic/socket.h; libc does not have it for every target.
    const SO_NETNS_COOKIE: i32 = 71;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: cookie is valid for the length that is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// The inode of a socket's network namespace on nsfs, by which `/proc/PID/ns/net` names it too (`SIOCGSKNS`, 4.9:
/// `sock_ioctl` in net/socket.c; it asks for CAP_NET_ADMIN).
pub(super) fn netns_inode(socket: BorrowedFd<'_>) -> io::Result<u64> {
    /// include/uapi/linux/sockios.h; libc does not have it for every target.
    const SIOCGSKNS: libc::c_ulong = 0x894C;
    // SAFETY: the request takes no argument and gives a new descriptor.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(std::fs::File::from(namespace).metadata()?.ino())
}

/// Keeps a listener from taking data in the SYN, also where `net.ipv4.tcp_fastopen` gives it to every
/// listener: identity is published only when the handshake is done. Call it after `listen`.
pub(super) fn forbid_fast_open(listener: BorrowedFd<'_>) -> io::Result<()> {
    let queue: libc::c_int = 0;
    // SAFETY: queue is valid for the size that is told.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const queue).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Borrows a descriptor from its owner, where a library tells it only as a number.
pub(super) fn borrow<T>(fd: i32, _owner: &T) -> Option<BorrowedFd<'_>> {
    // SAFETY: the owner keeps the descriptor open for as long as it is borrowed.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Segments with data that a socket has sent through TCP (`tcpi_data_segs_out`, 4.6).
pub(super) fn data_segments_sent(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct tcp_info` as words up to that field, which libc does not have for every target.
    let mut info = [0u32; 40];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: info is valid for the length that is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info[39])
}
