//! Free ports for servers.
//!
//! Invariant: a reserved port is reserved for every bed on the machine until it is dropped, and
//! lies outside the ephemeral range, so that no client's own port can be it.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Result, bail};

/// Below this well-known services live.
const PORT_MIN: u16 = 10_000;
/// Some ports are taken by others; so many misses in a row mean that something else is wrong.
const TRIES_MAX: u32 = 200;

/// A port that no other bed takes.
#[derive(Debug)]
pub struct Reserved {
    number: u16,
    /// An abstract socket named after the port: the kernel lets only one process have it and
    /// takes it back however that process ends.
    _lock: UnixListener,
}

impl Reserved {
    /// The port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Reserves a port that nothing listens on, over IPv4 and IPv6.
///
/// # Errors
/// When none is found.
pub fn reserve() -> Result<Reserved> {
    let below = ephemeral_start().max(PORT_MIN + 1_000);
    for _ in 0..TRIES_MAX {
        let random = RandomState::new().build_hasher().finish();
        let span = u64::from(below - PORT_MIN);
        let number = PORT_MIN + u16::try_from(random % span).unwrap_or(0);
        let name = SocketAddr::from_abstract_name(format!("flect-port-{number}"))?;
        let Ok(lock) = UnixListener::bind_addr(&name) else {
            continue;
        };
        if is_free(number) {
            return Ok(Reserved {
                number,
                _lock: lock,
            });
        }
    }
    bail!("found no free port from {PORT_MIN} to {below}")
}

fn is_free(port: u16) -> bool {
    let v6_taken = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::AddrInUse,
    };
    !v6_taken && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn ephemeral_start() -> u16 {
    // Linux's own default where /proc does not tell.
    const DEFAULT: u16 = 32_768;
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ() {
        let all: Vec<_> = (0..20).map(|_| reserve().unwrap()).collect();
        let mut numbers: Vec<_> = all.iter().map(Reserved::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }
}
