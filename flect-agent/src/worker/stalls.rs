//! Clients that do not take their replies as fast as the server sends them.
//!
//! Alone on its connection, such a client is held up by the server's own back-pressure. In front of
//! others on a shared one it first loses the company of new sessions, then the others' patience, then
//! the agent's memory, and at last its connection.

use std::time::{Duration, Instant};

use super::Worker;
use super::arena::Key;
use super::lanes;
use super::session::{CLIENT_OUT_BYTES_HIGH, Gate, HELD_BYTES_MAX, Lane, Session};
use super::upstream::{Role, Stall, Upstream};

/// How long others wait for a client that takes nothing of its large reply, before the reply is
/// buffered for it.
const PATIENCE: Duration = Duration::from_millis(50);

impl Worker {
    /// The session does not take its reply as fast as the server sends it.
    pub(super) fn slow_reader(&mut self, upstream_key: Key<Upstream>, key: Key<Session>) {
        self.flush_session(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let waiting_bytes = session.out.len();
        if waiting_bytes < CLIENT_OUT_BYTES_HIGH {
            return;
        }
        self.retire(upstream_key);
        let (Some(session), Some(upstream)) = (
            self.sessions.get_mut(key),
            self.upstreams.get_mut(upstream_key),
        ) else {
            return;
        };
        if upstream.role == Role::Shared {
            // Sessions that are owed nothing here are on other connections by now, so this one
            // can become the slow session's own, and the server's back-pressure reaches only it. One to a replica
            // may not: what comes next may be a write.
            if !upstream.others_wait(key) && !upstream.is_reader {
                upstream.role = Role::Own(key);
                session.lane = Lane::Own(upstream_key);
            } else if session.overdue {
                if self.held_bytes() > HELD_BYTES_MAX {
                    self.end_at_limit(key, "a client that reads nothing held up others");
                }
                return;
            }
        }
        if upstream.stalled_by.is_none() {
            if upstream.role == Role::Shared {
                self.stalls += 1;
            }
            upstream.stalled_by = Some(Stall {
                session: key,
                since: Instant::now(),
                waiting_bytes,
            });
        }
    }

    /// A shared connection gets no new sessions, and keeps only those that it owes something.
    fn retire(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        if upstream.role != Role::Shared || upstream.retired {
            return;
        }
        upstream.retired = true;
        if let Some(lanes) = lanes::of(&mut self.stores, upstream.store) {
            lanes.retire(upstream.protocol, upstream.is_reader, upstream.window);
        }
        for waiting in std::mem::take(&mut upstream.waiting) {
            self.open_gate(waiting, Gate::Upstream);
        }
    }

    /// What waits for clients that others have lost patience with.
    fn held_bytes(&mut self) -> usize {
        let sessions = &self.sessions;
        self.overdue
            .retain(|key| sessions.get(*key).is_some_and(|session| session.overdue));
        self.overdue
            .iter()
            .filter_map(|key| sessions.get(*key))
            .map(|session| session.out.len())
            .sum()
    }

    /// Reading goes on if it paused because of this session.
    pub(super) fn unstall(&mut self, upstream_key: Key<Upstream>, session: Key<Session>) {
        if let Some(upstream) = self.upstreams.get_mut(upstream_key)
            && upstream
                .stalled_by
                .is_some_and(|stall| stall.session == session)
        {
            upstream.stalled_by = None;
            if upstream.role == Role::Shared {
                self.stalls = self.stalls.saturating_sub(1);
            }
            self.readable.push(upstream_key);
        }
    }

    pub(super) fn look_after_stalls(&mut self, now: Instant) {
        if self.stalls == 0 {
            return;
        }
        let mut found = 0;
        for key in self.upstreams.keys() {
            let Some(upstream) = self.upstreams.get_mut(key) else {
                continue;
            };
            let (Some(stall), Role::Shared) = (&mut upstream.stalled_by, upstream.role) else {
                continue;
            };
            found += 1;
            let Some(session) = self.sessions.get_mut(stall.session) else {
                upstream.stalled_by = None;
                self.readable.push(key);
                continue;
            };
            if session.out.len() < stall.waiting_bytes {
                stall.waiting_bytes = session.out.len();
                stall.since = now;
            } else if now.duration_since(stall.since) >= PATIENCE {
                session.overdue = true;
                self.overdue.push(stall.session);
                upstream.stalled_by = None;
                self.readable.push(key);
                found -= 1;
            }
        }
        self.stalls = found;
    }
}
