//! Where the shared Valkey is at the moment: looked at for every new connection, never per request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::reach::UpstreamAddress;

/// Its addresses, tried in turn; never none.
#[derive(Debug)]
pub struct Whereabouts(ArcSwap<Vec<UpstreamAddress>>);

impl Whereabouts {
    /// At these from the beginning.
    #[must_use]
    pub fn new(addresses: Vec<UpstreamAddress>) -> Self {
        Self(ArcSwap::from_pointee(addresses))
    }

    /// At these from now on; connections that are there stay.
    pub fn set(&self, addresses: Vec<UpstreamAddress>) {
        self.0.store(Arc::new(addresses));
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<UpstreamAddress>> {
        self.0.load_full()
    }

    /// The one to try after so many that failed.
    #[must_use]
    pub fn after(&self, failures: usize) -> Option<UpstreamAddress> {
        let all = self.0.load();
        let place = failures.checked_rem(all.len())?;
        all.get(place).cloned()
    }

    /// Whether any of them is a unix socket, which never changes.
    #[must_use]
    pub fn has_unix_socket(&self) -> bool {
        let all = self.0.load();
        all.iter().any(|it| matches!(it, UpstreamAddress::Unix(_)))
    }
}
