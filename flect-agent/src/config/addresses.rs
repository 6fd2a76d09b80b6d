//! Addresses as the configuration writes them: endpoints, networks, cgroup paths, listeners.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use ipnet::IpNet;
use serde::Deserialize;

/// `host:port` of a Valkey.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint's addresses, in the resolver's order.
    ///
    /// # Errors
    /// What the resolver says.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(std::io::Error::other(format!("{self} has no address")));
        }
        Ok(addresses)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let complaint = || {
            format!(
                "'{text}' is no endpoint: expected host:port, such as 10.0.0.5:6379 or [::1]:6379"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(complaint)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(complaint)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6,
            None if host.contains(':') => return Err(complaint()),
            None => host,
        };
        if host.is_empty() {
            return Err(complaint());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An address or a network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(pub IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let whole = |address: IpAddr| Self(IpNet::from(address.to_canonical()));
        text.parse::<IpAddr>()
            .map(whole)
            .or_else(|_| text.parse::<IpNet>().map(|net| Self(net.trunc())))
            .map_err(|_| {
                format!(
                    "'{text}' is no address or network: expected 10.0.0.5, 10.0.0.0/24 or fd00::/8"
                )
            })
    }
}

/// A cgroup's path below the cgroup v2 mount; begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CgroupPath(pub String);

impl TryFrom<String> for CgroupPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "/" {
            return Ok(Self(text));
        }
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(plain) => Ok(Self(text)),
            _ => Err(format!(
                "'{text}' is no cgroup path: expected a path below the cgroup v2 mount, such as /system.slice"
            )),
        }
    }
}

/// Where the status page listens, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StatusPage(pub Option<SocketAddr>);

impl Default for StatusPage {
    fn default() -> Self {
        Self(Some(SocketAddr::from(([127, 0, 0, 1], STATUS_PAGE_PORT))))
    }
}

/// One above the agent's own port, so that the two are remembered together.
const STATUS_PAGE_PORT: u16 = 15380;

impl TryFrom<String> for StatusPage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match text.parse::<SocketAddr>() {
            // What it shows is the operator's business, and it speaks plain HTTP.
            Ok(address) if address.ip().is_loopback() => Ok(Self(Some(address))),
            _ => Err(format!(
                "'{text}' is no place for the status page: expected a loopback address and port, such as 127.0.0.1:{STATUS_PAGE_PORT}, or \"off\""
            )),
        }
    }
}
