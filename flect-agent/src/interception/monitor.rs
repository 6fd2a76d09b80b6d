//! Whether the hooks still hold, and how full their maps are.
//!
//! Invariant: it asks the kernel each time it is asked; nothing is remembered.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use flect_ebpf::{
    HANDSHAKES_MAX, Memory, NAMESPACES_MAX, Namespace, PENDING_MAX, PendingKey, SOCKETS_MAX,
};

use super::InterceptionError;
use super::kernel::{self, Map};
use super::object::Object;

/// What is in place, for as long as the agent runs.
pub struct Monitor {
    /// By the name of the hook. With them open, the hooks stay while the agent runs though their pins are
    /// removed.
    links: Vec<(&'static str, OwnedFd)>,
    namespaces: Map<u64, Namespace>,
    handshakes: Map<u64, i64>,
    pending: Map<PendingKey, Memory>,
    sockets: Map<u64, u32>,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name in the hooks.
    pub map: &'static str,
    /// What it holds.
    pub entries: usize,
    /// What it can hold; one more is refused.
    pub entries_max: usize,
}

impl Monitor {
    pub(super) fn new(
        links: Vec<(&'static str, OwnedFd)>,
        object: &Object,
    ) -> Result<Self, InterceptionError> {
        Ok(Self {
            links,
            namespaces: object.map("NAMESPACES")?,
            handshakes: object.map("HANDSHAKES")?,
            pending: object.map("PENDING")?,
            sockets: object.map("SOCKETS")?,
        })
    }

    /// Every hook, and whether it is attached: not, once somebody has detached it by force or removed
    /// the cgroup.
    pub fn hooks(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.links.iter().map(|(name, link)| {
            let cgroup = kernel::link_cgroup(link.as_fd());
            (*name, cgroup.is_ok_and(|cgroup| cgroup != 0))
        })
    }

    /// The maps that grow with what apps do.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn maps(&self) -> io::Result<[Fill; 4]> {
        let fill = |map, entries, entries_max| Fill {
            map,
            entries,
            entries_max,
        };
        let namespaces = self.namespaces.keys(NAMESPACES_MAX)?.len();
        let handshakes = self.handshakes.keys(HANDSHAKES_MAX)?.len();
        let sockets = self.sockets.keys(SOCKETS_MAX)?.len();
        Ok([
            fill("namespaces", namespaces, NAMESPACES_MAX),
            fill("handshakes", handshakes, HANDSHAKES_MAX),
            fill("pending", self.pending()?, PENDING_MAX),
            fill("sockets", sockets, SOCKETS_MAX),
        ])
    }

    /// How many intercepted connections wait for the agent's end of their handshake.
    pub(super) fn pending(&self) -> io::Result<usize> {
        Ok(self.pending.keys(PENDING_MAX)?.len())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("hooks", &self.links.len())
            .finish_non_exhaustive()
    }
}
