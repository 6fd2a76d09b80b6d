//! Where a worker takes what other threads tell it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use mio::Waker;

use super::Message;

/// The way to one worker, for other workers and the control side.
pub struct Mailbox {
    sender: mpsc::Sender<Message>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub(super) fn new(sender: mpsc::Sender<Message>, waker: Arc<Waker>) -> Self {
        Self { sender, waker }
    }

    /// Sends a message; lost when the worker has ended.
    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            // A waker fails only with its queue gone, and then nobody waits.
            let _ = self.waker.wake();
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// Every worker's, by its number. Touched when workers start and when one has something to tell.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes(Mutex<Vec<(usize, Arc<Mailbox>)>>);

impl Mailboxes {
    pub(super) fn enter(&self, number: usize, mailbox: Arc<Mailbox>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((number, mailbox));
    }

    /// False when there is no such worker.
    pub(super) fn send(&self, number: usize, message: Message) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mailbox = all.iter().find(|(known, _)| *known == number);
        let Some((_, mailbox)) = mailbox else {
            return false;
        };
        mailbox.send(message);
        true
    }
}

/// A session's entry that no worker serves, for tests of what is told of sessions.
#[cfg(test)]
pub(crate) fn entry_for_tests(id: u64, peer: &str, asked: &str) -> crate::environment::Entry {
    let poll = mio::Poll::new().expect("the kernel has an event queue");
    let waker = Waker::new(poll.registry(), mio::Token(0)).expect("a new queue takes a waker");
    crate::environment::Entry {
        id,
        store: 0,
        worker: 0,
        peer: peer.parse().expect("an address"),
        asked: asked.parse().expect("an address"),
        since: std::time::Instant::now(),
        named: std::sync::Mutex::default(),
        live: crate::environment::Live::default(),
        waits_for: std::sync::Mutex::default(),
        mailbox: Arc::new(Mailbox::new(mpsc::channel().0, Arc::new(waker))),
    }
}
