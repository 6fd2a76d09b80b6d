//! The configuration file `agent.toml` as validated types.
//!
//! Text becomes types once, here: whatever holds a [`Config`] need not check it again. Every
//! mistake is reported with its line and column, unknown keys included.

mod addresses;
pub mod environments;
mod log;
mod metrics;
mod pattern;
mod principal;
mod reload;
mod sentinel;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

pub use addresses::{CgroupPath, Endpoint, Network, StatusPage};
pub use log::{Levels, Log, LogFormat};
pub use metrics::{Loopback, Metrics};
pub use pattern::{CgroupPattern, InvalidPattern};
pub use principal::Principal;
pub use sentinel::Sentinel;
pub use tls::Tls;

use crate::audit;
use crate::environment::Defaults;
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
    /// Ordinary listeners, for what the kernel does not hand over.
    #[serde(default)]
    pub explicit: Explicit,
    /// The daemon itself.
    #[serde(default)]
    pub agent: Agent,
    /// What each store may use on this node unless `flect kv set` says otherwise.
    #[serde(default)]
    pub limits: Defaults,
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
    /// A unix socket of the same Valkey on this machine, over which flect itself connects; `address` then
    /// only says what apps connect to.
    pub socket: Option<PathBuf>,
    /// A user who may administer users (`ACL SETUSER`) and read the registry.
    #[serde(default = "default_user")]
    pub user: String,
    /// A file that holds the user's password and nothing else; nobody but its owner and group may
    /// read it.
    pub password_file: Option<PathBuf>,
    /// Whether and how flect speaks TLS to it; apps never do.
    pub tls: Option<Tls>,
    /// The primary and its replicas, as flect reaches them: it finds the primary among them. `address` then only
    /// says what apps connect to.
    #[serde(default)]
    pub nodes: Vec<Endpoint>,
    /// The Sentinels that know the primary; the same then goes for `address`.
    pub sentinel: Option<Sentinel>,
    /// Nodes of a Valkey Cluster, of which flect learns the others; the same then goes for `address`.
    #[serde(default)]
    pub cluster: Vec<Endpoint>,
}

/// `[intercept]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intercept {
    /// Whether the kernel hands connections over at all; without it the agent needs no root, and
    /// `[explicit]` is the only way in.
    pub enabled: bool,
    /// The managed root: the cgroup, as a path below the cgroup v2 mount, under which apps live.
    pub cgroup: CgroupPath,
    /// Intercepted destinations; empty means the addresses of `valkey.address`, `valkey.nodes` and
    /// `valkey.cluster`.
    pub addresses: Vec<Network>,
    /// Intercepted destination ports; empty means the ports of `valkey.address`, `valkey.nodes` and `valkey.cluster`.
    pub ports: Vec<u16>,
    /// Destination ports at the same addresses that apps are refused; beside them the Sentinels' are, and the
    /// bus of a cluster.
    pub closed_ports: Vec<u16>,
    /// The agent's own port on loopback.
    pub listen_port: u16,
    /// Whether `sk_msg` carries bytes past TCP/IP.
    pub acceleration: Acceleration,
    /// The folder of the pinned programs, links and maps; on a bpffs.
    pub pin: PathBuf,
}

/// `[explicit]`: listeners on ordinary addresses, where a connection names a store and proves with
/// the store's token that it may use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Explicit {
    /// Where to listen; port 0 takes a free one, which `flect status` tells.
    pub listen: Vec<SocketAddr>,
    /// The certificate chain for TLS, a PEM file.
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key, a PEM file that not everybody may read.
    pub tls_key: Option<PathBuf>,
}

/// `[agent]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// A cgroup that the agent creates and joins; without it the agent stays where it was started,
    /// unless that is the root.
    pub cgroup: Option<CgroupPath>,
    /// Event loops; 0 means one per core.
    pub workers: usize,
    /// The control socket that `flect` talks to.
    pub socket: PathBuf,
    /// Whether the agent makes the stores that its apps are bound to and that do not exist, at its
    /// start.
    pub create_stores: bool,
    /// Who may ask the control socket for everything, beside root and the agent's own user.
    pub operators: Vec<Principal>,
    /// Seconds that sessions may take to leave an agent that another follows.
    pub drain_seconds: u32,
    /// Where the status page listens.
    pub status_page: StatusPage,
    /// Whether replies are searched for names of the server's own before they leave.
    pub integrity: bool,
    /// Where the audit log goes.
    pub audit: audit::Settings,
    /// What the agent's log looks like.
    pub log: Log,
    /// Where monitoring asks.
    pub metrics: Metrics,
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
    /// Who may run commands in the app with `flect run`, beside the operators.
    #[serde(default)]
    pub users: Vec<Principal>,
}

/// The name of the app that sessions of `[explicit]` belong to.
pub const EXPLICIT_APP: &str = "explicit";

/// As long as a DNS label, and a cgroup's name is shorter than a file's.
const NAME_BYTES_MAX: usize = 63;

const PLAIN_NAME: &str = "expected 1 to 63 letters, digits, '-' and '_'";

/// A name that may stand in a path and in a reply as it is.
fn is_plain_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
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

impl Valkey {
    /// A server at this address, as its default user without a password.
    #[must_use]
    pub fn at(address: Endpoint) -> Self {
        Self {
            environment: default_environment(),
            address,
            socket: None,
            user: default_user(),
            password_file: None,
            tls: None,
            nodes: Vec::new(),
            sentinel: None,
            cluster: Vec::new(),
        }
    }

    /// Whether its values go together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        let ways = [
            !self.nodes.is_empty(),
            self.sentinel.is_some(),
            !self.cluster.is_empty(),
        ];
        let ways = ways.into_iter().filter(|is_given| *is_given).count();
        if self.socket.is_some() && !(self.tls.is_none() && ways == 0) {
            return Err(
                "valkey.socket: it leads to one server and nothing is encrypted on it; leave it out, \
                 or valkey.tls, valkey.nodes, valkey.sentinel and valkey.cluster"
                    .to_owned(),
            );
        }
        if ways > 1 {
            return Err(
                "valkey.nodes, valkey.sentinel and valkey.cluster: choose who says where the primary is"
                    .to_owned(),
            );
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        match &self.sentinel {
            Some(sentinel) => sentinel.check(self.tls.is_some()),
            None => Ok(()),
        }
    }

    /// What apps connect to, and the nodes that they must not reach by themselves.
    fn apart(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.address)
            .chain(&self.nodes)
            .chain(&self.cluster)
    }

    /// Where flect connects, for people.
    #[must_use]
    pub fn reached_at(&self) -> String {
        let list = |places: &[Endpoint]| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            places.join(", ")
        };
        match (&self.socket, &self.sentinel) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(sentinel)) => {
                format!(
                    "{} by Sentinels {}",
                    sentinel.master,
                    list(&sentinel.addresses)
                )
            }
            (None, None) if !self.cluster.is_empty() => {
                format!("the cluster of {}", list(&self.cluster))
            }
            (None, None) if self.nodes.is_empty() => self.address.to_string(),
            (None, None) => list(&self.nodes),
        }
    }
}

impl Default for Intercept {
    fn default() -> Self {
        Self {
            enabled: true,
            cgroup: CgroupPath("/".into()),
            addresses: Vec::new(),
            ports: Vec::new(),
            closed_ports: Vec::new(),
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
            create_stores: false,
            operators: Vec::new(),
            drain_seconds: 30,
            status_page: StatusPage::default(),
            integrity: true,
            audit: audit::Settings::default(),
            log: Log::default(),
            metrics: Metrics::default(),
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
        if !is_plain_name(&self.valkey.environment) {
            return Err(format!(
                "valkey.environment: '{}' is no name: {PLAIN_NAME}",
                self.valkey.environment
            ));
        }
        self.valkey.check()?;
        self.check_listeners()?;
        self.agent.metrics.check()?;
        for (index, app) in self.apps.iter().enumerate() {
            if !is_plain_name(&app.name) || app.name == EXPLICIT_APP {
                return Err(format!(
                    "app '{}': its name names a cgroup as well: {PLAIN_NAME}, and not '{EXPLICIT_APP}'",
                    app.name
                ));
            }
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

    fn check_listeners(&self) -> Result<(), String> {
        if self.intercept.listen_port == 0 {
            return Err("intercept.listen_port: 0 is no port to listen on".to_owned());
        }
        if self.intercept_ports().contains(&self.intercept.listen_port) {
            return Err(format!(
                "intercept.listen_port: {} is intercepted itself; choose another port",
                self.intercept.listen_port
            ));
        }
        if self.closed_ports().contains(&self.intercept.listen_port) {
            return Err(format!(
                "intercept.listen_port: {} is closed to apps; choose another port",
                self.intercept.listen_port
            ));
        }
        let served = self.intercept_ports();
        let both = |port: &&u16| served.contains(port);
        if let Some(port) = self.intercept.closed_ports.iter().find(both) {
            return Err(format!("intercept.closed_ports: {port} is intercepted"));
        }
        if !self.intercept.enabled && self.explicit.listen.is_empty() {
            return Err(
                "intercept.enabled = false leaves no way in; give explicit.listen an address"
                    .to_owned(),
            );
        }
        if self.explicit.tls_certificate.is_some() != self.explicit.tls_key.is_some() {
            return Err("explicit.tls_certificate and explicit.tls_key: TLS needs both".to_owned());
        }
        Ok(())
    }

    /// Intercepted ports with the default filled in.
    #[must_use]
    pub fn intercept_ports(&self) -> Vec<u16> {
        if self.intercept.ports.is_empty() {
            let mut ports: Vec<u16> = self.valkey.apart().map(|place| place.port).collect();
            ports.sort_unstable();
            ports.dedup();
            ports
        } else {
            self.intercept.ports.clone()
        }
    }

    /// Ports at the intercepted addresses that apps are refused. Nobody has to prove who he is on the bus of a
    /// cluster: who reaches it may join, and take slots.
    #[must_use]
    pub fn closed_ports(&self) -> Vec<u16> {
        /// Where a node's bus listens, above its port, unless `cluster-port` says otherwise.
        const BUS_ABOVE: u16 = 10_000;
        let served = self.intercept_ports();
        let mut ports = self.intercept.closed_ports.clone();
        if !self.valkey.cluster.is_empty() {
            let ports_of_nodes = served.iter();
            ports.extend(ports_of_nodes.filter_map(|port| port.checked_add(BUS_ABOVE)));
        }
        if let Some(sentinel) = &self.valkey.sentinel {
            ports.extend(sentinel.addresses.iter().map(|place| place.port));
        }
        ports.retain(|port| !served.contains(port));
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Intercepted networks with the default filled in, which may ask the resolver.
    ///
    /// # Errors
    /// When `valkey.address` is a name that cannot be resolved.
    pub fn intercept_networks(&self) -> std::io::Result<Vec<IpNet>> {
        if self.intercept.addresses.is_empty() {
            let mut addresses = Vec::new();
            for place in self.valkey.apart() {
                addresses.extend(place.resolve()?);
            }
            if addresses.iter().any(|address| address.ip().is_loopback()) {
                return Ok(loopback().to_vec());
            }
            let mut networks: Vec<_> = addresses.iter().map(|a| IpNet::from(a.ip())).collect();
            networks.sort_unstable();
            networks.dedup();
            Ok(networks)
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

#[cfg(test)]
mod tests;
