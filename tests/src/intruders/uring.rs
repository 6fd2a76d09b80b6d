//! io_uring's own way to make and connect a socket, which enters the kernel without connect(2).

#![expect(unsafe_code, reason = "io_uring is shared memory and system calls")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

use anyhow::{Context, Result, ensure};
use socket2::{SockAddr, Socket};

use super::ground::{Answer, Ground, ask, tcp};

const IORING_OP_CONNECT: u8 = 16;
const IORING_OP_SOCKET: u8 = 45;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_OFF_SQES: i64 = 0x1000_0000;

/// `struct io_uring_params`: flags, features and the offsets of the two rings, as words.
#[repr(C)]
#[derive(Default)]
struct Parameters([u32; 30]);

/// One ring, mapped whole; unmapped with the process.
struct Ring {
    fd: OwnedFd,
    ring: *mut u8,
    entries: *mut u8,
    parameters: Parameters,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut parameters = Parameters::default();
        // SAFETY: the parameters are valid for the size that the kernel writes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, &raw mut parameters) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // Both rings are in one mapping since 5.4 (IORING_FEAT_SINGLE_MMAP); a page holds four entries.
        let map = |bytes: usize, offset: i64| -> io::Result<*mut u8> {
            // SAFETY: a new mapping touches nothing that is there.
            let at = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_POPULATE,
                    fd.as_raw_fd(),
                    offset,
                )
            };
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(at.cast())
        };
        let (ring, entries) = (map(4096, 0)?, map(4096, IORING_OFF_SQES)?);
        Ok(Self {
            fd,
            ring,
            entries,
            parameters,
        })
    }

    /// Submits one operation and waits for its result.
    fn run(
        &mut self,
        operation: u8,
        fd: i32,
        offset: u64,
        address: u64,
        length: u32,
    ) -> io::Result<i32> {
        let words = &self.parameters.0;
        // sq_off begins at word 10 (head, tail, ring_mask, ring_entries, flags, dropped, array), cq_off
        // at word 20 (head, tail, ring_mask, ring_entries, overflow, cqes).
        let (sq_tail, sq_mask, sq_array) = (words[11], words[12], words[16]);
        let (cq_head, cq_mask, cq_entries) = (words[20], words[22], words[25]);
        let at = |offset: u32| -> *mut u32 {
            // SAFETY: the kernel's offsets lie in the mapping.
            unsafe { self.ring.add(offset as usize).cast() }
        };
        // SAFETY: the mappings live, and the kernel looks at them only in io_uring_enter.
        unsafe {
            let tail = at(sq_tail).read_volatile();
            let index = tail & at(sq_mask).read_volatile();
            let entry = self.entries.add(index as usize * 64);
            entry.write_bytes(0, 64);
            entry.write(operation);
            entry.add(4).cast::<i32>().write(fd);
            entry.add(8).cast::<u64>().write(offset);
            entry.add(16).cast::<u64>().write(address);
            entry.add(24).cast::<u32>().write(length);
            at(sq_array).add(index as usize).write_volatile(index);
            at(sq_tail).write_volatile(tail.wrapping_add(1));
            let entered = libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                1,
                1,
                IORING_ENTER_GETEVENTS,
                ptr::null::<u8>(),
                0,
            );
            if entered < 0 {
                return Err(io::Error::last_os_error());
            }
            let head = at(cq_head).read_volatile();
            let slot = head & at(cq_mask).read_volatile();
            let result = at(cq_entries + slot * 16 + 8).cast::<i32>().read_volatile();
            at(cq_head).write_volatile(head.wrapping_add(1));
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            Ok(result)
        }
    }

    fn connect(&mut self, socket: &Socket, to: &SockAddr) -> io::Result<i32> {
        self.run(
            IORING_OP_CONNECT,
            socket.as_raw_fd(),
            u64::from(to.len()),
            to.as_ptr() as u64,
            0,
        )
    }

    fn socket(&mut self) -> io::Result<Socket> {
        let made = self.run(
            IORING_OP_SOCKET,
            libc::AF_INET,
            libc::SOCK_STREAM as u64,
            0,
            libc::IPPROTO_TCP as u32,
        )?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(unsafe { Socket::from_raw_fd(made) })
    }
}

/// Connects a socket made by socket(2), then one made by the ring itself.
pub(super) fn connects(ground: &Ground) -> Result<Answer> {
    let to = ground.valkey();
    let mut ring = match Ring::new() {
        Ok(ring) => ring,
        Err(error) => {
            // Not built in, or switched off (kernel.io_uring_disabled, 6.6).
            let errno = error.raw_os_error().context("an errno")?;
            ensure!([libc::ENOSYS, libc::EPERM].contains(&errno), "{error}");
            return Ok(Answer::Absent(error.to_string()));
        }
    };
    let address = SockAddr::from(to);
    let socket = tcp(to)?;
    let connected = ring.connect(&socket, &address);
    let first = Answer::of(connected.and_then(|_| ask(&socket)));
    if first != Answer::Served(super::APP.to_owned()) {
        return Ok(first);
    }
    match ring.socket() {
        Ok(socket) => {
            let connected = ring.connect(&socket, &address);
            Ok(Answer::of(connected.and_then(|_| ask(&socket))))
        }
        // Before 5.19 the ring makes no sockets.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(first),
        Err(error) => Err(error.into()),
    }
}
