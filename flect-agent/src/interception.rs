//! The kernel hooks that hand an app's connections to the agent.

/// Whether `sk_msg` carries bytes past TCP/IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// What the start-up self-test allows.
    Auto,
    /// Both directions.
    On,
    /// None.
    Off,
}
