//! TLS to the shared Valkey: whom to trust, and what flect shows of itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};

use crate::{config, secret};

/// The authorities that the system trusts, where Debian, Alpine and Arch keep them, and where Fedora does.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// Why TLS cannot be spoken as the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("valkey.tls.{key}: {reason}")]
pub struct TlsError {
    /// The key of the configuration.
    key: &'static str,
    /// What is wrong, and what to do.
    reason: String,
}

/// Certificates as they were read.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    /// A digest of all files' contents.
    contents: [u8; 32],
}

/// TLS to one server.
#[derive(Clone)]
pub struct Tls {
    /// Whom to trust.
    pub config: Arc<ClientConfig>,
    /// Who the server must be.
    pub name: ServerName<'static>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.contents == other.contents && self.server_name == other.server_name
    }
}

impl Eq for Trust {}

impl Trust {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be, when everybody may read the key, or when the
    /// certificate and the key do not fit together.
    pub fn load(config: &config::Tls) -> Result<Self, TlsError> {
        let mut contents = Sha256::new();
        let ca = match &config.ca {
            Some(path) => path.clone(),
            None => system_authorities()?,
        };
        let authorities = certificates("ca", &ca, &mut contents)?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(authorities);
        if added == 0 {
            return Err(complaint("ca", &ca, "no certificate of an authority in it"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| complaint("ca", &ca, error))?
            .with_root_certificates(roots);
        let client = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("certificate", certificate, &mut contents)?;
                let key_der = private_key(key, &mut contents)?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(|error| {
                        complaint("certificate", certificate, format!("with the key: {error}"))
                    })?
            }
            _ => builder.with_no_client_auth(),
        };
        let server_name = config.server_name.as_deref().map(server_name).transpose()?;
        Ok(Self {
            config: Arc::new(client),
            server_name,
            contents: contents.finalize().into(),
        })
    }

    /// For a server at this host, whose certificate must have that name unless the configuration says another.
    ///
    /// # Errors
    /// When no certificate can have such a name.
    pub fn of_host(&self, host: &str) -> io::Result<Arc<Tls>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(io::Error::other)?,
        };
        Ok(Arc::new(Tls {
            config: self.config.clone(),
            name,
        }))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(text.to_owned()).map_err(|_| TlsError {
        key: "server_name",
        reason: format!("'{text}' is no name that a certificate can have"),
    })
}

fn complaint(key: &'static str, path: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError {
        key,
        reason: format!("{}: {reason}", path.display()),
    }
}

fn system_authorities() -> Result<PathBuf, TlsError> {
    let mut places = SYSTEM_AUTHORITIES.iter().map(PathBuf::from);
    places.find(|path| path.exists()).ok_or_else(|| TlsError {
        key: "ca",
        reason: format!(
            "name the file of the authority, since the system has none at {}",
            SYSTEM_AUTHORITIES.join(" or ")
        ),
    })
}

fn read(key: &'static str, path: &Path, contents: &mut Sha256) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::read(path).map_err(|error| complaint(key, path, error))?;
    contents.update(Sha256::digest(&bytes));
    Ok(bytes)
}

fn certificates(
    key: &'static str,
    path: &Path,
    contents: &mut Sha256,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(key, path, contents)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| complaint(key, path, error))?;
    if all.is_empty() {
        return Err(complaint(key, path, "no certificate in it, as PEM"));
    }
    Ok(all)
}

fn private_key(path: &Path, contents: &mut Sha256) -> Result<PrivateKeyDer<'static>, TlsError> {
    secret::is_kept(path).map_err(|reason| complaint("key", path, reason))?;
    let bytes = read("key", path, contents)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| complaint("key", path, error))
}

#[cfg(test)]
mod tests;
