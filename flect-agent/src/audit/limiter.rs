//! Which events become lines: some of each kind at once, then one a window with the count of the others.
//!
//! Invariant: memory is bounded, whatever apps do; an event is either in a line's count or still to be
//! told of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Reason, Subject};

/// Lines of one store and reason at once: enough to see what happens.
const AT_ONCE: u32 = 5;

/// How long they last, and how long events are counted before the next line.
const WINDOW: Duration = Duration::from_secs(10);

/// Stores and cgroups that are told apart at once: cgroups are made by tenants, so there may be any
/// number. What is beyond is counted under its reason alone.
const KEPT_MAX: usize = 4096;

/// Tells kinds of events apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    reason: Reason,
    /// The store, or the cgroup where there is none.
    who: String,
}

#[derive(Debug)]
struct Count {
    app: Option<String>,
    is_store: bool,
    window_from: Instant,
    lines: u32,
    untold: u64,
}

/// What has been told of late, and what has not.
#[derive(Debug)]
pub(super) struct Limiter {
    kinds: HashMap<Kind, Count>,
    swept: Instant,
}

/// What was counted and not told.
#[derive(Debug)]
pub(super) struct Counted {
    pub reason: Reason,
    who: String,
    app: Option<String>,
    is_store: bool,
    pub count: u64,
}

impl Counted {
    fn of(kind: &Kind, count: &Count) -> Self {
        Self {
            reason: kind.reason,
            who: kind.who.clone(),
            app: count.app.clone(),
            is_store: count.is_store,
            count: count.untold,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let who = Some(self.who.as_str()).filter(|who| !who.is_empty());
        Subject {
            app: self.app.as_deref(),
            store: who.filter(|_| self.is_store),
            cgroup: who.filter(|_| !self.is_store),
        }
    }
}

impl Limiter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            kinds: HashMap::new(),
            swept: now,
        }
    }

    /// Counts an event; how many the line stands for if one is to be written now.
    pub(super) fn take(
        &mut self,
        reason: Reason,
        subject: Subject<'_>,
        now: Instant,
    ) -> Option<u64> {
        let who = subject.store.or(subject.cgroup).unwrap_or_default();
        let mut kind = Kind {
            reason,
            who: who.to_owned(),
        };
        let mut app = subject.app;
        if self.kinds.len() >= KEPT_MAX && !self.kinds.contains_key(&kind) {
            kind.who.clear();
            app = None;
        }
        let count = self.kinds.entry(kind).or_insert_with(|| Count {
            app: app.map(str::to_owned),
            is_store: subject.store.is_some(),
            window_from: now,
            lines: 0,
            untold: 0,
        });
        if now.duration_since(count.window_from) >= WINDOW {
            // After a window with too many, one line a window; after a quiet one, some again.
            count.lines = if count.untold > 0 { AT_ONCE - 1 } else { 0 };
            count.window_from = now;
        }
        count.untold += 1;
        if count.lines >= AT_ONCE {
            return None;
        }
        count.lines += 1;
        Some(std::mem::take(&mut count.untold))
    }

    /// All that was counted and not told.
    pub(super) fn rest(&mut self) -> Vec<Counted> {
        let kinds = self.kinds.drain();
        kinds
            .filter(|(_, count)| count.untold > 0)
            .map(|(kind, count)| Counted::of(&kind, &count))
            .collect()
    }

    /// What was counted in windows that are over; kinds of which nothing came are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Counted> {
        if now.duration_since(self.swept) < WINDOW {
            return Vec::new();
        }
        self.swept = now;
        let mut due = Vec::new();
        self.kinds.retain(|kind, count| {
            let over = now.duration_since(count.window_from) >= WINDOW;
            if over && count.untold > 0 {
                due.push(Counted::of(kind, count));
                count.untold = 0;
                count.window_from = now;
                count.lines = AT_ONCE;
                return true;
            }
            !over
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> Subject<'_> {
        Subject {
            store: Some(name),
            ..Subject::default()
        }
    }

    #[test]
    fn what_comes_too_fast_is_counted_and_told_later() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        let mut told = 0;
        for _ in 0..1000 {
            told += limiter
                .take(Reason::Connections, store("a"), start)
                .unwrap_or(0);
        }
        assert_eq!(told, u64::from(AT_ONCE));
        // Another store, and another reason, are told all the same.
        assert_eq!(
            limiter.take(Reason::Connections, store("b"), start),
            Some(1)
        );
        assert_eq!(limiter.take(Reason::Rate, store("a"), start), Some(1));
        let later = start + WINDOW;
        assert_eq!(
            limiter.take(Reason::Connections, store("a"), later),
            Some(996)
        );
        assert_eq!(limiter.take(Reason::Connections, store("a"), later), None);
    }

    #[test]
    fn what_was_counted_is_told_though_nothing_comes() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        for _ in 0..10 {
            let _ = limiter.take(Reason::Buffers, store("a"), start);
        }
        assert!(limiter.due(start + WINDOW / 2).is_empty());
        let due = limiter.due(start + WINDOW);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].count, 5);
        assert_eq!(due[0].subject().store, Some("a"));
        assert!(limiter.due(start + WINDOW * 2).is_empty());
        assert!(limiter.kinds.is_empty(), "kinds are forgotten");
    }

    #[test]
    fn invented_names_take_bounded_memory_and_lose_no_count() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        let mut told = 0;
        for number in 0..3 * KEPT_MAX {
            let cgroup = format!("/{number}");
            let subject = Subject {
                cgroup: Some(&cgroup),
                ..Subject::default()
            };
            told += limiter.take(Reason::Identity, subject, start).unwrap_or(0);
        }
        assert!(limiter.kinds.len() <= KEPT_MAX + Reason::ALL.len());
        let due: u64 = limiter.due(start + WINDOW).iter().map(|c| c.count).sum();
        assert_eq!(told + due, 3 * KEPT_MAX as u64);
    }
}
