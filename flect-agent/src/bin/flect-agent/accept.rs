//! From an accepted socket to a worker: who is behind it, which app that is, which worker is least
//! busy. A socket without identity is reset; an identity that no app claims is told so.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flect_agent::audit::{self, Reason, Subject};
use flect_agent::cgroup::{CgroupId, CgroupMount};
use flect_agent::environment::App;
use flect_agent::interception::{AnnounceError, Arrival, Identity, Interception, WatchEvent};
use flect_agent::worker::{Accepted, Handle, Parted, Parting};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::gate::{self, Ends};
use crate::handover::Keep;
use crate::login::{Admitted, Doorkeeper};
use crate::node::Node;
use crate::serving::{Places, State};

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Refused connections that are told why at once, with 20 KiB each; more are reset, since a workload
/// that makes so many does not read the answer.
const TOLD_MAX: usize = 512;

/// The same of one cgroup, so that one that is refused does not take the words of all others, nor the
/// patience with which a connection waits for its store.
const TOLD_PER_CGROUP_MAX: usize = 64;

/// How long a connection waits for its store to appear, so that one that comes right behind
/// `flect kv create` is served: a change is known within a second, without notification too.
const APPEARS_WITHIN: Duration = Duration::from_secs(1);

/// How often it looks: a change that is heard of is applied in a hundredth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Accepts in every network namespace that has listeners.
pub struct Acceptor {
    interception: Interception,
    mount: CgroupMount,
    places: Places,
    node: Arc<Node>,
    workers: Arc<Vec<Handle>>,
    accelerated: bool,
    telling: Arc<Telling>,
    namespaces: Mutex<HashMap<u64, Vec<AbortHandle>>>,
    events: mpsc::UnboundedSender<WatchEvent>,
    keep: Arc<Keep>,
    own_namespace: u64,
}

/// Connections that are being told, by their cgroup.
#[derive(Default)]
struct Telling(Mutex<HashMap<CgroupId, usize>>);

/// One of them.
struct Place {
    telling: Arc<Telling>,
    cgroup: CgroupId,
}

impl Telling {
    fn take(telling: &Arc<Self>, cgroup: CgroupId) -> Option<Place> {
        let mut counts = telling.lock();
        let all: usize = counts.values().sum();
        let own = counts.get(&cgroup).copied().unwrap_or(0);
        if all >= TOLD_MAX || own >= TOLD_PER_CGROUP_MAX {
            return None;
        }
        counts.insert(cgroup, own + 1);
        drop(counts);
        Some(Place {
            telling: telling.clone(),
            cgroup,
        })
    }

    /// Each change is one call, so a panic elsewhere cannot leave it half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CgroupId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.telling.lock();
        if let Some(count) = counts.get_mut(&self.cgroup) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.cgroup);
            }
        }
    }
}

/// Why a connection gets no session at once.
struct Refused {
    cgroup: Option<String>,
    reason: String,
    /// Its app, though its default store is not there: a connection that names another gets that.
    others: Option<Arc<App>>,
}

impl Acceptor {
    pub fn new(
        interception: Interception,
        mount: CgroupMount,
        places: Places,
        node: Arc<Node>,
        workers: Arc<Vec<Handle>>,
        keep: Arc<Keep>,
    ) -> Arc<Self> {
        let (events, namespaces) = mpsc::unbounded_channel();
        let verdict = interception.acceleration();
        let accelerated = verdict.client_to_agent || verdict.agent_to_client;
        let own_namespace = interception.own_namespace();
        let acceptor = Arc::new(Self {
            interception,
            accelerated,
            mount,
            places,
            node,
            workers,
            telling: Arc::default(),
            namespaces: Mutex::new(HashMap::new()),
            events,
            keep,
            own_namespace,
        });
        tokio::spawn(acceptor.clone().follow(namespaces));
        acceptor
    }

    /// Accepts in namespaces as they come, and no more in those that go, from now on.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn watch(&self) -> anyhow::Result<()> {
        let (judge, places) = (self.node.clone(), self.places.clone());
        let events = self.events.clone();
        self.interception.watch(move |event| match event {
            // Here and now: a queue of them would be as long as apps like.
            WatchEvent::Refused {
                cgroup,
                reason,
                detail,
            } => {
                let cgroup = cgroup.as_deref();
                let serving = judge.serving.load();
                let app = cgroup.and_then(|path| serving.claimant(&places, path));
                let subject = Subject {
                    app: app.map(|workload| workload.name.as_str()),
                    store: None,
                    cgroup,
                };
                audit::note(reason, subject, || detail.to_owned());
            }
            // Nobody listens any more only while the process ends.
            event => drop(events.send(event)),
        })?;
        Ok(())
    }

    async fn follow(self: Arc<Self>, mut events: mpsc::UnboundedReceiver<WatchEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                WatchEvent::Opened {
                    netns_cookie,
                    listeners,
                } => {
                    if let Err(error) = self.accept_on(netns_cookie, listeners) {
                        tracing::error!(%error, "a network namespace cannot be served");
                    }
                }
                WatchEvent::Closed { netns_cookie } => self.leave(netns_cookie),
                // Noted where it was told.
                WatchEvent::Refused { .. } => {}
            }
        }
    }

    /// Listens where a process lives, before its workload runs.
    ///
    /// # Errors
    /// When that cannot be.
    pub async fn announce(&self, process: u32) -> Result<Arrival, AnnounceError> {
        let (told, answer) = oneshot::channel();
        // Nobody waits for it any more where whoever asked has gone.
        self.interception
            .announce(process, move |arrival| drop(told.send(arrival)));
        answer.await.unwrap_or(Err(AnnounceError::Resting))
    }

    /// Watches no more, so that no listener comes or goes, and gives copies of all: for a successor.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn rest(&self) -> std::io::Result<Vec<TcpListener>> {
        self.interception.rest()
    }

    /// Accepts no more. The hooks stay, and connections wait for whoever has the listeners besides.
    pub fn stop(&self) {
        if let Err(error) = self.interception.rest() {
            tracing::warn!(%error, "network namespaces are watched to the end");
        }
        for task in self.lock().drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
    }

    /// Whether nobody waits to be told why it gets nothing, or for its store to appear.
    pub fn is_quiet(&self) -> bool {
        self.telling.lock().is_empty()
    }

    /// Goes on with a session that another agent has begun, if its app may still have it: judged anew, by its
    /// cgroup, as if it had just connected. Otherwise the connection ends.
    pub fn resume(&self, parting: Parting) {
        let Parting {
            stream,
            state,
            early,
        } = parting;
        let app = match self.heir(&state) {
            Ok(app) => app,
            Err(why) => {
                tracing::info!(app = state.app, peer = %state.peer, why, "a session is not taken over");
                return;
            }
        };
        gate::hand_over(&self.workers, Accepted::resumed(stream, app, state, early));
    }

    fn heir(&self, state: &Parted) -> Result<Arc<App>, String> {
        let cgroup = state.cgroup.ok_or("it was not intercepted")?;
        let app = match self.app(CgroupId(cgroup)) {
            Ok(app) => app,
            Err(refused) => refused.others.ok_or(refused.reason)?,
        };
        let store = app.store(&state.user);
        let is_same = store.is_some_and(|store| store.prefix.as_str() == state.prefix);
        if app.name != state.app || !is_same {
            return Err("its app or store is another one now".to_owned());
        }
        Ok(app)
    }

    /// Accepts on a namespace's listeners from now on; 0 stands for the agent's own.
    pub fn accept_on(
        self: &Arc<Self>,
        namespace: u64,
        listeners: Vec<TcpListener>,
    ) -> std::io::Result<()> {
        let mut tasks = Vec::with_capacity(listeners.len());
        for listener in listeners {
            self.keep.listener(&listener, self.own_namespace);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let acceptor = self.clone();
            tasks.push(tokio::spawn(acceptor.accept(listener)).abort_handle());
        }
        self.lock().entry(namespace).or_default().extend(tasks);
        Ok(())
    }

    /// Drops a namespace's listeners.
    pub fn leave(&self, namespace: u64) {
        self.keep.leave(namespace);
        for task in self.lock().remove(&namespace).unwrap_or_default() {
            task.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Vec<AbortHandle>>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, listener: tokio::net::TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match stream.into_std() {
                    Ok(stream) => self.take(stream, peer),
                    Err(error) => tracing::warn!(%error, "an accepted socket was lost"),
                },
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let identity = match self.interception.identify(stream.as_fd()) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection without identity was reset");
                let reason =
                    format!("a connection from {peer} without identity was reset: {error}");
                audit::note(Reason::Identity, Subject::default(), || reason.clone());
                self.node.refusals.note(None, &reason);
                reset(&stream);
                return;
            }
        };
        // The agent writes whole batches; Nagle would only add a delay.
        let _ = stream.set_nodelay(true);
        match self.app(identity.cgroup) {
            Ok(app) => self.serve(stream, peer, &identity, app),
            Err(refused) => {
                let Some(place) = Telling::take(&self.telling, identity.cgroup) else {
                    self.note(&identity, &refused);
                    reset(&stream);
                    return;
                };
                let acceptor = self.clone();
                tokio::spawn(async move {
                    acceptor.refuse(stream, peer, identity, refused).await;
                    drop(place);
                });
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, identity: &Identity, app: Arc<App>) {
        let mut accepted = Accepted::new(stream, app, peer, identity.asked);
        accepted.accelerated = self.accelerated;
        accepted.cgroup = Some(identity.cgroup);
        gate::hand_over(&self.workers, accepted);
    }

    fn note(&self, identity: &Identity, refused: &Refused) {
        let Refused { cgroup, reason, .. } = refused;
        tracing::debug!(?cgroup, asked = %identity.asked, reason, "refused");
        let subject = Subject {
            cgroup: cgroup.as_deref(),
            ..Subject::default()
        };
        audit::note(Reason::Identity, subject, || reason.clone());
        self.node.refusals.note(cgroup.as_deref(), reason);
    }

    /// Tells a connection why it gets nothing, unless its store appears meanwhile.
    async fn refuse(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        identity: Identity,
        mut refused: Refused,
    ) {
        let deadline = tokio::time::Instant::now() + APPEARS_WITHIN;
        while refused.others.is_some() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.app(identity.cgroup) {
                Ok(app) => return self.serve(stream, peer, &identity, app),
                Err(still) => refused = still,
            }
        }
        self.note(&identity, &refused);
        let asked = identity.asked;
        let ends = Ends { peer, asked };
        let workers = &self.workers;
        let admit = |mut accepted: Accepted| {
            accepted.accelerated = self.accelerated;
            accepted.cgroup = Some(identity.cgroup);
            gate::hand_over(workers, accepted);
        };
        let last_word = last_word(stream, ends, refused, admit);
        // Either way the connection ends there.
        let _ = tokio::time::timeout(gate::LOGIN_WITHIN, last_word).await;
    }

    /// The app of a cgroup, if it can be served.
    fn app(&self, cgroup: CgroupId) -> Result<Arc<App>, Refused> {
        let refused = |cgroup: Option<String>, reason: String| Refused {
            cgroup,
            reason,
            others: None,
        };
        let path = match self.mount.path_of(cgroup) {
            Ok(Some(path)) => path,
            Ok(None) => {
                let reason = "the cgroup of this process is gone";
                return Err(refused(None, reason.to_owned()));
            }
            Err(error) => return Err(refused(None, error.to_string())),
        };
        let serving = self.node.serving.load();
        let Some(workload) = serving.claimant(&self.places, &path) else {
            let reason = format!(
                "no app of this node claims the cgroup {path}; its operator can add it to agent.toml"
            );
            return Err(refused(Some(path), reason));
        };
        match &workload.state {
            State::Ready(app) => Ok(app.clone()),
            State::Absent {
                store,
                absence,
                others,
            } => {
                let config = self.node.config.load();
                let environment = &config.valkey.environment;
                let mut refused = refused(Some(path), absence.reason(store, environment));
                refused.others = Some(others.clone());
                Err(refused)
            }
        }
    }
}

impl Doorkeeper for Refused {
    fn open(&self, user: &[u8], password: &[u8]) -> Option<Admitted> {
        let app = self.others.as_ref()?;
        let store = app.store(user)?;
        store.opens_with(password).then(|| Admitted {
            app: app.clone(),
            user: user.to_vec(),
        })
    }

    fn refusal(&self) -> Option<String> {
        Some(self.reason.clone())
    }
}

/// Answers the first request with the reason, so that ordinary clients show it to their users, unless
/// it names another store of the app that is there.
async fn last_word(
    stream: TcpStream,
    ends: Ends,
    refused: Refused,
    admit: impl FnOnce(Accepted),
) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::from_std(stream)?;
    if let Some((admitted, early)) = gate::log_in(&mut stream, &refused).await? {
        admit(gate::accepted(stream.into_std()?, ends, admitted, early));
    }
    Ok(())
}

/// Closes with RST: what the client sent, if anything, was not looked at.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // A socket that is gone already needs no reset.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
