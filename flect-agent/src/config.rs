//! The configuration file `agent.toml` as validated types.
//!
//! Text becomes types once, here: whatever holds a [`Config`] need not check it again. Every
//! mistake is reported with its line and column, unknown keys included.

pub mod environments;
mod pattern;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

pub use pattern::{CgroupPattern, InvalidPattern};

use crate::interception::Acceleration;
use crate::store::Slug;

/// Where the configuration is looked for unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/flect/agent.toml";

/// The whole of `agent.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The shared Valkey as the agent reaches it.
    pub valkey: Valkey,
    /// Which connections the kernel hands over.
    #[serde(default)]
    pub intercept: Intercept,
    /// The daemon itself.
    #[serde(default)]
    pub agent: Agent,
    /// The apps of this node.
    #[serde(default, rename = "app")]
    pub apps: Vec<App>,
}

/// `[valkey]`: endpoint and operator credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Valkey {
    /// What people call this environment, `flect --env` included.
    #[serde(default = "default_environment")]
    pub environment: String,
    /// `host:port`; a name is looked up when the agent starts.
    pub address: Endpoint,
    /// A user who may administer users (`ACL SETUSER`) and read the registry.
    #[serde(default = "default_user")]
    pub user: String,
    /// A file that holds the user's password and nothing else; nobody but its owner and group may
    /// read it.
    pub password_file: Option<PathBuf>,
}

/// `[intercept]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intercept {
    /// The managed root: the cgroup, as a path below the cgroup v2 mount, under which apps live.
    pub cgroup: CgroupPath,
    /// Intercepted destinations; empty means the addresses of `valkey.address`.
    pub addresses: Vec<Network>,
    /// Intercepted destination ports; empty means the port of `valkey.address`.
    pub ports: Vec<u16>,
    /// The agent's own port on loopback.
    pub listen_port: u16,
    /// Whether `sk_msg` carries bytes past TCP/IP.
    pub acceleration: Acceleration,
    /// The folder of the pinned programs, links and maps; on a bpffs.
    pub pin: PathBuf,
}

/// `[agent]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// A cgroup that the agent creates and joins; without it the agent stays where it was started,
    /// unless that is the root.
    pub cgroup: Option<CgroupPath>,
    /// Event loops; 0 means one per core.
    pub workers: usize,
    /// The control socket that `flect` talks to.
    pub socket: PathBuf,
}

/// `[[app]]`: a workload and the stores bound to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The app's name, for people.
    pub name: String,
    /// Patterns of cgroup paths; whatever runs at or below one of them is this app.
    pub cgroups: Vec<CgroupPattern>,
    /// Bound stores; the first is the one that a connection gets if it does not name another.
    pub stores: Vec<Slug>,
}

/// The agent's port unless the config says otherwise: outside the ephemeral range and
/// Kubernetes' NodePort range (30000-32767), which Cilium translates on loopback too.
pub const LISTEN_PORT_DEFAULT: u16 = 15379;

fn default_environment() -> String {
    "default".to_owned()
}

fn default_user() -> String {
    "default".to_owned()
}

impl Default for Intercept {
    fn default() -> Self {
        Self {
            cgroup: CgroupPath("/".into()),
            addresses: Vec::new(),
            ports: Vec::new(),
            listen_port: LISTEN_PORT_DEFAULT,
            acceleration: Acceleration::Auto,
            pin: "/sys/fs/bpf/flect".into(),
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            cgroup: None,
            workers: 0,
            socket: "/run/flect/agent.sock".into(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The text is no valid configuration; the message names line and column.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// When it cannot be read or is not valid; nothing is half accepted.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(&text).map_err(|message| ConfigError::Invalid {
            path: path.to_owned(),
            message,
        })
    }

    /// Validates the text of a configuration.
    ///
    /// # Errors
    /// A message for people that names line and column where the mistake has a place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.check()?;
        Ok(config)
    }

    /// What no single value shows.
    fn check(&self) -> Result<(), String> {
        if self.intercept.listen_port == 0 {
            return Err("intercept.listen_port: 0 is no port to listen on".to_owned());
        }
        if self.intercept_ports().contains(&self.intercept.listen_port) {
            return Err(format!(
                "intercept.listen_port: {} is intercepted itself; choose another port",
                self.intercept.listen_port
            ));
        }
        for (index, app) in self.apps.iter().enumerate() {
            if app.cgroups.is_empty() || app.stores.is_empty() {
                return Err(format!(
                    "app '{}': give it at least one of cgroups and one of stores",
                    app.name
                ));
            }
            if self.apps[..index]
                .iter()
                .any(|other| other.name == app.name)
            {
                return Err(format!("app '{}' is there twice", app.name));
            }
        }
        Ok(())
    }

    /// Intercepted ports with the default filled in.
    #[must_use]
    pub fn intercept_ports(&self) -> Vec<u16> {
        if self.intercept.ports.is_empty() {
            vec![self.valkey.address.port]
        } else {
            self.intercept.ports.clone()
        }
    }

    /// Intercepted networks with the default filled in, which may ask the resolver.
    ///
    /// # Errors
    /// When `valkey.address` is a name that cannot be resolved.
    pub fn intercept_networks(&self) -> std::io::Result<Vec<IpNet>> {
        if self.intercept.addresses.is_empty() {
            let addresses = self.valkey.address.resolve()?;
            if addresses.iter().any(|address| address.ip().is_loopback()) {
                return Ok(loopback().to_vec());
            }
            Ok(addresses.into_iter().map(|a| IpNet::from(a.ip())).collect())
        } else {
            Ok(self.intercept.addresses.iter().map(|n| n.0).collect())
        }
    }
}

/// All of loopback: a Valkey that listens on every address answers on each of these.
fn loopback() -> [IpNet; 2] {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    [v4.into(), IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST))]
}

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

#[cfg(test)]
mod tests;
