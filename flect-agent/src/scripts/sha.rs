//! How scripts are called: the SHA1 of their text, in hexadecimal.
//!
//! Invariant: lower case, as the server writes it; the server takes either.

use std::fmt;

/// The length of [`Sha`] as text.
pub const SHA_BYTES: usize = 40;

/// The name of a script.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha([u8; SHA_BYTES]);

impl Sha {
    /// A name that no text has: whoever asks for it is told NOSCRIPT.
    pub const NONE: Self = Self([b'-'; SHA_BYTES]);

    /// Of a text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut sha = Self::NONE;
        let digest = sha1_smol::Sha1::from(text).digest().to_string();
        sha.0.copy_from_slice(digest.as_bytes());
        sha
    }

    /// As a client writes it; `None` when it cannot be one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let sha: [u8; SHA_BYTES] = text.try_into().ok()?;
        sha.iter()
            .all(u8::is_ascii_hexdigit)
            .then(|| Self(sha.map(|byte| byte.to_ascii_lowercase())))
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
