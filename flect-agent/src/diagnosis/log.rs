//! A log of commands: the newest first, as many as the store's settings say.

use std::collections::VecDeque;

use super::Arguments;

/// What a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands that took long.
    Slow,
    /// Commands that came with many bytes.
    LargeRequest,
    /// Commands whose reply had many bytes.
    LargeReply,
}

impl Kind {
    /// The kind of a word in COMMANDLOG.
    #[must_use]
    pub fn find(word: &[u8]) -> Option<Self> {
        let kinds: [(&[u8], Self); 3] = [
            (b"slow", Self::Slow),
            (b"large-request", Self::LargeRequest),
            (b"large-reply", Self::LargeReply),
        ];
        let mut kinds = kinds.into_iter();
        kinds
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, kind)| kind)
    }
}

/// What a log holds at most, whatever an app sets: an entry may have 5 KiB, and the memory is the
/// node's.
pub const ENTRIES_MAX: usize = 1024;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counted from 0 for each log; numbers are not used twice.
    pub id: i64,
    /// Seconds since 1970.
    pub at: u64,
    /// Microseconds, or bytes.
    pub value: i64,
    /// What was sent.
    pub arguments: Arguments,
    /// Who sent it: address and port.
    pub peer: String,
    /// The name that the client gave itself.
    pub name: Vec<u8>,
}

/// The commands of one kind.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: i64,
}

impl Log {
    /// One more command, of which the log holds no more than `most`.
    pub fn push(&mut self, most: i64, mut entry: Entry) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries
            .truncate(usize::try_from(most).unwrap_or(0).min(ENTRIES_MAX));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest so many.
    pub fn newest(&self, count: usize) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().take(count)
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}
