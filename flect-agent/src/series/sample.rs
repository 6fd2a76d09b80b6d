//! The agent's cumulative counters as they stand in its metrics document.
//!
//! Whatever a field is not there is nought: `flect` may be older or newer than the agent.

use serde::Deserialize;

/// One look at the counters of an agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds since the agent's start.
    pub uptime_ms: u64,
    /// The agent itself.
    pub node: Node,
    /// The stores that the agent serves.
    pub stores: Vec<Store>,
    /// The last connections that were refused.
    pub refusals: Vec<Refusal>,
}

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    /// Connections of apps.
    pub sessions: u64,
    /// Connections to Valkey.
    pub upstreams: u64,
    /// Event loops.
    pub workers: u64,
}

/// One store on this node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Store {
    /// What people call it.
    pub name: String,
    /// What its keys begin with: the store's identity, whatever it is called.
    pub prefix: String,
    /// The apps that are bound to it.
    pub apps: Vec<String>,
    /// Connections of apps.
    pub sessions: u64,
    /// Requests that had their reply.
    pub requests: u64,
    /// Requests that were answered with an error by the server.
    pub errors: u64,
    /// Requests and connections that the agent refused.
    pub refused: u64,
    /// Requests that had to wait for the store's rate.
    pub delayed: u64,
    /// Bytes from apps.
    pub bytes_in: u64,
    /// Bytes to apps.
    pub bytes_out: u64,
    /// How long requests took.
    pub latency_us: Latency,
    /// The most frequent commands.
    pub commands: Vec<Command>,
    /// The most frequent keys, sampled.
    pub keys: Vec<Key>,
    /// Bytes of keys and values, where they have been measured.
    pub memory_bytes: Option<u64>,
    /// The number of keys, where it has been measured.
    pub key_count: Option<u64>,
    /// What the store may use.
    pub limits: Limits,
}

/// A histogram of microseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// All of them together.
    pub sum: u64,
    /// The longest.
    pub max: u64,
    /// Upper bounds, powers of two, with how many are at most that and above the bound before.
    pub buckets: Vec<(u64, u64)>,
}

/// How often a command came.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// How often a key was seen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Key {
    /// The key as the app names it.
    pub key: String,
    /// How often among the sampled requests.
    pub count: u64,
}

/// What a store may use; nothing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of keys and values.
    pub memory_bytes: Option<u64>,
    /// Connections on this node.
    pub connections: Option<u64>,
    /// Commands per second on this node.
    pub commands_per_second: Option<u64>,
}

/// A connection that was refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Refusal {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Where it came from.
    pub cgroup: String,
    /// Why.
    pub reason: String,
}
