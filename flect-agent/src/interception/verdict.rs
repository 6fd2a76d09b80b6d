//! Whether bytes may go past TCP/IP on this kernel, and why not.

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// The directions that pass the self-test of the running kernel.
    #[default]
    Auto,
    /// Both directions, whatever the self-test would say.
    On,
    /// Neither.
    Off,
}

/// One thing that the self-test tried on the running kernel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Check {
    /// What was tried, such as `client to agent: half-close`.
    pub name: String,
    /// `None` when acceleration cannot be told from TCP, otherwise how it can.
    pub failure: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct AccelerationVerdict {
    /// What the operator asked for.
    pub requested: Acceleration,
    /// The app's requests go straight to the agent's socket.
    pub client_to_agent: bool,
    /// The agent's replies go straight to the app's socket.
    pub agent_to_client: bool,
    /// Why, in a sentence for `flect status`.
    pub reason: String,
    /// What the self-test tried; empty unless [`Acceleration::Auto`] was requested.
    pub checks: Vec<Check>,
}
