//! Stores that have had their share of commands: their sessions wait, and are let go one request each in
//! their order, as the share grows. Nobody is told an error, and no other store's session waits.

use std::time::Duration;

use super::Worker;
use super::arena::Key;
use super::audit;
use super::lanes::{self, StoreLanes};
use super::session::{Gate, Session};
use crate::audit::Reason;

/// A worker's place in the line for a store's share, which it takes for its first waiting session.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    /// When it may be used, by the workers' clock.
    due: Duration,
    /// The rate at which it was given: another one gives another place.
    rate: u32,
}

impl StoreLanes {
    /// Takes the right to one command; how long to wait when it is not due.
    fn share_in(&mut self, now: Duration) -> Option<Duration> {
        let limits = &self.store.limits;
        let rate = limits.rate();
        let reserved = self.reserved.filter(|reserved| reserved.rate == rate);
        if reserved.is_none() && limits.take(now) {
            return None;
        }
        let due = reserved.map_or_else(|| limits.reserve(now), |reserved| reserved.due);
        self.reserved = (due > now).then_some(Reserved { due, rate });
        self.reserved.map(|reserved| reserved.due - now)
    }
}

impl Worker {
    /// Whether the session's next request may be taken; otherwise its gate closes.
    pub(super) fn admit(&mut self, key: Key<Session>) -> bool {
        match self.sessions.get(key) {
            Some(session) if session.admitted || !session.store.limits.has_rate() => true,
            Some(_) => self.take_share(key),
            None => false,
        }
    }

    fn take_share(&mut self, key: Key<Session>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let number = session.store.number;
        let Some(lanes) = lanes::of(&mut self.stores, Some(number)) else {
            return false;
        };
        // Those who wait already come first.
        if lanes.paced.is_empty() && lanes.store.limits.take(self.now) {
            session.admitted = true;
            return true;
        }
        session.gate = Gate::Pace;
        session.meter.delayed.add(1);
        if lanes.paced.is_empty() {
            // Once for all that wait from now on: this is asked often.
            audit::note(&session.app, &session.store, Reason::Rate, "commands wait");
            self.paced.push(number);
            // The next turn finds out how long.
            self.pace = Some(Duration::ZERO);
        }
        lanes.paced.push_back(key);
        false
    }

    /// Lets as many waiting sessions go as there is share for, and notes when there will be more.
    pub(super) fn release_paced(&mut self) {
        self.pace = None;
        for number in std::mem::take(&mut self.paced) {
            let mut released = Vec::new();
            let Some(lanes) = lanes::of(&mut self.stores, Some(number)) else {
                continue;
            };
            while let Some(key) = lanes.paced.front().copied() {
                let waiting = self.sessions.get_mut(key).filter(|s| s.gate == Gate::Pace);
                if let Some(session) = waiting {
                    if let Some(wait) = lanes.share_in(self.now) {
                        let least = self.pace.unwrap_or(wait);
                        self.pace = Some(least.min(wait));
                        break;
                    }
                    session.admitted = true;
                    released.push(key);
                }
                lanes.paced.pop_front();
            }
            if !lanes.paced.is_empty() {
                self.paced.push(number);
            }
            for key in released {
                self.open_gate(key, Gate::Pace);
            }
        }
    }

    /// Sessions that ended while they waited leave the queue, however many there are of them.
    pub(super) fn forget_ended(&mut self) {
        for number in &self.paced {
            if let Some(lanes) = lanes::of(&mut self.stores, Some(*number)) {
                lanes.paced.retain(|key| self.sessions.get(*key).is_some());
            }
        }
    }
}
