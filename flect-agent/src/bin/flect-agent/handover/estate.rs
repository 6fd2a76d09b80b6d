//! What an agent leaves to the next.

use std::net::TcpListener;

use flect_agent::worker::Parting;

/// Listening sockets and sessions.
#[derive(Debug, Default)]
pub struct Estate {
    /// For intercepted connections, in all network namespaces.
    pub listeners: Vec<TcpListener>,
    /// Of explicit mode.
    pub explicit: Vec<TcpListener>,
    /// What has come so far.
    pub sessions: Vec<Parting>,
    /// Prefixes of stores, and the last CLIENT ID that each has given.
    pub ids: Vec<(String, u64)>,
}
