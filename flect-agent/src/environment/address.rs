//! Where the shared Valkey is reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// One address of the shared Valkey, as the agent connects to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Over the network.
    Tcp(SocketAddr),
    /// A unix socket of a Valkey on this machine. Who may listen on it, the folder's rights say, so no app
    /// can take the place of a Valkey that is down.
    Unix(Arc<Path>),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
