//! The agent's listening sockets, one pair per network namespace.
//!
//! A socket belongs to the namespace and the cgroup it was made in, for life. So a listener is made by
//! a thread of its own that enters the namespace and ends there: no thread that goes on to do anything
//! else is ever in a foreign namespace.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::kernel;
use crate::weakened::{Weakness, has};

/// As many connections as the kernel's own default lets wait (`net.core.somaxconn`), which caps it:
/// apps reconnect all at once when the agent comes back.
const BACKLOG: i32 = 4096;

/// The listeners of a namespace.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) netns_cookie: u64,
    pub(super) v4: Option<TcpListener>,
    /// None where the namespace has no IPv6 loopback.
    pub(super) v6: Option<TcpListener>,
}

/// Opens listeners in the current namespace, but for those that are there already.
pub(super) fn open_here(port: u16, inherited: &mut Vec<TcpListener>) -> io::Result<Listeners> {
    let probe = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let netns_cookie = kernel::netns_cookie(probe.as_fd())?;
    let mut take = |address: SocketAddr| {
        inherited
            .iter()
            .position(|listener| {
                is_listening(listener, address)
                    && kernel::netns_cookie(listener.as_fd()).is_ok_and(|own| own == netns_cookie)
            })
            .map(|index| inherited.swap_remove(index))
    };
    if !has(Weakness::ReservedPort) {
        reserve(port)?;
    }
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let (inherited_v4, inherited_v6) = (take(v4), take(v6));
    Ok(Listeners {
        netns_cookie,
        v4: Some(match inherited_v4 {
            Some(listener) => listener,
            None => listen(v4)?,
        }),
        v6: match inherited_v6 {
            Some(listener) => Some(listener),
            None => match listen(v6) {
                Ok(listener) => Some(listener),
                // Built without, or switched off for the loopback device.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                    ) =>
                {
                    None
                }
                Err(error) => return Err(error),
            },
        },
    })
}

/// Whether connections to an address still come in at this socket.
fn is_listening(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|local| local == address)
        && SockRef::from(listener).is_listener().unwrap_or(false)
}

/// A predecessor's listeners of other namespaces than this process's own, with what names each namespace
/// ([`kernel::netns_inode`]). What is not one for this port, or was shut down, is dropped.
pub(super) fn adopt(
    port: u16,
    own_cookie: u64,
    inherited: &mut Vec<TcpListener>,
) -> io::Result<Vec<(Listeners, u64)>> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut found: HashMap<u64, (Listeners, u64)> = HashMap::new();
    for listener in inherited.drain(..) {
        let netns_cookie = kernel::netns_cookie(listener.as_fd())?;
        let is_v4 = is_listening(&listener, v4);
        if netns_cookie == own_cookie || !is_v4 && !is_listening(&listener, v6) {
            continue;
        }
        let inode = kernel::netns_inode(listener.as_fd())?;
        let none = || {
            let listeners = Listeners {
                netns_cookie,
                v4: None,
                v6: None,
            };
            (listeners, inode)
        };
        let (listeners, _) = found.entry(netns_cookie).or_insert_with(none);
        let place = if is_v4 {
            &mut listeners.v4
        } else {
            &mut listeners.v6
        };
        *place = Some(listener);
    }
    Ok(found.into_values().collect())
}

/// Keeps the kernel from giving the port away by itself, to a socket that listens or connects without bind: no
/// hook sees that. It matters only where the namespace's range of such ports holds it, which is rare, so the
/// namespace is left alone otherwise.
fn reserve(port: u16) -> io::Result<()> {
    // Both are of the thread's own namespace (`net_ctl_root` in net/sysctl_net.c).
    let range = std::fs::read_to_string(PORT_RANGE)?;
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return Err(io::Error::other(format!("{PORT_RANGE} holds no range")));
    };
    if !(first..=last).contains(&port) {
        return Ok(());
    }
    let reserved = std::fs::read_to_string(RESERVED_PORTS)?;
    let reserved = reserved.trim();
    if holds(reserved, port) {
        return Ok(());
    }
    let separator = if reserved.is_empty() { "" } else { "," };
    std::fs::write(RESERVED_PORTS, format!("{reserved}{separator}{port}"))
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Whether a list such as `1-3,7` holds a port.
fn holds(list: &str, port: u16) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let ends = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        matches!(ends, (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

/// Opens listeners in another namespace (`/proc/PID/ns/net`), unless `is_known` says that its cookie
/// has some.
pub(super) fn open_in(
    namespace: File,
    port: u16,
    is_known: impl Fn(u64) -> bool + Send + 'static,
) -> io::Result<Option<Listeners>> {
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let probe = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            if is_known(kernel::netns_cookie(probe.as_fd())?) {
                return Ok(None);
            }
            open_here(port, &mut Vec::new()).map(Some)
        })?
        .join()
        .map_err(|_| io::Error::other("the thread that opens listeners panicked"))?
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // The connections of a predecessor linger in TIME_WAIT on this address.
    socket.set_reuse_address(true)?;
    // A container's loopback may not be up yet when its runtime announces it: the address is its own
    // from then on.
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    kernel::forbid_fast_open(socket.as_fd())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn lists_of_ports_are_understood() {
        for (list, port, held) in [
            ("", 1, false),
            ("7", 7, true),
            ("1-3,7", 2, true),
            ("1-3,7", 7, true),
            ("1-3,7", 5, false),
            ("70", 7, false),
        ] {
            assert_eq!(holds(list, port), held, "{list:?} {port}");
        }
    }
}
