//! How an agent ends: it accepts no more, lets go what others take over, and lets its sessions leave.
//!
//! Invariant: the order. First nothing more is accepted, so that a connection is either this agent's to the end
//! or the next one's from the beginning; then places that only one process can have are given up; then sessions
//! leave, each between two requests.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flect_agent::worker::{Handle, Leaving, Message, Parting};
use tokio::sync::{mpsc, oneshot};

use crate::accept::Acceptor;
use crate::control::Control;
use crate::handover::{Ask, Keep, Left, Offer};
use crate::node::Node;

/// How long sessions may take to leave an agent that is told to end: connections wait for the next agent
/// meanwhile. Requests under way take milliseconds.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How long threads may take to give up their ports: each waits for nothing else.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// How often it is looked whether all have left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Workers have a turn at least this often while sessions leave, and then end those whose time is over.
const TURN: Duration = Duration::from_millis(500);

/// What there is to be let go.
pub struct Leaver {
    pub node: Arc<Node>,
    pub workers: Arc<Vec<Handle>>,
    /// None where nothing is intercepted.
    pub acceptor: Option<Arc<Acceptor>>,
    /// Second descriptors of explicit mode's.
    pub explicit: Vec<TcpListener>,
    /// The control socket, and the offer to hand over.
    pub places: Mutex<Option<(Control, Option<Offer>)>>,
    pub keep: Arc<Keep>,
}

impl Leaver {
    /// Does what a successor asks for; returns when that has taken over.
    pub async fn answer(&self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            match ask {
                Ask::Listeners(asker) => {
                    // Who asked may have given up, and says so next.
                    let _ = asker.send(self.listeners().await);
                }
                Ask::Resume => {
                    if let Some(acceptor) = &self.acceptor
                        && let Err(error) = acceptor.watch()
                    {
                        tracing::error!(%error, "network namespaces are not watched any more; restart the agent");
                    }
                }
                Ask::Leave(asker) => self.leave(asker).await,
                Ask::End => return,
            }
        }
        // Nobody can ask, and nobody takes over.
        std::future::pending().await
    }

    async fn listeners(&self) -> anyhow::Result<[Vec<TcpListener>; 2]> {
        let explicit = self.explicit.iter().map(TcpListener::try_clone);
        let explicit = explicit.collect::<Result<_, _>>()?;
        let Some(acceptor) = self.acceptor.clone() else {
            return Ok([Vec::new(), explicit]);
        };
        let listeners = tokio::task::spawn_blocking(move || acceptor.rest()).await??;
        Ok([listeners, explicit])
    }

    async fn leave(&self, asker: oneshot::Sender<Left>) {
        self.close().await;
        let (to, sessions) = mpsc::unbounded_channel();
        let ids = self.ids();
        let left = Left { ids, sessions };
        if asker.send(left).is_err() {
            tracing::error!("the thread of the hand-over has gone; sessions end");
        }
        let limit = Duration::from_secs(self.node.config.load().agent.drain_seconds.into());
        self.part(Some(to), limit).await;
    }

    /// Lets everything go, for an end without a successor that is there already.
    pub async fn stop(&self) {
        if !self.keep.is_there() {
            self.close().await;
            return self.part(None, self.stop_within()).await;
        }
        self.close().await;
        let (to, mut sessions) = mpsc::unbounded_channel();
        self.part(Some(to), self.stop_within()).await;
        let mut left = Vec::new();
        while let Ok(parting) = sessions.try_recv() {
            left.push(parting);
        }
        match self.keep.sessions(self.ids(), &left) {
            Ok(()) => tracing::info!(sessions = left.len(), "left to the next agent"),
            Err(error) => tracing::error!(%error, "sessions cannot be left to the next agent"),
        }
    }

    fn stop_within(&self) -> Duration {
        let drain = self.node.config.load().agent.drain_seconds;
        STOP_WITHIN.min(Duration::from_secs(drain.into()))
    }

    /// Accepts no more, anywhere.
    async fn close(&self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.stop();
        }
        let places = self
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(places);
        self.node.close(CLOSED_WITHIN).await;
    }

    /// The last CLIENT ID of each store.
    fn ids(&self) -> Vec<(String, u64)> {
        let serving = self.node.serving.load();
        let stores = serving.stores().iter();
        stores
            .map(|store| (store.prefix.as_str().to_owned(), store.connections()))
            .collect()
    }

    /// Lets sessions leave, and returns when all have, or the time is over.
    async fn part(&self, to: Option<mpsc::UnboundedSender<Parting>>, limit: Duration) {
        for worker in self.workers.iter() {
            worker.send(Message::Leave(Leaving {
                to: to.clone(),
                limit,
            }));
        }
        drop(to);
        let deadline = Instant::now() + limit + TURN;
        while Instant::now() < deadline && !self.is_deserted().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // With the workers the ways end on which sessions left.
        for worker in self.workers.iter() {
            worker.send(Message::Stop);
        }
    }

    /// Whether there is no session, nor a connection that may become one.
    async fn is_deserted(&self) -> bool {
        if self.acceptor.as_ref().is_some_and(|it| !it.is_quiet())
            || self.workers.iter().any(|worker| worker.sessions() > 0)
        {
            return false;
        }
        // What was on its way to a worker has come when the worker answers.
        for worker in self.workers.iter() {
            let _ = tokio::time::timeout(TURN, worker.census()).await;
        }
        self.workers.iter().all(|worker| worker.sessions() == 0)
    }
}
