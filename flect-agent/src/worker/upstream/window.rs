//! How much may be asked of the server at once.
//!
//! What has been asked for and is not read yet is made and kept by the server, and while it makes it everybody
//! waits: ten thousand GETs of a hundred kilobytes, from clients that each sent a few, are one second and one
//! gigabyte if they are all passed on. Nobody knows how large a reply will be, but those before it tell.

/// Bytes of replies that a connection which sessions share may be owed, by what its latest ones have had: some
/// milliseconds of the server's time, and more than there is on the way while it and the agent take turns.
const SHARED_BYTES: usize = 4 * 1024 * 1024;

/// The same of a session's own: there may be as many of these as the store may have connections.
const OWN_BYTES: usize = 256 * 1024;

/// How large a new connection's replies are taken to be until there is one.
const UNKNOWN_BYTES: usize = 8 * 1024;

/// By what part the largest reply is forgotten with each smaller one.
const FORGOTTEN: u32 = 3;

/// What a connection's latest replies say of the next ones.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Bytes of the largest of the latest replies.
    large_bytes: usize,
    /// Bytes of the one under way.
    coming_bytes: usize,
}

impl Window {
    /// Of a connection whose replies are not known yet.
    pub const fn new() -> Self {
        Self::expecting(UNKNOWN_BYTES)
    }

    /// Of a connection that is there for replies of so many bytes.
    pub const fn expecting(bytes: usize) -> Self {
        Self {
            large_bytes: bytes,
            coming_bytes: 0,
        }
    }

    /// Counts bytes of the reply under way.
    pub fn came(&mut self, bytes: usize) {
        self.coming_bytes += bytes;
    }

    /// The reply under way is whole.
    pub fn answered(&mut self) {
        let bytes = std::mem::take(&mut self.coming_bytes);
        let remembered = self.large_bytes - (self.large_bytes >> FORGOTTEN);
        self.large_bytes = remembered.max(bytes);
    }

    /// Whether one more may be asked where so many are owed.
    pub fn is_open(&self, owed: usize, is_shared: bool) -> bool {
        let bytes = if is_shared { SHARED_BYTES } else { OWN_BYTES };
        owed == 0 || owed.saturating_mul(self.large_bytes) < bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(replies: impl IntoIterator<Item = usize>) -> Window {
        let mut window = Window::new();
        for bytes in replies {
            window.came(bytes / 2);
            window.came(bytes - bytes / 2);
            window.answered();
        }
        window
    }

    #[test]
    fn large_replies_close_it_and_small_ones_open_it_again() {
        let unknown = Window::new();
        assert!(unknown.is_open(511, true) && !unknown.is_open(512, true));
        let large = window([100_000]);
        assert!(large.is_open(41, true) && !large.is_open(42, true));
        assert!(large.is_open(2, false) && !large.is_open(3, false));
        // What nobody can divide is asked for one at a time.
        let huge = window([512 << 20]);
        assert!(huge.is_open(0, true) && huge.is_open(0, false));
        assert!(!huge.is_open(1, true) && !huge.is_open(1, false));
        let again = window([100_000].into_iter().chain([5; 60]));
        assert!(again.is_open(100_000, true));
    }
}
