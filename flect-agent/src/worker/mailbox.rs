//! How workers tell each other something: a session that another one redirects its invalidations to
//! may be served by any of them.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use mio::Waker;

use super::Message;

/// Where one worker takes its messages from.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) waker: Arc<Waker>,
}

impl Mailbox {
    /// Lost when the worker has ended.
    pub(super) fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            // A waker fails only with its queue gone, and then nobody waits.
            let _ = self.waker.wake();
        }
    }
}

/// Every worker's, by its number. Touched when workers start and when one has something to tell.
#[derive(Default)]
pub(crate) struct Mailboxes(Mutex<Vec<(usize, Mailbox)>>);

impl std::fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailboxes").finish_non_exhaustive()
    }
}

impl Mailboxes {
    pub(super) fn enter(&self, number: usize, mailbox: Mailbox) {
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
