//! How upstream connections end, and what becomes of whom they owe a reply.

use std::io;
use std::sync::atomic::Ordering;

use super::super::Worker;
use super::super::arena::Key;
use super::super::session::{Gate, Lane, Session};
use super::super::upstream::{Owed, Recipient, Role, State, Upstream};

impl Worker {
    pub(in crate::worker) fn close_upstream(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.take_upstream(key) else {
            return;
        };
        // A script's job may have asked on the connection of its session.
        for Owed { to, .. } in upstream.owed {
            if let Recipient::Job(job) = to {
                self.fail_job(job);
            }
        }
        for session in upstream.waiting {
            self.open_gate(session, Gate::Upstream);
        }
    }

    pub(super) fn take_upstream(&mut self, key: Key<Upstream>) -> Option<Upstream> {
        let mut upstream = self.upstreams.remove(key)?;
        self.count_upstreams();
        self.environment.directory.descriptors.give_back();
        upstream.uncount();
        // Closed on drop either way.
        let _ = self.poll.registry().deregister(&mut upstream.socket);
        Some(upstream)
    }

    pub(in crate::worker) fn count_upstreams(&self) {
        self.upstream_count
            .store(self.upstreams.len(), Ordering::Relaxed);
    }

    /// The server has ended a connection, or it broke.
    pub(in crate::worker) fn upstream_ended(&mut self, key: Key<Upstream>, error: &io::Error) {
        match self.upstreams.get(key) {
            Some(upstream) if upstream.state == State::Open => {
                tracing::debug!(%error, "an upstream connection ended");
                if !upstream.is_reader {
                    self.doubt();
                }
                self.fail_upstream(key);
            }
            // Most often the certificates of either side.
            _ => self.lost_before_open(key, error),
        }
    }

    /// A connection is gone: sessions that are owed a reply on it see what they would see of a
    /// server that went away, their connection closed. Nothing is sent twice.
    pub(in crate::worker) fn fail_upstream(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.take_upstream(key) else {
            return;
        };
        for Owed { to, .. } in &upstream.owed {
            match *to {
                Recipient::Session(session) => self.close_session_of(session, key),
                Recipient::Page(job) if !self.pages_are_proven() => {
                    self.fail_job(job);
                    self.page_done();
                }
                // Behind each page.
                Recipient::Slot(job) => {
                    self.fail_job(job);
                    self.page_done();
                }
                Recipient::Job(job) | Recipient::Aside(job) => self.fail_job(job),
                Recipient::Unblocking(unblocking) => self.unblocked(unblocking),
                Recipient::Heard(session) => self.heard(session),
                Recipient::Greeting
                | Recipient::Switched(..)
                | Recipient::ServerId
                | Recipient::Exists
                | Recipient::Untold(_)
                | Recipient::Page(_)
                | Recipient::Listening => {}
            }
        }
        if upstream.role == Role::Listener {
            self.listener_failed(upstream.store);
        }
        if let Role::Own(session) = upstream.role {
            self.close_session_of(session, key);
        }
        for session in upstream.waiting {
            self.close_session_of(session, key);
            // One that has been served meanwhile is on no connection, and takes another.
            self.open_gate(session, Gate::Upstream);
        }
    }

    /// Closes a session whose connection has gone already.
    fn close_session_of(&mut self, session: Key<Session>, upstream: Key<Upstream>) {
        if let Some(found) = self.sessions.get_mut(session)
            && matches!(found.lane, Lane::Own(lane) | Lane::Shared(lane) if lane == upstream)
        {
            found.lane = Lane::None;
            self.close_session(session);
        }
    }
}
