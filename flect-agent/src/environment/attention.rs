//! What makes a store's workers look twice at a request besides CLIENT PAUSE: MONITOR. It costs one relaxed
//! load where nobody uses it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::worker::Mailbox;

/// Where a store's monitoring sessions are.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    /// Workers with such sessions, and how many each has.
    workers: Mutex<Vec<(Arc<Mailbox>, usize)>>,
    /// Bytes of lines that are on their way to other workers.
    on_the_way_bytes: AtomicUsize,
}

impl Monitors {
    /// Whether anybody watches.
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// One more session of that worker watches.
    pub fn enter(&self, mailbox: &Arc<Mailbox>) {
        let mut workers = lock(&self.workers);
        match workers
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, mailbox))
        {
            Some((_, count)) => *count += 1,
            None => workers.push((mailbox.clone(), 1)),
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// One session less of that worker does.
    pub fn leave(&self, mailbox: &Arc<Mailbox>) {
        let mut workers = lock(&self.workers);
        if let Some(place) = workers
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, mailbox))
        {
            workers[place].1 -= 1;
            if workers[place].1 == 0 {
                workers.swap_remove(place);
            }
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The workers with such sessions.
    #[must_use]
    pub fn workers(&self) -> Vec<Arc<Mailbox>> {
        let workers = lock(&self.workers);
        workers.iter().map(|(mailbox, _)| mailbox.clone()).collect()
    }

    /// So many bytes go to another worker; whether they may.
    pub fn send(&self, bytes: usize, bytes_max: usize) -> bool {
        let add = |waiting: usize| (waiting + bytes <= bytes_max).then_some(waiting + bytes);
        self.on_the_way_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    /// So many bytes have come.
    pub fn received(&self, bytes: usize) {
        self.on_the_way_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_on_their_way_are_bounded() {
        let monitors = Monitors::default();
        assert!(monitors.send(60, 100) && !monitors.send(60, 100) && monitors.send(40, 100));
        monitors.received(60);
        assert!(monitors.send(60, 100));
    }
}
