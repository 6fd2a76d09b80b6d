//! From an accepted socket to a worker: who is behind it, which app that is, which worker is least
//! busy. A socket without identity is reset; an identity that no app claims is told so.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flect_agent::cgroup::CgroupMount;
use flect_agent::config::CgroupPattern;
use flect_agent::environment::App;
use flect_agent::interception::{Identity, Interception};
use flect_agent::worker::{Accepted, Handle, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::AbortHandle;

/// How long a refused client gets to speak first and to read why.
const REFUSAL_WITHIN: Duration = Duration::from_secs(2);

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// An app and the cgroups that it is found in.
pub struct Workload {
    /// Where it runs.
    pub patterns: Vec<CgroupPattern>,
    /// What it may use.
    pub app: Arc<App>,
}

/// Accepts in every network namespace that has listeners.
pub struct Acceptor {
    interception: Interception,
    mount: CgroupMount,
    workloads: Vec<Workload>,
    workers: Arc<Vec<Handle>>,
    accelerated: bool,
    namespaces: Mutex<HashMap<u64, Vec<AbortHandle>>>,
}

impl Acceptor {
    pub fn new(
        interception: Interception,
        mount: CgroupMount,
        workloads: Vec<Workload>,
        workers: Arc<Vec<Handle>>,
    ) -> Self {
        let verdict = interception.acceleration();
        let accelerated = verdict.client_to_agent || verdict.agent_to_client;
        Self {
            interception,
            accelerated,
            mount,
            workloads,
            workers,
            namespaces: Mutex::new(HashMap::new()),
        }
    }

    /// Accepts on a namespace's listeners from now on; 0 stands for the agent's own.
    pub fn accept_on(
        self: &Arc<Self>,
        namespace: u64,
        listeners: Vec<TcpListener>,
    ) -> std::io::Result<()> {
        let mut tasks = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let acceptor = self.clone();
            tasks.push(tokio::spawn(acceptor.accept(listener)).abort_handle());
        }
        self.lock().entry(namespace).or_default().extend(tasks);
        Ok(())
    }

    /// Drops a namespace's listeners.
    pub fn leave(&self, namespace: u64) {
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

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let identity = match self.interception.identify(stream.as_fd()) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::warn!(%peer, %error, "a connection without identity was reset");
                reset(&stream);
                return;
            }
        };
        // The agent writes whole batches; Nagle would only add a delay.
        let _ = stream.set_nodelay(true);
        match self.app(&identity) {
            Ok(app) => {
                let mut accepted = Accepted::new(stream, app, peer, identity.asked);
                accepted.accelerated = self.accelerated;
                self.hand_over(accepted);
            }
            Err(reason) => {
                tracing::warn!(cgroup = ?identity.cgroup, asked = %identity.asked, reason, "refused");
                tokio::spawn(refuse(stream, reason));
            }
        }
    }

    /// The app of a cgroup: its nearest ancestor that a pattern matches.
    fn app(&self, identity: &Identity) -> Result<Arc<App>, String> {
        let path = self
            .mount
            .path_of(identity.cgroup)
            .map_err(|error| error.to_string())?
            .ok_or("the cgroup of this process is gone")?;
        self.workloads
            .iter()
            .filter_map(|workload| {
                let depths = workload.patterns.iter().filter_map(|p| p.match_depth(&path));
                depths.max().map(|depth| (depth, &workload.app))
            })
            .max_by_key(|(depth, _)| *depth)
            .map(|(_, app)| app.clone())
            .ok_or_else(|| {
                format!("no app of this node claims the cgroup {path}; its operator can add it to agent.toml")
            })
    }

    fn hand_over(&self, accepted: Accepted) {
        if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.sessions()) {
            worker.send(Message::Accept(Box::new(accepted)));
        }
    }
}

/// Closes with RST: what the client sent, if anything, was not looked at.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // A socket that is gone already needs no reset.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Answers the first request with the reason, so that ordinary clients show it to their users.
async fn refuse(stream: TcpStream, reason: String) {
    let told = async move {
        let mut stream = tokio::net::TcpStream::from_std(stream)?;
        let mut bytes = [0; 4096];
        if stream.read(&mut bytes).await? == 0 {
            return Ok(());
        }
        stream
            .write_all(format!("-DENIED {reason}\r\n").as_bytes())
            .await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and take the reason with it.
        while stream.read(&mut bytes).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Either way the connection ends here.
    let _ = tokio::time::timeout(REFUSAL_WITHIN, told).await;
}
