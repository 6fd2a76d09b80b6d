//! How the shared Valkey is reached: by TCP, TLS or a unix socket.
//!
//! | file | holds |
//! | --- | --- |
//! | `address` | one place where a Valkey listens |
//! | `tls` | certificates, read once; who the server must be |
//! | `backoff` | how long a server is left alone that could not be reached |
//! | `dial` | a stream to such a place, for conversations that are not per request |
//! | `link` | the operator's connection, which comes again by itself |
//!
//! Invariant: files are read here and nowhere later, since workers may open none. Whatever holds an
//! [`UpstreamAddress`] has all that it takes to connect.

mod address;
mod backoff;
mod dial;
mod link;
mod tls;

use std::io;

use crate::config;
pub use address::UpstreamAddress;
pub use backoff::Backoff;
pub use dial::{Stream, dial};
pub use link::{Link, Times};
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
}

impl Reach {
    /// As the configuration says. Certificates are read.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn of(valkey: &config::Valkey) -> Result<Self, TlsError> {
        let place = match &valkey.socket {
            Some(path) => Place::Socket(path.as_path().into()),
            None => Place::One(valkey.address.clone()),
        };
        let trust = valkey.tls.as_ref().map(Trust::load).transpose()?;
        Ok(Self { place, trust })
    }

    /// A server at a plain TCP address.
    #[must_use]
    pub fn plain(endpoint: config::Endpoint) -> Self {
        Self {
            place: Place::One(endpoint),
            trust: None,
        }
    }

    /// Where to connect, to be tried in turn. Names are looked up, each time anew.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn locate(&self) -> io::Result<Vec<UpstreamAddress>> {
        match &self.place {
            Place::Socket(path) => Ok(vec![UpstreamAddress::Unix(path.clone())]),
            Place::One(endpoint) => self.resolve(endpoint).await,
        }
    }

    async fn resolve(&self, endpoint: &config::Endpoint) -> io::Result<Vec<UpstreamAddress>> {
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
        let tls = self
            .trust
            .as_ref()
            .map(|trust| trust.of_host(&endpoint.host));
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
