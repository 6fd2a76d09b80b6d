//! The network namespaces of workloads: each gets listeners of the agent on its own loopback.
//!
//! Invariant: the map NAMESPACES names exactly the namespaces whose listeners are open in this
//! process. Connects in any other are refused, and reported, so that the retry succeeds.
//!
//! Namespaces are found in three ways: from the managed processes when the hooks are attached, from
//! the ring buffer when a connect was refused, and by a sweep over the managed processes. A listener
//! keeps its namespace alive; so the sweep also closes those where nobody lives any more.
//!
//! Whoever may make namespaces can make any number, so each is charged to the app whose process led here,
//! and an app has a share of them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flect_ebpf::{
    HANDSHAKES_MAX, NAMESPACES_MAX, Namespace, PENDING_OWN_NAMESPACE_MAX, PENDING_PER_NAMESPACE_MAX,
};
use rustix::net::Shutdown;

use super::kernel::Map;
use super::listeners::{self, Listeners};
use super::pins::step;
use super::{InterceptionError, WatchEvent};
use crate::weakened::{Weakness, has};

/// How long a namespace without managed processes is kept: longer than the pause between two short
/// commands in it (`ip netns exec`), short enough that a removed container's is soon freed.
const LINGER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Namespaces {
    map: Map<u64, Namespace>,
    /// Only hooks write counts; here those that nobody needs any more are removed.
    handshakes: Map<u64, i64>,
    /// Counts that were not needed at the last sweep.
    idle: HashSet<u64>,
    listen_port: u16,
    shares: Shares,
    own_cookie: u64,
    open: HashMap<u64, Open>,
}

/// What came of a namespace that was entered.
#[derive(Debug)]
pub(super) enum Entered {
    /// It has listeners already.
    Known,
    /// It has some now.
    Opened(u64, Vec<TcpListener>),
    /// Its app has listeners in as many as it may.
    Full,
}

/// In how many namespaces of one owner there may be listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// None is no limit.
    max: Option<usize>,
}

impl Shares {
    /// 0 is no limit.
    pub(super) fn new(max: u32) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let is_limited = max > 0 && !has(Weakness::NamespaceShare);
        Self {
            max: is_limited.then_some(max),
        }
    }

    fn is_full(self, count: usize) -> bool {
        self.max.is_some_and(|max| count >= max)
    }
}

#[derive(Debug)]
struct Open {
    /// Inode of the namespace on nsfs: what `/proc/PID/ns/net` tells without entering it.
    inode: u64,
    /// Second descriptors, to shut the sockets down when nobody lives there any more.
    listeners: Vec<TcpListener>,
    seen: Instant,
    /// The app that it is charged to; none for all that no app claims.
    owner: Option<String>,
}

impl Namespaces {
    /// Opens the listeners of the agent's own namespace, takes over those of a predecessor that were handed
    /// over, wherever they are, and forgets the others. `owner` tells the app of a namespace's inode.
    pub(super) fn open(
        map: Map<u64, Namespace>,
        handshakes: Map<u64, i64>,
        listen_port: u16,
        shares: Shares,
        inherited: &mut Vec<TcpListener>,
        owner: &dyn Fn(u64) -> Option<String>,
    ) -> Result<(Self, Vec<TcpListener>), InterceptionError> {
        let own = listeners::open_here(listen_port, inherited).map_err(step(format!(
            "listen on 127.0.0.1:{listen_port} and [::1]:{listen_port}"
        )))?;
        let inode = std::fs::metadata("/proc/self/ns/net")
            .map_err(step("read /proc/self/ns/net"))?
            .ino();
        let mut this = Self {
            map,
            handshakes,
            idle: HashSet::new(),
            listen_port,
            shares,
            own_cookie: own.netns_cookie,
            open: HashMap::new(),
        };
        let reading = "update the map of network namespaces";
        let adopted = listeners::adopt(listen_port, own.netns_cookie, inherited)
            .map_err(step("take over a predecessor's listeners"))?;
        let is_adopted = |cookie| adopted.iter().any(|(it, _)| it.netns_cookie == cookie);
        for cookie in this.map.keys(NAMESPACES_MAX).map_err(step(reading))? {
            if cookie != own.netns_cookie && !is_adopted(cookie) {
                this.map.remove(&cookie).map_err(step(reading))?;
            }
        }
        let mut sockets = this.register(own, inode, None).map_err(step(reading))?;
        for (listeners, inode) in adopted {
            let owner = owner(inode);
            let adopted = this.register(listeners, inode, owner);
            sockets.extend(adopted.map_err(step(reading))?);
        }
        Ok((this, sockets))
    }

    pub(super) fn own_cookie(&self) -> u64 {
        self.own_cookie
    }

    /// Second descriptors of all listeners, for a successor.
    pub(super) fn copies(&self) -> io::Result<Vec<TcpListener>> {
        let listeners = self.open.values().flat_map(|open| &open.listeners);
        listeners.map(TcpListener::try_clone).collect()
    }

    pub(super) fn is_open(&self, cookie: u64) -> bool {
        self.open.contains_key(&cookie)
    }

    /// Opens listeners in a namespace, unless there are some or its owner has too many.
    pub(super) fn enter(&mut self, namespace: &Path, owner: Option<String>) -> io::Result<Entered> {
        let file = File::open(namespace)?;
        let inode = file.metadata()?.ino();
        if let Some(known) = self.open.values_mut().find(|open| open.inode == inode) {
            known.seen = Instant::now();
            return Ok(Entered::Known);
        }
        if self.is_full(owner.as_deref()) {
            return Ok(Entered::Full);
        }
        let known: Vec<u64> = self.open.keys().copied().collect();
        let opened = listeners::open_in(file, self.listen_port, move |cookie| {
            known.contains(&cookie)
        })?;
        let Some(opened) = opened else {
            return Ok(Entered::Known);
        };
        let cookie = opened.netns_cookie;
        Ok(Entered::Opened(
            cookie,
            self.register(opened, inode, owner)?,
        ))
    }

    /// Whether an owner's share is used up.
    pub(super) fn is_full(&self, owner: Option<&str>) -> bool {
        let owned = |(cookie, open): &(&u64, &Open)| {
            **cookie != self.own_cookie && open.owner.as_deref() == owner
        };
        self.shares.is_full(self.open.iter().filter(owned).count())
    }

    /// Closes an owner's namespaces that are deserted: those that were last seen before a look at the living
    /// was taken, and are not in it. An owner with a full share does not linger.
    pub(super) fn close_deserted_of(
        &mut self,
        owner: Option<&str>,
        living: &HashMap<u64, Living>,
        looked: Instant,
    ) -> Vec<WatchEvent> {
        let deserted = |(cookie, open): &(&u64, &Open)| {
            **cookie != self.own_cookie
                && open.owner.as_deref() == owner
                && open.seen < looked
                && !living.contains_key(&open.inode)
        };
        let cookies: Vec<u64> = self.open.iter().filter(deserted).map(|it| *it.0).collect();
        cookies
            .into_iter()
            .filter_map(|cookie| self.close(cookie))
            .collect()
    }

    /// Opens listeners wherever managed processes live; returns the new ones. Those beyond an app's share are
    /// passed over: a connect from there says so.
    pub(super) fn enter_all(
        &mut self,
        living: &HashMap<u64, Living>,
        owner: &dyn Fn(&Path) -> Option<String>,
    ) -> Vec<(u64, Vec<TcpListener>)> {
        living
            .values()
            .filter_map(|found| match self.enter(&found.way, owner(&found.cgroup)) {
                Ok(Entered::Opened(cookie, listeners)) => Some((cookie, listeners)),
                Ok(Entered::Known | Entered::Full) => None,
                // The process may be gone by now; anything else the refused connect brings up again.
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!(namespace = %found.way.display(), %error,
                            "cannot listen in a network namespace; connections from it are refused");
                    }
                    None
                }
            })
            .collect()
    }

    /// Closes the listeners of namespaces in which no managed process has lived for a while.
    pub(super) fn close_deserted(&mut self, living: &HashMap<u64, Living>) -> Vec<WatchEvent> {
        if let Err(error) = self.forget_counts() {
            tracing::warn!(%error, "cannot forget counts of handshakes");
        }
        let now = Instant::now();
        for open in self.open.values_mut() {
            if living.contains_key(&open.inode) {
                open.seen = now;
            }
        }
        let deserted: Vec<u64> = self
            .open
            .iter()
            .filter(|(cookie, open)| **cookie != self.own_cookie && now - open.seen > LINGER)
            .map(|(cookie, _)| *cookie)
            .collect();
        deserted
            .into_iter()
            .filter_map(|netns_cookie| self.close(netns_cookie))
            .collect()
    }

    /// Removes the counts of namespaces without listeners that stand at 0 now and stood there a sweep ago:
    /// no hook that has begun before they were closed runs any more. Where handshakes are still held, by a
    /// socket that has been carried out of its namespace, the count stays true for when it opens again.
    fn forget_counts(&mut self) -> io::Result<()> {
        let mut idle = HashSet::new();
        for cookie in self.handshakes.keys(HANDSHAKES_MAX)? {
            if self.is_open(cookie) || self.handshakes.get(&cookie)? != Some(0) {
                continue;
            }
            if self.idle.contains(&cookie) {
                self.handshakes.remove(&cookie)?;
            } else {
                idle.insert(cookie);
            }
        }
        self.idle = idle;
        Ok(())
    }

    fn close(&mut self, netns_cookie: u64) -> Option<WatchEvent> {
        // First the map: a connect that comes now is refused and reported, and opens it again.
        if let Err(error) = self.map.remove(&netns_cookie) {
            tracing::warn!(netns_cookie, %error, "cannot forget a network namespace");
            return None;
        }
        for listener in self.open.remove(&netns_cookie)?.listeners {
            // Fails only where it is shut down already.
            let _already = rustix::net::shutdown(&listener, Shutdown::Both);
        }
        Some(WatchEvent::Closed { netns_cookie })
    }

    fn register(
        &mut self,
        listeners: Listeners,
        inode: u64,
        owner: Option<String>,
    ) -> io::Result<Vec<TcpListener>> {
        let ready = Namespace {
            v4: u32::from(listeners.v4.is_some()),
            v6: u32::from(listeners.v6.is_some()),
            pending_max: if listeners.netns_cookie == self.own_cookie {
                PENDING_OWN_NAMESPACE_MAX
            } else {
                PENDING_PER_NAMESPACE_MAX
            },
        };
        let sockets: Vec<TcpListener> =
            [listeners.v4, listeners.v6].into_iter().flatten().collect();
        let copies = sockets
            .iter()
            .map(TcpListener::try_clone)
            .collect::<io::Result<_>>()?;
        // Last, when connections can come.
        self.map.set(&listeners.netns_cookie, &ready)?;
        self.open.insert(
            listeners.netns_cookie,
            Open {
                inode,
                listeners: copies,
                seen: Instant::now(),
                owner,
            },
        );
        Ok(sockets)
    }
}

/// Who lives in a namespace.
#[derive(Debug)]
pub(super) struct Living {
    /// A way into it: `/proc/PID/ns/net`.
    pub(super) way: PathBuf,
    /// The directory of the process's cgroup.
    pub(super) cgroup: PathBuf,
}

/// The network namespaces of all processes in a cgroup's subtree, by inode.
pub(super) fn living_in(cgroup: &Path) -> HashMap<u64, Living> {
    let mut found = HashMap::new();
    let mut folders = vec![cgroup.to_owned()];
    while let Some(folder) = folders.pop() {
        // Cgroups and processes come and go while we look: what is gone is not there.
        let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let way = PathBuf::from(format!("/proc/{process}/ns/net"));
            if let Ok(metadata) = std::fs::metadata(&way) {
                let cgroup = folder.clone();
                found
                    .entry(metadata.ino())
                    .or_insert(Living { way, cgroup });
            }
        }
        if let Ok(entries) = std::fs::read_dir(&folder) {
            folders.extend(
                entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
    }
    found
}
