//! What makes a store's workers look twice at a request: CLIENT PAUSE and MONITOR. Each costs one relaxed
//! load where nobody uses it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;
use crate::worker::Mailbox;

/// Whether a store's clients wait, which of their commands, and how long.
#[derive(Debug, Default)]
pub struct Pause {
    /// When it ends, by the workers' clock; 0 when there is none.
    until_ms: AtomicU64,
    /// All commands wait; otherwise those that write.
    all: AtomicBool,
}

impl Pause {
    /// Whether there may be a pause.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.until_ms.load(Ordering::Relaxed) != 0
    }

    /// How long it still lasts, and whether all commands wait.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Option<(Duration, bool)> {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Acquire));
        let rest = until.checked_sub(now).filter(|rest| !rest.is_zero())?;
        Some((rest, self.all.load(Ordering::Relaxed)))
    }

    /// Pauses until then. As long as an earlier pause lasts, it becomes neither shorter nor milder
    /// (`pauseClientsByClient` in networking.c).
    pub fn extend(&self, now: Duration, until: Duration, all: bool) {
        let earlier = self.remaining(now);
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        let all = all || earlier.is_some_and(|(_, all)| all);
        self.all.store(all, Ordering::Relaxed);
        match earlier {
            Some(_) => {
                self.until_ms.fetch_max(until_ms, Ordering::Release);
            }
            None => self.until_ms.store(until_ms, Ordering::Release),
        }
    }

    /// Ends it.
    pub fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

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

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_pause_becomes_neither_shorter_nor_milder() {
        let pause = Pause::default();
        assert!(!pause.is_set());
        pause.extend(ms(0), ms(500), false);
        assert_eq!(pause.remaining(ms(100)), Some((ms(400), false)));
        pause.extend(ms(100), ms(200), true);
        assert_eq!(pause.remaining(ms(100)), Some((ms(400), true)));
        pause.extend(ms(100), ms(900), false);
        assert_eq!(pause.remaining(ms(100)), Some((ms(800), true)));
        assert_eq!(pause.remaining(ms(900)), None);
        pause.extend(ms(1000), ms(1100), false);
        assert_eq!(pause.remaining(ms(1000)), Some((ms(100), false)));
        pause.end();
        assert!(!pause.is_set() && pause.remaining(ms(1000)).is_none());
    }

    #[test]
    fn lines_on_their_way_are_bounded() {
        let monitors = Monitors::default();
        assert!(monitors.send(60, 100) && !monitors.send(60, 100) && monitors.send(40, 100));
        monitors.received(60);
        assert!(monitors.send(60, 100));
    }
}
