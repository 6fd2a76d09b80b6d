//! `[agent.metrics]`: where monitoring asks.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Where `/metrics`, `/healthz` and `/readyz` are answered; by default nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// A unix socket: who asks is judged as at the control socket.
    pub socket: Option<PathBuf>,
    /// A port of loopback, which every app can reach: the token is asked for.
    pub listen: Option<Loopback>,
    /// The file into which the agent writes that token, anew each time it begins to listen.
    pub token_file: Option<PathBuf>,
}

/// An address of loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Loopback(pub SocketAddr);

impl TryFrom<String> for Loopback {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self(address)),
            _ => Err(format!(
                "'{text}' is no address and port of loopback: expected such as 127.0.0.1:15381"
            )),
        }
    }
}

impl Metrics {
    /// What no single value shows.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.listen.is_some() != self.token_file.is_some() {
            return Err(
                "agent.metrics.listen and agent.metrics.token_file: a port needs both, since every app \
                 of the node can reach it"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
