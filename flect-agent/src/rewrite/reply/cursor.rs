//! Reading a reply and copying what is kept of it.
//!
//! Invariant: bytes are copied in runs, each once.

/// The input; bytes from `copied` to `at` are done and are copied in one go.
pub(super) struct Cursor<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
    pub(super) copied: usize,
}

impl Cursor<'_> {
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.input[self.copied..self.at]);
        self.copied = self.at;
    }

    /// Leaves out the next bytes.
    pub(super) fn skip(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.flush(out);
        self.at += bytes;
        self.copied = self.at;
    }
}
