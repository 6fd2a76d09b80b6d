//! Bytes that wait to be written to a socket.

use std::io::{ErrorKind, Write};

/// An emptied buffer larger than this is given back: ten thousand idle connections must not keep
/// the memory of their busiest moment. One read's worth is kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A growing buffer with a written part in front.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

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
        self.bytes.clear();
        self.written = 0;
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
}
