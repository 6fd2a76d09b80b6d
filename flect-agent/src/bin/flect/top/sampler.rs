//! Looks at the agent's counters, one interval apart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use flect_agent::metrics::Snapshot;
use flect_agent::series::{self, Rates};
use serde_json::{Value, json};

use crate::node::Node;

/// The agent hangs up on who is silent for longer, with some room.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// What `flect top` knows about the node at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// What happened in the last interval.
    pub rates: Rates,
    /// What the agent says of itself, as `flect status` shows it.
    pub state: State,
}

/// What the agent says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What people call the Valkey.
    pub environment: String,
    /// Where it is.
    pub valkey: String,
    /// It answers.
    pub reachable: bool,
    /// The agent serves.
    pub ready: bool,
}

/// A conversation with the agent that survives the agent's restart.
pub struct Sampler {
    socket: PathBuf,
    node: Option<Node>,
    before: Snapshot,
}

impl Sampler {
    /// Takes the first look.
    pub fn start(socket: &Path) -> anyhow::Result<Self> {
        let mut node = Node::connect(socket)?;
        let before = sample(&mut node)?;
        Ok(Self {
            socket: socket.to_owned(),
            node: Some(node),
            before,
        })
    }

    /// Waits and takes the next look; nothing when the agent was started anew in between, so that
    /// there is nothing to compare with yet.
    pub fn next(&mut self, interval: Duration) -> anyhow::Result<Option<Look>> {
        if interval > KEPT_FOR {
            self.node = None;
        }
        std::thread::sleep(interval);
        let looked = self.look();
        if looked.is_err() {
            // The next look connects anew.
            self.node = None;
        }
        looked
    }

    fn look(&mut self) -> anyhow::Result<Option<Look>> {
        let node = match &mut self.node {
            Some(node) => node,
            None => self.node.insert(Node::connect(&self.socket)?),
        };
        let after = sample(node)?;
        let report = node.ask(&json!({ "op": "status" }))?;
        let rates = series::between(&self.before, &after);
        self.before = after;
        Ok(rates.map(|rates| Look {
            rates,
            state: State::of(&report),
        }))
    }
}

fn sample(node: &mut Node) -> anyhow::Result<Snapshot> {
    let metrics = node.ask(&json!({ "op": "metrics" }))?;
    serde_json::from_value(metrics)
        .context("the agent's metrics are not understood; is it another version?")
}

impl State {
    fn of(report: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            environment: text(&report["environment"]),
            valkey: text(&report["valkey"]["address"]),
            reachable: report["valkey"]["reachable"] == true,
            ready: report["ready"] == true,
        }
    }
}
