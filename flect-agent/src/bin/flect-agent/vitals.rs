//! Whether the process serves, proven by its loops: each must answer out of its own turns.
//!
//! Invariant: an answer is made by the loop that it vouches for, and by no other thread.

use std::sync::Arc;
use std::time::Duration;

use flect_agent::worker::{Census, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::node::Node;

/// Questions that may wait for the main loop: more wait only where it does not turn, and then one more
/// tells nothing.
const WAITING_MAX: usize = 64;

/// Asks the loops.
pub struct Vitals {
    node: Arc<Node>,
    main: mpsc::Sender<oneshot::Sender<()>>,
}

/// What the loops have answered.
pub struct Signs {
    /// The main loop has.
    pub main: bool,
    /// What each worker has, where it answered; none before there are workers.
    pub workers: Vec<Option<Census>>,
}

impl Vitals {
    /// To be called in the main loop, which answers from then on.
    pub fn start(node: Arc<Node>) -> Arc<Self> {
        let (main, mut questions) = mpsc::channel::<oneshot::Sender<()>>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(asker) = questions.recv().await {
                // Who asked may have given up.
                let _ = asker.send(());
            }
        });
        Arc::new(Self { node, main })
    }

    /// Asks all loops at once and waits for as long as given.
    pub async fn look(&self, within: Duration) -> Signs {
        let deadline = Instant::now() + within;
        let (asker, main) = oneshot::channel();
        let asked = self.main.try_send(asker).is_ok();
        let workers = self.node.running().map(|running| running.workers.iter());
        let answers: Vec<_> = workers.into_iter().flatten().map(Handle::census).collect();
        let main = asked && matches!(timeout_at(deadline, main).await, Ok(Ok(())));
        let mut workers = Vec::with_capacity(answers.len());
        for answer in answers {
            workers.push(timeout_at(deadline, answer).await.ok().and_then(Result::ok));
        }
        Signs { main, workers }
    }
}

impl Signs {
    /// What does not answer, in words; `None` where all do.
    pub fn stuck(&self) -> Option<String> {
        if !self.main {
            return Some("the main loop does not turn".to_owned());
        }
        let number = self.workers.iter().position(Option::is_none)?;
        Some(format!("worker {number} does not turn"))
    }
}
