//! The kernel hooks that hand an app's connections to the agent, and who is behind each of them.
//!
//! Invariant: identity belongs to the accepted socket. It is what the hooks saw at `connect()`, it
//! reaches [`Interception::identify`] through the socket's own storage, once, and where it is missing
//! the connection is refused: there is no default and no guess from an address.

mod attach;
mod btf;
mod destroy;
mod error;
mod former;
mod kernel;
mod listeners;
mod monitor;
mod namespaces;
mod object;
mod others;
mod pins;
mod selftest;
mod verdict;
mod watch;
mod weaknesses;

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flect_ebpf::Memory;

use crate::audit::Reason;
use crate::cgroup::{CgroupId, CgroupMount};
use crate::weakened::{Weakness, has};
use kernel::Map;
use watch::{Watcher, Watching};

pub use error::{IdentifyError, InterceptionError};
pub use former::Former;
pub use monitor::{Fill, Monitor};
pub use others::socket_programs;
pub use verdict::{Acceleration, AccelerationVerdict, Check};

/// What to intercept, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cgroup whose subtree is managed, as a path below the mount; the hooks are attached here.
    pub managed_root: String,
    /// The agent's own cgroup: the only one that is exempt.
    pub agent_cgroup: CgroupId,
    /// Destinations that are intercepted, with [`Settings::ports`].
    pub networks: Vec<ipnet::IpNet>,
    /// Destination ports that are intercepted, on [`Settings::networks`].
    pub ports: Vec<u16>,
    /// Destination ports on [`Settings::networks`] that everybody but the agent is refused; none of
    /// [`Settings::ports`].
    pub closed_ports: Vec<u16>,
    /// The agent's own port on loopback, in every network namespace; none of those above.
    pub listen_port: u16,
    /// Whether bytes may go past TCP/IP.
    pub acceleration: Acceleration,
    /// In how many network namespaces of one app the agent listens at once, and of all that no app claims
    /// together; 0 is no limit.
    pub namespaces_max: u32,
    /// Which app a cgroup is.
    pub claimants: Claimants,
    /// Where the verdict of the self-test is kept from one start to the next, in a folder of the agent's own.
    pub verdict: Option<PathBuf>,
    /// Folder of the pinned programs, links and maps, on a bpffs.
    pub pin: PathBuf,
}

/// The app of a cgroup's path.
type Claim = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Tells the app of a cgroup by its path, where one claims it.
#[derive(Clone)]
pub struct Claimants(Arc<Claim>);

impl Claimants {
    /// As this function tells it.
    pub fn new(of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    fn of(&self, cgroup: &str) -> Option<String> {
        self.0(cgroup)
    }
}

impl fmt::Debug for Claimants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A function has nothing to show.
        f.debug_struct("Claimants").finish_non_exhaustive()
    }
}

/// Who is behind an accepted socket, as the kernel saw it at `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cgroup of the process that connected.
    pub cgroup: CgroupId,
    /// The address that it asked for, v4-mapped ones as IPv4.
    pub asked: SocketAddr,
    /// The network namespace that it connected in.
    pub netns_cookie: u64,
    /// The client's socket; unique while the machine runs.
    pub socket_cookie: u64,
}

/// What [`Interception::watch`] tells.
#[derive(Debug)]
pub enum WatchEvent {
    /// The hooks have refused a connection. Told by the watching thread for each, so be quick.
    Refused {
        /// The cgroup that connected, as a path; none when it is gone.
        cgroup: Option<String>,
        /// For the audit log.
        reason: Reason,
        /// The same in words.
        detail: &'static str,
    },
    /// A workload's network namespace got its listeners: accept on them.
    Opened {
        /// The namespace.
        netns_cookie: u64,
        /// One per address family that the namespace has, non-blocking.
        listeners: Vec<TcpListener>,
    },
    /// Nobody lives in the namespace any more: drop its listeners, which are shut down already
    /// (`accept` answers EINVAL), so that the kernel can free the namespace.
    Closed {
        /// The namespace.
        netns_cookie: u64,
    },
}

/// What came of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The process's cgroup, as a path below the mount.
    pub cgroup: String,
    /// The app that it belongs to; none where no app claims it, whose connections are refused.
    pub app: Option<String>,
    /// Whether the agent began to listen there for this; otherwise it did already.
    pub opened: bool,
}

/// Why a process that was announced got no listeners.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// It is gone, or of another process namespace.
    #[error("there is no process {0}: name it as this node's own process namespace does")]
    NoProcess(u32),
    /// The hooks do not see what it does.
    #[error(
        "process {process} is in cgroup {cgroup}, which is not below the managed root ([intercept] cgroup): none of its connections is intercepted"
    )]
    NotManaged {
        /// Its number.
        process: u32,
        /// Its cgroup.
        cgroup: String,
    },
    /// Its app has listeners in as many namespaces as it may.
    #[error(
        "{} has as many network namespaces as [limits] namespaces allows; raise it or end some",
        match app { Some(app) => format!("app '{app}'"), None => "what no app claims".to_owned() }
    )]
    Full {
        /// Its app.
        app: Option<String>,
    },
    /// The namespace cannot be entered, or refuses a listener.
    #[error("cannot listen in the network namespace of process {process}: {cause}")]
    Closed {
        /// Its number.
        process: u32,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// No listener comes or goes now: another agent takes over.
    #[error("the agent is being followed by another")]
    Resting,
}

/// The hooks in place. Dropping it leaves them so: intercepted connects are then refused.
#[derive(Debug)]
pub struct Interception {
    listeners: Vec<TcpListener>,
    acceleration: AccelerationVerdict,
    /// By accepted socket: what connect remembered.
    identities: Map<i32, Memory>,
    monitor: Arc<Monitor>,
    #[cfg(feature = "weakened")]
    guessed: weaknesses::LastIdentity,
    own_namespace: u64,
    watching: Mutex<Watching>,
}

/// What [`detach`] removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DetachReport {
    /// Pinned objects by name (`v2/link_connect4`); empty when there was nothing.
    pub removed: Vec<String>,
}

impl Interception {
    /// Loads, attaches and pins the hooks, or takes over those that are pinned.
    ///
    /// # Errors
    /// When the kernel or the machine lacks something; the message says what to do.
    pub fn attach(mount: &CgroupMount, settings: &Settings) -> Result<Self, InterceptionError> {
        Self::attach_inheriting(mount, settings, Vec::new())
    }

    /// As [`Interception::attach`], with the listening sockets of a predecessor, of any network namespace: those
    /// that fit are used instead of new ones, so that connections in their backlog are not lost.
    ///
    /// # Errors
    /// As [`Interception::attach`].
    pub fn attach_inheriting(
        mount: &CgroupMount,
        settings: &Settings,
        inherited: Vec<TcpListener>,
    ) -> Result<Self, InterceptionError> {
        attach::attach(mount.try_clone()?, settings, inherited)
    }

    /// Listening sockets on 127.0.0.1 and, where there is IPv6, ::1, of the agent's own and every
    /// namespace known by now; non-blocking.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// Starts the thread that opens listeners in workloads' network namespaces as they appear.
    ///
    /// The thread ends when the `Interception` is dropped, or with [`Interception::rest`]. A second call does
    /// nothing.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(
        &self,
        on_event: impl FnMut(WatchEvent) + Send + 'static,
    ) -> Result<(), InterceptionError> {
        let mut watching = self.watching();
        if let Watching::Not(_) = &*watching
            && let Watching::Not(watched) = std::mem::take(&mut *watching)
        {
            let watcher = Watcher::start(watched, on_event).map_err(pins::step(
                "start the thread that watches network namespaces",
            ))?;
            *watching = Watching::By(watcher);
        }
        Ok(())
    }

    /// Opens listeners in the network namespace of a process, unless there are some, before its workload runs:
    /// when `answer` is told so, connects from there are accepted. It is told by the watching thread, so be
    /// quick; it is dropped where that thread ends meanwhile.
    pub fn announce(
        &self,
        process: u32,
        answer: impl FnOnce(Result<Arrival, AnnounceError>) + Send + 'static,
    ) {
        match &*self.watching() {
            Watching::By(watcher) => watcher.open(process, Box::new(answer)),
            Watching::Not(_) | Watching::Ended => answer(Err(AnnounceError::Resting)),
        }
    }

    /// Ends that thread, so that from now on no listener comes or goes, and gives second descriptors of all
    /// that there are: for a successor, which may be in another process.
    ///
    /// # Errors
    /// When the process is out of descriptors. The thread has ended then all the same.
    pub fn rest(&self) -> io::Result<Vec<TcpListener>> {
        let mut watching = self.watching();
        let watched = match std::mem::take(&mut *watching) {
            Watching::Not(watched) => watched,
            Watching::By(watcher) => watcher.end()?,
            Watching::Ended => return Err(io::Error::other("the thread of namespaces failed")),
        };
        let copies = watched.namespaces.copies();
        *watching = Watching::Not(watched);
        copies
    }

    /// Each change is one step, so a panic elsewhere cannot leave it half done.
    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is behind an accepted socket; answers once per socket.
    ///
    /// # Errors
    /// When the connection was not made by the hooks: refuse it with a reset.
    pub fn identify(&self, accepted: BorrowedFd<'_>) -> Result<Identity, IdentifyError> {
        let key = std::os::fd::AsRawFd::as_raw_fd(&accepted);
        let remembered = self.identities.get(&key)?;
        #[cfg(feature = "weakened")]
        let remembered = self.guessed.or_guess(remembered);
        let memory = remembered.ok_or(IdentifyError::Unknown)?;
        self.identities.remove(&key)?;
        let actual = kernel::netns_cookie(accepted)?;
        if memory.netns_cookie != actual && !has(Weakness::Namespace) {
            return Err(IdentifyError::ForeignNamespace {
                remembered: memory.netns_cookie,
                actual,
            });
        }
        Ok(Identity {
            cgroup: CgroupId(memory.cgroup),
            asked: asked(&memory)?,
            netns_cookie: memory.netns_cookie,
            socket_cookie: memory.socket_cookie,
        })
    }

    /// The cookie of the agent's own network namespace.
    #[must_use]
    pub fn own_namespace(&self) -> u64 {
        self.own_namespace
    }

    /// How many intercepted connections wait for the agent's end of their handshake: none, but for a
    /// moment or while a backlog is full.
    ///
    /// # Errors
    /// When the kernel refuses to answer.
    pub fn pending(&self) -> io::Result<usize> {
        self.monitor.pending()
    }

    /// For whoever wants to know whether the hooks hold.
    #[must_use]
    pub fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Which directions are accelerated, and why not the others.
    #[must_use]
    pub fn acceleration(&self) -> &AccelerationVerdict {
        &self.acceleration
    }
}

/// Removes links, programs and maps: from then on connections reach the shared Valkey directly.
///
/// # Errors
/// When a pinned object cannot be removed.
pub fn detach(pin: &Path) -> Result<DetachReport, InterceptionError> {
    pins::detach(pin)
}

/// The network namespace of a socket (`SO_NETNS_COOKIE`), by which [`WatchEvent`] names it.
///
/// # Errors
/// When the kernel is older than 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    kernel::netns_cookie(socket)
}

fn asked(memory: &Memory) -> io::Result<SocketAddr> {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(memory.asked_address) {
        // Network order stays as it is in memory.
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let port = u16::try_from(memory.asked_port).map_err(io::Error::other)?;
    Ok(SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port))
}
