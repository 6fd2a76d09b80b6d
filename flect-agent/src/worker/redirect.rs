//! CLIENT TRACKING on its way, and sessions that get other sessions' invalidations.
//!
//! The server knows connections, the app knows sessions: the session that invalidations are
//! redirected to gets a connection of its own and keeps it, and the server gets that connection's id.
//!
//! Invariant: a redirection stays within a store; the id comes from the worker that serves the
//! session, and only for a session of the asking session's store.

use super::arena::Key;
use super::forward::Outcome;
use super::session::{Gate, Lane, Session};
use super::tracking::Asked;
use super::upstream::{Recipient, State, Upstream};
use super::{Message, Ticket, Worker};
use crate::commands::Command;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::rewrite::reply::ReplyPlan;

/// Who wants to know a session's connection.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub(super) worker: usize,
    pub(super) ticket: Ticket,
}

/// What is known of the session that invalidations shall go to.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The app's id.
    pub id: u64,
    /// The server's id of its connection; nothing when the session has gone.
    pub real: Option<u64>,
}

impl Worker {
    /// CLIENT TRACKING: judged here, and sent on when the server will take it.
    pub(super) fn track(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Outcome {
        if let Some(error) = self.subscribers_may_not(key, command) {
            self.refuse(key, &error);
            return Outcome::Taken;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return Outcome::Taken;
        };
        let found = session.redirect_found;
        let directory = &self.environment.directory;
        let store = session.store.number;
        let exists = |id| match found {
            Some(Found { id: known, real }) if known == id => real.is_some(),
            _ => directory.find(store, id).is_some(),
        };
        let asked = match Asked::read(request, exists) {
            Ok(asked) => asked,
            Err(error) => return self.track_refused(key, &error),
        };
        let real = match (asked.redirect(), found) {
            (0, _) => 0,
            (
                id,
                Some(Found {
                    id: known,
                    real: Some(real),
                }),
            ) if known == id => real,
            (id, _) => return self.ask_for_connection(key, id),
        };
        let queued = session.transaction.as_ref();
        let before = queued
            .and_then(|transaction| transaction.tracking.as_ref())
            .unwrap_or(&session.tracking);
        let databases = self.environment.facts.databases;
        let change = match before.change(asked, &session.store.prefix, databases) {
            Ok(change) => change,
            Err(error) => return self.track_refused(key, &error),
        };
        let in_transaction = session.transaction.is_some();
        let Some(change) = change else {
            session.redirect_found = None;
            self.answer(key, b"+OK\r\n");
            return Outcome::Taken;
        };
        let Some(upstream) = self.lane(key, true) else {
            return Outcome::Later;
        };
        let sent = !(change.anew && in_transaction);
        if change.anew && sent {
            let off = b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$3\r\nOFF\r\n";
            self.send_own(upstream, off, Recipient::Greeting);
        }
        let (Some(session), Some(lane)) =
            (self.sessions.get_mut(key), self.upstreams.get_mut(upstream))
        else {
            return Outcome::Taken;
        };
        session.redirect_found = None;
        // Invalidations may be on their way whatever comes: no other session may get them.
        lane.tainted = true;
        if sent {
            lane.out.tail().extend_from_slice(&change.request(real));
        }
        match &mut session.transaction {
            Some(transaction) => transaction.tracking = Some(change.after),
            None => session.track(change.after),
        }
        if sent {
            let plan = ReplyPlan::Verbatim;
            self.sent(key, upstream, command, plan, request.argc(), false);
        } else {
            self.answer(key, b"+OK\r\n");
        }
        Outcome::Taken
    }

    /// The server finds such errors when it carries the command out, so they do not abort EXEC.
    fn track_refused(&mut self, key: Key<Session>, text: &[u8]) -> Outcome {
        if let Some(session) = self.sessions.get_mut(key) {
            session.redirect_found = None;
        }
        let mut error = Vec::new();
        encode::error(text, &mut error);
        self.answer(key, &error);
        Outcome::Taken
    }

    /// Asks the worker that serves a session for its connection; the request waits.
    fn ask_for_connection(&mut self, key: Key<Session>, id: u64) -> Outcome {
        let Some(session) = self.sessions.get_mut(key) else {
            return Outcome::Taken;
        };
        let directory = &self.environment.directory;
        let store = session.store.number;
        let asker = Asker {
            worker: self.number,
            ticket: Ticket(key),
        };
        let asked = directory.find(store, id).is_some_and(|entry| {
            let message = Message::Pin { store, id, asker };
            directory.mailboxes.send(entry.worker, message)
        });
        if asked {
            session.gate = Gate::Redirect;
            return Outcome::Later;
        }
        session.redirect_found = Some(Found { id, real: None });
        self.queue_run(key);
        Outcome::Later
    }

    /// Another session's invalidations shall come to one of this worker's.
    pub(super) fn pin(&mut self, store: usize, id: u64, asker: Asker) {
        let key = self.sessions.keys().into_iter().find(|key| {
            let session = self.sessions.get(*key);
            session.is_some_and(|s| s.store.number == store && s.entry.id == id)
        });
        let Some(session) = key.and_then(|key| self.sessions.get_mut(key)) else {
            return self.tell_connection(asker, id, None);
        };
        session.redirected_to = true;
        session.redirect_askers.push(asker);
        if let Some(key) = key {
            self.settle_pin(key);
        }
    }

    /// Takes a pinned session's own connection as soon as that may be, and tells its id.
    pub(super) fn settle_pin(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.redirect_askers.is_empty() {
            return;
        }
        let upstream = match session.lane {
            Lane::Own(upstream) => Some(upstream),
            _ if session.is_idle() => self.lane(key, true),
            _ => return,
        };
        let upstream = upstream.and_then(|key| self.upstreams.get_mut(key));
        let real = upstream.and_then(|upstream| {
            upstream.tainted = true;
            upstream.client_id
        });
        if let (Some(real), Some(session)) = (real, self.sessions.get_mut(key)) {
            let id = session.entry.id;
            for asker in std::mem::take(&mut session.redirect_askers) {
                self.tell_connection(asker, id, Some(real));
            }
        }
    }

    fn tell_connection(&self, asker: Asker, id: u64, real: Option<u64>) {
        let message = Message::Pinned(asker.ticket, Found { id, real });
        self.environment
            .directory
            .mailboxes
            .send(asker.worker, message);
    }

    /// A session goes that others have asked for.
    pub(super) fn pin_ended(&self, session: &Session) {
        for asker in &session.redirect_askers {
            self.tell_connection(*asker, session.entry.id, None);
        }
    }

    /// The connection of the session that invalidations shall go to is known.
    pub(super) fn pinned(&mut self, key: Key<Session>, found: Found) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.redirect_found = Some(found);
            self.open_gate(key, Gate::Redirect);
        }
    }

    /// A connection's greeting has its reply.
    pub(super) fn greeted(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        if upstream.client_id.is_some() {
            return;
        }
        upstream.state = State::Open;
        let address = upstream.address.clone();
        self.reached(&address);
        self.queue_flush_upstream(key);
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        upstream.hello = Vec::new();
        let text = std::mem::take(&mut upstream.greeting);
        upstream.client_id = client_id(&text);
        if let super::upstream::Role::Own(session) = upstream.role {
            self.settle_pin(session);
        }
    }
}

/// `id` in the reply to HELLO.
fn client_id(reply: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let at = memchr::memmem::find(reply, FIELD)? + FIELD.len();
    let end = memchr::memchr(b'\r', &reply[at..])? + at;
    std::str::from_utf8(&reply[at..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::client_id;

    #[test]
    fn the_id_is_found_in_both_protocols() {
        let fields = "$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4217\r\n$4\r\nmode\r\n";
        assert_eq!(client_id(format!("%3\r\n{fields}").as_bytes()), Some(4217));
        assert_eq!(client_id(format!("*6\r\n{fields}").as_bytes()), Some(4217));
        assert_eq!(client_id(b"+OK\r\n"), None);
    }
}
