//! The agent's listening sockets, one pair per network namespace.
//!
//! A socket belongs to the namespace and the cgroup it was made in, for life. So a listener is made by
//! a thread of its own that enters the namespace and ends there: no thread that goes on to do anything
//! else is ever in a foreign namespace.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::kernel;

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
                listener.local_addr().is_ok_and(|local| local == address)
                    && kernel::netns_cookie(listener.as_fd()).is_ok_and(|own| own == netns_cookie)
            })
            .map(|index| inherited.swap_remove(index))
    };
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
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    kernel::forbid_fast_open(socket.as_fd())?;
    Ok(socket.into())
}
