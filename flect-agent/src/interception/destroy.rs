//! Ends connections that managed workloads had to the intercepted addresses before the hooks came.
//!
//! The egress guard keeps them from getting anything through, but their apps would wait for minutes
//! before TCP gives up. SOCK_DESTROY (sock_diag(7)) makes them fail at once with ECONNABORTED, so that
//! they reconnect, through the hooks. Kernels without CONFIG_INET_DIAG_DESTROY leave it at the guard.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::cgroup::CgroupId;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// NLM_F_ROOT | NLM_F_MATCH
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// Every state of a connection: not TIME_WAIT (6), CLOSE (7) and LISTEN (10).
const CONNECTED_STATES: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10);
/// Attribute of a reply: the socket's cgroup (5.9).
const INET_DIAG_CGROUP_ID: u16 = 21;

/// Sizes of `nlmsghdr`, `inet_diag_sockid`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
const ID: usize = 48;
const REQUEST: usize = 8 + ID;
const REPLY: usize = 72;
/// The kernel fills up to 32 KiB of a dump into one read (netlink_dump).
const READ_BYTES: usize = 32 * 1024;

/// A connection as the kernel lists it.
struct Connection {
    family: u8,
    /// `inet_diag_sockid`, which names it in a request to destroy it.
    id: [u8; ID],
    peer: IpAddr,
    peer_port: u16,
    cgroup: CgroupId,
}

/// Ends the connections of the current network namespace that `is_old` chooses by peer and cgroup;
/// returns how many.
pub(super) fn connections(is_old: impl Fn(IpAddr, u16, CgroupId) -> bool) -> io::Result<usize> {
    let diag = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut destroyed = 0;
    for family in [AF_INET, AF_INET6] {
        for connection in list(&diag, family)? {
            if is_old(connection.peer, connection.peer_port, connection.cgroup) {
                match destroy(&diag, &connection) {
                    Ok(()) => destroyed += 1,
                    // It ended by itself meanwhile.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(destroyed)
}

fn list(diag: &OwnedFd, family: u8) -> io::Result<Vec<Connection>> {
    let request = message(
        SOCK_DIAG_BY_FAMILY,
        NLM_F_REQUEST | NLM_F_DUMP,
        family,
        &[0; ID],
    );
    send(diag, &request, SendFlags::empty())?;
    let mut found = Vec::new();
    loop {
        let mut buffer = vec![0; READ_BYTES];
        let (read, _) = recv(diag, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = &buffer[..read];
        while let Some((kind, payload, after)) = split_message(rest) {
            rest = after;
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => error_of(payload)?,
                _ => found.extend(parse(payload)),
            }
        }
    }
}

fn destroy(diag: &OwnedFd, connection: &Connection) -> io::Result<()> {
    let request = message(
        SOCK_DESTROY,
        NLM_F_REQUEST | NLM_F_ACK,
        connection.family,
        &connection.id,
    );
    send(diag, &request, SendFlags::empty())?;
    let mut buffer = vec![0; READ_BYTES];
    let (read, _) = recv(diag, buffer.as_mut_slice(), RecvFlags::empty())?;
    match split_message(&buffer[..read]) {
        Some((NLMSG_ERROR, payload, _)) => error_of(payload),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn message(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(CONNECTED_STATES.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The first message's kind and payload, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, payload, after))
}

/// `nlmsgerr`: a negative errno, or 0 for an acknowledgement.
fn error_of(payload: &[u8]) -> io::Result<()> {
    let errno = payload
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(-libc::EPROTO, i32::from_ne_bytes);
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-errno))
    }
}

/// `inet_diag_msg` and its attributes. A kernel that does not tell the cgroup gives nothing to go by.
fn parse(payload: &[u8]) -> Option<Connection> {
    let family = *payload.first()?;
    let id: [u8; ID] = payload.get(4..4 + ID)?.try_into().ok()?;
    let peer_port = u16::from_be_bytes([id[2], id[3]]);
    let address: [u8; 16] = id[20..36].try_into().ok()?;
    let peer = if family == AF_INET {
        IpAddr::V4(Ipv4Addr::new(
            address[0], address[1], address[2], address[3],
        ))
    } else {
        IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
    };
    let mut attributes = payload.get(REPLY..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == INET_DIAG_CGROUP_ID {
            let cgroup = u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?);
            return Some(Connection {
                family,
                id,
                peer,
                peer_port,
                cgroup: CgroupId(cgroup),
            });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}
