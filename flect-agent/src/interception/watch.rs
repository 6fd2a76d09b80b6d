//! The thread that reads what the hooks report, sweeps over the workloads' network namespaces, and opens
//! listeners in one that is announced.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use flect_ebpf::{
    EVENTS_BYTES, Event, REFUSED_AGENTS_PORT, REFUSED_BOUND_TO_DEVICE, REFUSED_CLOSED_PORT,
    REFUSED_HANDSHAKES, REFUSED_MULTIPATH, REFUSED_NO_MEMORY, REFUSED_OLD_SOCKET,
    REFUSED_OTHER_CGROUP, REFUSED_UNKNOWN_NAMESPACE,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::namespaces::{Entered, Living, Namespaces, living_in};
use super::{AnnounceError, Arrival, Claimants, WatchEvent};
use crate::audit::Reason;
use crate::cgroup::{CgroupId, CgroupMount, is_within, of_process};

/// How often the managed processes are looked through: new containers get their listeners before or
/// soon after they start, without burdening a node with thousands of processes.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How old a look at all processes may be by which deserted namespaces are closed early: an app that asks
/// for more than its share must not keep this thread from its neighbours.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Events between two looks at the clock: what the ring holds.
const EVENTS_PER_TURN: usize = EVENTS_BYTES / size_of::<Event>();
/// A workload that is refused again and again is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals remembered for that; beyond it the log is left to repeat itself.
const LOGGED_MAX: usize = 1024;

/// What the thread works with.
pub(super) struct Watched {
    pub(super) events: RingBuf<MapData>,
    pub(super) namespaces: Namespaces,
    pub(super) claimants: Claimants,
    pub(super) mount: CgroupMount,
    /// Directory of the managed root.
    pub(super) managed_root: PathBuf,
    /// Where managed processes lived, when that was looked at for an app with a full share.
    pub(super) looked: Option<(Instant, HashMap<u64, Living>)>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's ring buffer has nothing to show.
        f.debug_struct("Watched")
            .field("namespaces", &self.namespaces)
            .field("managed_root", &self.managed_root)
            .finish_non_exhaustive()
    }
}

/// Whether the thread runs.
#[derive(Debug, Default)]
pub(super) enum Watching {
    /// It does not, and has this to begin with.
    Not(Box<Watched>),
    /// It does.
    By(Watcher),
    /// It has failed.
    #[default]
    Ended,
}

/// The running thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Watcher {
    wishes: Sender<Wish>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<Box<Watched>>>,
}

/// What the thread is asked for.
enum Wish {
    /// Listeners in the namespace of this process.
    Open(u32, Answer),
    /// Its end.
    Stop,
}

/// Told what came of an announcement.
pub(super) type Answer = Box<dyn FnOnce(Result<Arrival, AnnounceError>) + Send>;

impl Watcher {
    pub(super) fn start(
        mut watched: Box<Watched>,
        on_event: impl FnMut(WatchEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (wishes, wished) = channel();
        let woken = wake.clone();
        let thread = std::thread::Builder::new()
            .name("namespaces".into())
            .spawn(move || {
                run(&mut watched, &woken, &wished, on_event);
                watched
            })?;
        Ok(Self {
            wishes,
            wake,
            thread: Some(thread),
        })
    }

    /// Asks for listeners in the namespace of a process; `answer` is dropped where the thread ends meanwhile.
    pub(super) fn open(&self, process: u32, answer: Answer) {
        self.ask(Wish::Open(process, answer));
    }

    /// Ends the thread, and gives what it worked with.
    pub(super) fn end(mut self) -> io::Result<Box<Watched>> {
        self.ask(Wish::Stop);
        let thread = self.thread.take();
        thread
            .and_then(|thread| thread.join().ok())
            .ok_or_else(|| io::Error::other("the thread of namespaces panicked"))
    }

    fn ask(&self, wish: Wish) {
        if self.wishes.send(wish).is_ok() {
            // Fails only where 2^64 wishes wait.
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.ask(Wish::Stop);
            let _panicked = thread.join();
        }
    }
}

fn run(
    watched: &mut Watched,
    wake: &OwnedFd,
    wishes: &Receiver<Wish>,
    mut on_event: impl FnMut(WatchEvent),
) {
    let mut logged = Logged::default();
    let mut next_sweep = Instant::now() + SWEEP_INTERVAL;
    loop {
        let wait = next_sweep.saturating_duration_since(Instant::now());
        if !wait_for(wake, &watched.events, wait) {
            return;
        }
        for wish in wishes.try_iter() {
            match wish {
                Wish::Open(process, answer) => {
                    answer(watched.open_announced(process, &mut on_event))
                }
                Wish::Stop => return,
            }
        }
        // So many and no more: whoever reports faster than this keeps neither the sweep nor the end away.
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = watched.events.next().and_then(|item| parse(&item)) else {
                break;
            };
            // What the hooks cannot tell (an older agent's programs knew fewer kinds) is logged only.
            let told = match event.kind {
                REFUSED_UNKNOWN_NAMESPACE => Some(watched.open_reported(&event, &mut on_event)),
                kind => {
                    logged.log(&event, &watched.mount);
                    audited(kind)
                }
            };
            if let Some((reason, detail)) = told {
                on_event(WatchEvent::Refused {
                    cgroup: path_of(&watched.mount, event.cgroup),
                    reason,
                    detail,
                });
            }
        }
        if Instant::now() >= next_sweep {
            next_sweep = Instant::now() + SWEEP_INTERVAL;
            watched.sweep(&mut on_event);
        }
    }
}

impl Watched {
    /// Opens listeners where a connect was refused for want of them, and says what came of it.
    fn open_reported(
        &mut self,
        event: &Event,
        on_event: &mut impl FnMut(WatchEvent),
    ) -> (Reason, &'static str) {
        if self.namespaces.is_open(event.netns_cookie) {
            return OPENED; // Reported more than once before we came.
        }
        let owner = path_of(&self.mount, event.cgroup).and_then(|path| self.claimants.of(&path));
        let thread = PathBuf::from(format!("/proc/{}/ns/net", event.thread));
        let opened = match self.enter(&thread, owner, on_event) {
            Ok(Entered::Full) => return FULL,
            Ok(Entered::Known) => Vec::new(),
            Ok(Entered::Opened(cookie, listeners)) => vec![(cookie, listeners)],
            // The thread is gone: another process of its cgroup may live in the same namespace.
            Err(_) => match self.mount.path_of(CgroupId(event.cgroup)) {
                Ok(Some(path)) => self
                    .mount
                    .directory(&path)
                    .map(|cgroup| self.enter_all(&living_in(&cgroup)))
                    .unwrap_or_default(),
                _ => Vec::new(),
            },
        };
        let is_open = self.namespaces.is_open(event.netns_cookie);
        if !is_open {
            tracing::warn!(
                netns_cookie = event.netns_cookie,
                thread = event.thread,
                "a connect was refused in a network namespace that cannot be entered"
            );
        }
        tell(opened, on_event);
        if is_open { OPENED } else { CLOSED }
    }

    /// Opens listeners where a process lives that somebody with the right to has named.
    fn open_announced(
        &mut self,
        process: u32,
        on_event: &mut impl FnMut(WatchEvent),
    ) -> Result<Arrival, AnnounceError> {
        let cgroup = of_process(process).map_err(|_| AnnounceError::NoProcess(process))?;
        let is_managed = self
            .mount
            .below(&self.managed_root)
            .is_some_and(|root| is_within(&cgroup, &root));
        if !is_managed {
            return Err(AnnounceError::NotManaged { process, cgroup });
        }
        let app = self.claimants.of(&cgroup);
        let way = PathBuf::from(format!("/proc/{process}/ns/net"));
        let opened = match self.enter(&way, app.clone(), on_event) {
            Ok(Entered::Known) => false,
            Ok(Entered::Opened(cookie, listeners)) => {
                tell(vec![(cookie, listeners)], on_event);
                true
            }
            Ok(Entered::Full) => return Err(AnnounceError::Full { app }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AnnounceError::NoProcess(process));
            }
            Err(cause) => return Err(AnnounceError::Closed { process, cause }),
        };
        Ok(Arrival {
            cgroup,
            app,
            opened,
        })
    }

    /// Opens listeners in one namespace, if need be in the place of a deserted one of the same owner.
    fn enter(
        &mut self,
        way: &Path,
        owner: Option<String>,
        on_event: &mut impl FnMut(WatchEvent),
    ) -> io::Result<Entered> {
        let entered = self.namespaces.enter(way, owner.clone())?;
        if matches!(entered, Entered::Full) && self.close_deserted_of(owner.as_deref(), on_event) {
            return self.namespaces.enter(way, owner);
        }
        Ok(entered)
    }

    fn sweep(&mut self, on_event: &mut impl FnMut(WatchEvent)) {
        let living = living_in(&self.managed_root);
        // First, so that an app's share has room for what it has now.
        for event in self.namespaces.close_deserted(&living) {
            on_event(event);
        }
        tell(self.enter_all(&living), on_event);
    }

    fn enter_all(&mut self, living: &HashMap<u64, Living>) -> Vec<(u64, Vec<TcpListener>)> {
        let Self {
            namespaces,
            claimants,
            mount,
            ..
        } = self;
        namespaces.enter_all(living, &|cgroup| claimants.of(&mount.below(cgroup)?))
    }

    /// Makes room in a share that is full, and says whether there is some.
    fn close_deserted_of(
        &mut self,
        owner: Option<&str>,
        on_event: &mut impl FnMut(WatchEvent),
    ) -> bool {
        let now = Instant::now();
        let is_old = |(looked, _): &(Instant, _)| now - *looked >= LOOK_INTERVAL;
        if self.looked.as_ref().is_none_or(is_old) {
            self.looked = Some((now, living_in(&self.managed_root)));
        }
        if let Some((looked, living)) = &self.looked {
            for event in self.namespaces.close_deserted_of(owner, living, *looked) {
                on_event(event);
            }
        }
        !self.namespaces.is_full(owner)
    }
}

fn tell(opened: Vec<(u64, Vec<TcpListener>)>, on_event: &mut impl FnMut(WatchEvent)) {
    for (netns_cookie, listeners) in opened {
        tracing::info!(netns_cookie, "listening in a workload's network namespace");
        on_event(WatchEvent::Opened {
            netns_cookie,
            listeners,
        });
    }
}

/// Waits for reports, wishes or the time to sweep; false when there is nothing to wait for any more.
fn wait_for(wake: &OwnedFd, events: &RingBuf<MapData>, wait: Duration) -> bool {
    let Some(ring) = borrow(events) else {
        return false;
    };
    let mut fds = [
        PollFd::new(wake, PollFlags::IN),
        PollFd::from_borrowed_fd(ring, PollFlags::IN),
    ];
    let wait = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    // An interrupted wait is a short one.
    let _interrupted = poll(&mut fds, Some(&wait));
    // Before the wishes are looked at, so that none is missed; it holds nothing where nobody woke.
    let _empty = rustix::io::read(wake, &mut [0; 8]);
    true
}

/// The ring's descriptor; aya tells it only as a number.
fn borrow(events: &RingBuf<MapData>) -> Option<BorrowedFd<'_>> {
    super::kernel::borrow(events.as_raw_fd(), events)
}

fn parse(bytes: &[u8]) -> Option<Event> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let long = |at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    Some(Event {
        kind: word(0)?,
        thread: word(4)?,
        netns_cookie: long(8)?,
        cgroup: long(16)?,
    })
}

/// When each kind of refusal of each cgroup was last logged.
#[derive(Default)]
struct Logged(HashMap<(u32, u64), Instant>);

impl Logged {
    fn log(&mut self, event: &Event, mount: &CgroupMount) {
        let now = Instant::now();
        let key = (event.kind, event.cgroup);
        if self
            .0
            .get(&key)
            .is_some_and(|last| now - *last < LOG_INTERVAL)
        {
            return;
        }
        if self.0.len() >= LOGGED_MAX {
            self.0.clear();
        }
        self.0.insert(key, now);
        let path = path_of(mount, event.cgroup).unwrap_or_else(|| "(gone)".to_owned());
        // The hooks' own words, told by the ring buffer: they have a target of their own, so that their level can
        // be chosen.
        tracing::warn!(
            target: "kernel",
            cgroup = %Path::new(&path).display(),
            thread = event.thread,
            "refused a connect: {}",
            audited(event.kind).map_or("for a reason that this agent does not know", |(_, detail)| detail)
        );
    }
}

fn path_of(mount: &CgroupMount, cgroup: u64) -> Option<String> {
    mount.path_of(CgroupId(cgroup)).ok().flatten()
}

/// What is said of a connect in a network namespace without listeners.
const OPENED: (Reason, &str) = (
    Reason::NewNamespace,
    "a connect was among the first in its network namespace, where the agent listens from now on",
);
const FULL: (Reason, &str) = (
    Reason::Namespaces,
    "a connect came from a network namespace beyond those that its app may have ([limits] namespaces)",
);
const CLOSED: (Reason, &str) = (
    Reason::Namespaces,
    "a connect came from a network namespace that the agent cannot enter",
);

/// What the audit log says of a refusal.
fn audited(kind: u32) -> Option<(Reason, &'static str)> {
    Some(match kind {
        REFUSED_OLD_SOCKET => (
            Reason::OldSocket,
            "the hooks did not see its socket being made: it is older, accepted, or a part of multipath TCP",
        ),
        REFUSED_OTHER_CGROUP => (Reason::OtherCgroup, "its socket was made in another cgroup"),
        REFUSED_BOUND_TO_DEVICE => (
            Reason::Device,
            "its socket is bound to a device other than loopback",
        ),
        REFUSED_MULTIPATH => (Reason::Multipath, "it asked for multipath TCP"),
        REFUSED_NO_MEMORY => (Reason::KernelMemory, "the kernel had no memory left for it"),
        REFUSED_AGENTS_PORT => (Reason::AgentsPort, "it asked for the agent's own port"),
        REFUSED_CLOSED_PORT => (
            Reason::ClosedPort,
            "it asked for a port of the shared Valkey's machines that is closed to apps",
        ),
        REFUSED_HANDSHAKES => (
            Reason::Handshakes,
            "its network namespace has too many handshakes under way",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason_of_its_own() {
        let mut seen = Vec::new();
        for kind in REFUSED_OLD_SOCKET..=REFUSED_CLOSED_PORT {
            let (reason, detail) = audited(kind).unwrap();
            assert!(!seen.contains(&reason), "{detail}");
            seen.push(reason);
        }
        assert_eq!(audited(REFUSED_CLOSED_PORT + 1), None);
    }
}
