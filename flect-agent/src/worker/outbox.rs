//! Bytes that wait to be written to a socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};

/// An emptied buffer larger than this is given back: ten thousand idle connections must not keep
/// the memory of their busiest moment. One read's worth is kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A growing buffer with a written part in front.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// How many bytes were appended before those in `bytes`.
    before: u64,
    kept: Kept,
}

/// What a connection has sent of late: the requests that are unanswered, as whole buffers that were
/// flushed. A buffer is moved here instead of being emptied, so nothing is copied.
#[derive(Default)]
struct Kept {
    /// Whether anything is kept at all.
    wanted: bool,
    flushed: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
}

/// What is kept of unanswered requests on a connection, beyond the newest buffer: a reply that comes
/// after more than this tells its command alone.
const UNANSWERED_BYTES_MAX: usize = 256 * 1024;

/// How far a flush came.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Flushed {
    /// Everything is with the kernel.
    All,
    /// The socket takes no more for now.
    Blocked,
}

impl Outbox {
    /// Bytes that still wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes that wait, and those that are kept.
    pub fn held_bytes(&self) -> usize {
        self.len() + self.kept.bytes
    }

    /// The size of the buffer.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where more bytes are appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Flushed bytes are kept until [`Outbox::forget`].
    pub fn keep(&mut self) {
        self.kept.wanted = true;
    }

    /// How many bytes have ever been appended.
    pub fn position(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// What was appended between two positions, as far as its beginning is still there.
    pub fn sent(&self, from: u64, to: u64) -> &[u8] {
        let current = (self.before, &self.bytes);
        let flushed = self
            .kept
            .flushed
            .iter()
            .map(|(start, bytes)| (*start, bytes));
        let mut buffers = flushed.chain([current]);
        let holds = |(start, bytes): &(u64, &Vec<u8>)| {
            (*start..*start + bytes.len() as u64).contains(&from)
        };
        let Some((start, bytes)) = buffers.find(holds) else {
            return &[];
        };
        // Both lie within a buffer's length.
        let end = ((to - start) as usize).min(bytes.len());
        &bytes[(from - start) as usize..end]
    }

    /// What was appended before this position is answered.
    pub fn forget(&mut self, to: u64) {
        while let Some((start, bytes)) = self.kept.flushed.front()
            && start + bytes.len() as u64 <= to
        {
            self.drop_kept();
        }
    }

    fn drop_kept(&mut self) {
        let Some((_, mut bytes)) = self.kept.flushed.pop_front() else {
            return;
        };
        self.kept.bytes -= bytes.len();
        if self.bytes.capacity() == 0 && bytes.capacity() <= KEPT_BYTES_MAX {
            bytes.clear();
            self.bytes = bytes;
        }
    }

    /// Writes until all is gone or the socket takes no more.
    pub fn flush(&mut self, socket: &mut impl Write) -> std::io::Result<Flushed> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drop_written();
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        if self.bytes.is_empty() {
            return Ok(Flushed::All);
        }
        let start = self.before;
        self.before += self.bytes.len() as u64;
        if self.kept.wanted {
            self.kept.bytes += self.bytes.len();
            let bytes = std::mem::take(&mut self.bytes);
            self.kept.flushed.push_back((start, bytes));
            while self.kept.bytes > UNANSWERED_BYTES_MAX && self.kept.flushed.len() > 1 {
                self.drop_kept();
            }
            return Ok(Flushed::All);
        }
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        Ok(Flushed::All)
    }

    /// Moves the waiting bytes to the front once the written part outweighs them, so that each
    /// byte is moved at most once on average.
    fn drop_written(&mut self) {
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.before += self.written as u64;
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.room).min(3);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_writes_keep_order_and_count() {
        let mut outbox = Outbox::default();
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 7,
        };
        outbox.tail().extend_from_slice(b"0123456789");
        assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Blocked);
        assert_eq!(outbox.len(), 3);
        outbox.tail().extend_from_slice(b"ab");
        socket.room = 100;
        assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::All);
        assert_eq!(socket.taken, b"0123456789ab");
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_sent_is_there_until_it_is_answered() {
        let mut outbox = Outbox::default();
        outbox.keep();
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 1000,
        };
        outbox.tail().extend_from_slice(b"one");
        let one = outbox.position();
        outbox.tail().extend_from_slice(b"two");
        let two = outbox.position();
        outbox.flush(&mut socket).unwrap();
        outbox.tail().extend_from_slice(b"three");
        let three = outbox.position();
        outbox.forget(one);
        assert_eq!(outbox.sent(one, two), b"two");
        assert_eq!(outbox.sent(two, three), b"three");
        outbox.flush(&mut socket).unwrap();
        outbox.forget(two);
        assert_eq!(outbox.sent(one, two), b"");
        assert_eq!(outbox.sent(two, three), b"three");
        outbox.forget(three);
        assert!(outbox.kept.flushed.is_empty() && outbox.kept.bytes == 0);
        assert!(outbox.bytes.capacity() > 0, "the buffer is used again");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut outbox = Outbox::default();
        outbox.keep();
        for _ in 0..20 {
            let mut socket = Vec::new();
            outbox.tail().extend_from_slice(&[b'x'; 32 * 1024]);
            outbox.flush(&mut socket).unwrap();
        }
        assert!(outbox.kept.bytes <= UNANSWERED_BYTES_MAX);
        let last = outbox.position();
        assert_eq!(outbox.sent(last - 32 * 1024, last).len(), 32 * 1024);
        assert_eq!(outbox.sent(0, 10), b"");
    }
}
