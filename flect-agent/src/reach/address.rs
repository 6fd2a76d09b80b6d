//! One place where the shared Valkey listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::tls::Tls;

/// One address of the shared Valkey, as the agent connects to it.
#[derive(Clone, Debug)]
pub enum UpstreamAddress {
    /// Over the network.
    Tcp(SocketAddr),
    /// The same, encrypted, with the name that the server must prove.
    Tls(SocketAddr, Arc<Tls>),
    /// A unix socket of a Valkey on this machine. Who may listen on it, the folder's rights say, so no app
    /// can take the place of a Valkey that is down.
    Unix(Arc<Path>),
}

impl UpstreamAddress {
    /// Where it is, unless it is a unix socket.
    #[must_use]
    pub fn over_network(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// By where they lead: certificates may be renewed.
impl PartialEq for UpstreamAddress {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) | (Self::Tls(a, _), Self::Tls(b, _)) => a == b,
            (Self::Unix(a), Self::Unix(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for UpstreamAddress {}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
