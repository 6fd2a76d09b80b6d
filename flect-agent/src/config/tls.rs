//! `[valkey.tls]`: how a Valkey that speaks TLS is told from others, and flect from other clients.

use std::path::PathBuf;

use serde::Deserialize;

/// TLS to the shared Valkey. Everything that flect connects to it then speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The authorities that may have signed the server's certificate, a PEM file; without it those that the
    /// system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate chain that flect shows, a PEM file; servers ask for one unless `tls-auth-clients` says
    /// otherwise.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, a PEM file that not everybody may read.
    pub key: Option<PathBuf>,
    /// The name or address that the server's certificate must have; without it the host of the address that is
    /// connected to.
    pub server_name: Option<String>,
}

impl Tls {
    /// What no single value shows.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err(
                "valkey.tls.certificate and valkey.tls.key: a client certificate needs both"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
