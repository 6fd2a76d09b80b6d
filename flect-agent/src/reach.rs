//! How the shared Valkey is reached: by TCP, TLS or a unix socket.
//!
//! | file | holds |
//! | --- | --- |
//! | `address` | one place where a Valkey listens |
//! | `tls` | certificates, read once; who the server must be |
//! | `backoff` | how long a server is left alone that could not be reached |
//! | `dial` | a stream to such a place, for conversations that are not per request |
//! | `login` | whom flect logs in as |
//! | `primary` | where the primary of a replicated Valkey is |
//! | `hearing` | Sentinels that tell of another primary |
//! | `cluster` | which shard of a cluster has which slots |
//! | `link` | the operator's connection, which comes again by itself |
//! | `route` | the same in a cluster: which node a command is for |
//!
//! Invariant: files are read here and nowhere later, since workers may open none. Whatever holds an
//! [`UpstreamAddress`] has all that it takes to connect.

mod address;
mod backoff;
mod cluster;
mod dial;
mod hearing;
mod link;
mod login;
mod primary;
mod route;
mod tls;

use std::io;

use crate::config;
pub use address::UpstreamAddress;
pub use backoff::Backoff;
use cluster::Cluster;
pub use cluster::{Shard, Topology};
pub use dial::{Stream, dial};
pub use link::{Link, Times};
pub use login::{Login, PasswordFileError};
use primary::Sentinels;
pub use tls::{Tls, TlsError, Trust};

/// How flect reaches one Valkey.
#[derive(Clone, Debug)]
pub struct Reach {
    place: Place,
    trust: Option<Trust>,
}

/// Where to look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Socket(std::sync::Arc<std::path::Path>),
    One(config::Endpoint),
    /// One of these, which says so itself to the operator.
    Nodes(Vec<config::Endpoint>, Login),
    /// Where Sentinels say, and it says so itself to the operator.
    Told(Sentinels, Login),
    /// Shards, each with some of the slots.
    Cluster(Cluster),
    /// Just there: a node that a cluster has told of.
    At(UpstreamAddress),
}

/// Why a Valkey cannot be reached as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// A password cannot be had.
    #[error(transparent)]
    PasswordFile(#[from] PasswordFileError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Reach {
    /// As the configuration says. Certificates and password files are read.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn of(valkey: &config::Valkey) -> Result<Self, ReachError> {
        let login = Login::of_operator(valkey)?;
        let place = match (&valkey.socket, &valkey.sentinel) {
            (Some(path), _) => Place::Socket(path.as_path().into()),
            (None, Some(sentinel)) => {
                let sentinels = Sentinels {
                    master: sentinel.master.clone(),
                    addresses: sentinel.addresses.clone(),
                    login: Login::at_sentinels(sentinel)?,
                    tls: sentinel.tls.unwrap_or(valkey.tls.is_some()),
                };
                Place::Told(sentinels, login)
            }
            (None, None) if !valkey.cluster.is_empty() => {
                Place::Cluster(Cluster::new(valkey.cluster.clone(), login))
            }
            (None, None) if valkey.nodes.is_empty() => Place::One(valkey.address.clone()),
            (None, None) => Place::Nodes(valkey.nodes.clone(), login),
        };
        let trust = valkey.tls.as_ref().map(Trust::load).transpose()?;
        Ok(Self { place, trust })
    }

    /// One server at an address, plain or with TLS. Certificates are read.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn single(
        endpoint: config::Endpoint,
        tls: Option<&config::Tls>,
    ) -> Result<Self, ReachError> {
        Ok(Self {
            place: Place::One(endpoint),
            trust: tls.map(Trust::load).transpose()?,
        })
    }

    /// One node of the same cluster.
    #[must_use]
    pub fn at(&self, address: UpstreamAddress) -> Self {
        Self {
            place: Place::At(address),
            trust: self.trust.clone(),
        }
    }

    /// Which shard has which slots, asked anew; none where it is no cluster.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn topology(&self) -> io::Result<Option<Topology>> {
        match &self.place {
            Place::Cluster(cluster) => self.topology_of(cluster).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The address, where it is one that a cluster has told of.
    fn only_address(&self) -> Option<UpstreamAddress> {
        match &self.place {
            Place::At(address) => Some(address.clone()),
            _ => None,
        }
    }

    /// Whether it is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Where to connect, to be tried in turn. Names are looked up, each time anew. In a cluster it is where
    /// flect keeps what is its own.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn locate(&self) -> io::Result<Vec<UpstreamAddress>> {
        match &self.place {
            Place::Socket(path) => Ok(vec![UpstreamAddress::Unix(path.clone())]),
            Place::One(endpoint) => self.resolve(endpoint).await,
            Place::Nodes(nodes, login) => Ok(vec![self.primary_of(nodes, login).await?]),
            Place::Told(sentinels, login) => Ok(vec![self.primary_by(sentinels, login).await?]),
            Place::Cluster(cluster) => Ok(vec![self.home_of(cluster).await?]),
            Place::At(address) => Ok(vec![address.clone()]),
        }
    }

    /// Whether it is one of several servers that change places.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        matches!(
            self.place,
            Place::Nodes(..) | Place::Told(..) | Place::Cluster(_)
        )
    }

    /// Where the primary is now by those who watch it; none where only it can say.
    async fn watched(&self) -> io::Result<Option<Vec<UpstreamAddress>>> {
        match &self.place {
            Place::Told(sentinels, _) => Ok(Some(self.told_by(sentinels).await?)),
            Place::Cluster(cluster) => Ok(Some(vec![self.home_of(cluster).await?])),
            _ => Ok(None),
        }
    }

    async fn resolve(&self, endpoint: &config::Endpoint) -> io::Result<Vec<UpstreamAddress>> {
        self.resolve_with(endpoint, self.trust.is_some()).await
    }

    async fn resolve_with(
        &self,
        endpoint: &config::Endpoint,
        tls: bool,
    ) -> io::Result<Vec<UpstreamAddress>> {
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
        let trust = self.trust.as_ref().filter(|_| tls);
        let tls = trust.map(|trust| trust.of_host(&endpoint.host));
        let tls = tls.transpose()?;
        let address = |address| match &tls {
            None => UpstreamAddress::Tcp(address),
            Some(tls) => UpstreamAddress::Tls(address, tls.clone()),
        };
        let addresses: Vec<_> = found.map(address).collect();
        if addresses.is_empty() {
            return Err(io::Error::other(format!("{endpoint} has no address")));
        }
        Ok(addresses)
    }
}

/// Two that are alike reach the same Valkey in the same way, by certificates of the same contents.
impl PartialEq for Reach {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && self.trust == other.trust
    }
}

impl Eq for Reach {}
