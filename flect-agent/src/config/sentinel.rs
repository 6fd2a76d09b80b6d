//! `[valkey.sentinel]`: whom to ask where the primary is.

use std::path::PathBuf;

use serde::Deserialize;

use super::Endpoint;

/// Sentinels that watch a primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// What they call the primary: the name in `sentinel monitor NAME ...`.
    pub master: String,
    /// Where they listen.
    pub addresses: Vec<Endpoint>,
    /// The user to log into them as, where they ask for one.
    pub user: Option<String>,
    /// A file that holds that user's password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Whether they speak TLS; by default as Valkey does.
    pub tls: Option<bool>,
}

impl Sentinel {
    /// What no single value shows. `valkey_tls`: Valkey speaks it.
    pub(super) fn check(&self, valkey_tls: bool) -> Result<(), String> {
        if self.addresses.is_empty() || self.master.is_empty() {
            return Err(
                "valkey.sentinel: give it the master's name and at least one of addresses"
                    .to_owned(),
            );
        }
        if self.user.is_some() && self.password_file.is_none() {
            return Err("valkey.sentinel.user: a user needs a password_file".to_owned());
        }
        if self.tls == Some(true) && !valkey_tls {
            return Err(
                "valkey.sentinel.tls: its certificates are those of [valkey.tls], which is not there"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
