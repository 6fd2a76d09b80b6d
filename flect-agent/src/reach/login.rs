//! Whom flect logs in as.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::RedisConnectionInfo;

use crate::config;
use crate::environment::Credentials;
use crate::secret;

/// A user and a password, or neither: then the server takes the connection for its default user's. Its `Debug`
/// output hides the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    user: Option<String>,
    password: Option<String>,
}

/// Why there is no password to log in with.
#[derive(Debug, thiserror::Error)]
#[error("password file {path}: {reason}")]
pub struct PasswordFileError {
    /// The file.
    path: PathBuf,
    /// Why it cannot be used, and what to do.
    reason: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl From<&Credentials> for Login {
    fn from(credentials: &Credentials) -> Self {
        Self {
            user: Some(credentials.user.clone()),
            password: Some(credentials.password.clone()),
        }
    }
}

impl Login {
    /// The operator's.
    ///
    /// # Errors
    /// When the password file cannot be used.
    pub fn of_operator(valkey: &config::Valkey) -> Result<Self, PasswordFileError> {
        let password = valkey.password_file.as_deref().map(read).transpose()?;
        // Without a password there is nothing to authenticate with; the user is the default.
        let is_default = password.is_none() && valkey.user == "default";
        Ok(Self {
            user: (!is_default).then(|| valkey.user.clone()),
            password,
        })
    }

    /// At Sentinels.
    pub(super) fn at_sentinels(sentinel: &config::Sentinel) -> Result<Self, PasswordFileError> {
        Ok(Self {
            user: sentinel.user.clone(),
            password: sentinel.password_file.as_deref().map(read).transpose()?,
        })
    }

    /// A login of these words.
    #[must_use]
    pub fn new(user: Option<String>, password: Option<String>) -> Self {
        Self { user, password }
    }

    /// As the client library wants it.
    #[must_use]
    pub fn to_redis(&self) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default();
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.password {
            info = info.set_password(password);
        }
        info
    }
}

/// A password, from a file that not everybody can read.
fn read(path: &Path) -> Result<String, PasswordFileError> {
    let complaint = |reason: String| PasswordFileError {
        path: path.to_owned(),
        reason,
    };
    secret::is_kept(path).map_err(complaint)?;
    let text = std::fs::read_to_string(path).map_err(|error| complaint(error.to_string()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
