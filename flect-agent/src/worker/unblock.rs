//! CLIENT UNBLOCK: a session's blocking command ends before its time.
//!
//! The server alone knows whether a client is still blocked, so it is asked to unblock the connection that
//! the session blocks on, by the server's own number for it, over the housekeeper's connection.
//!
//! Invariant: such a request reaches nobody else. A number is used only while the session holds the
//! connection that was given it, which serves no other session until the server has answered; and only over
//! a housekeeper's connection that is older than the number, to the same address, so that a server which
//! was restarted meanwhile, and counts anew, is never asked.

use std::sync::Arc;

use super::arena::Key;
use super::clients::{Back, Errand};
use super::forward::Outcome;
use super::session::{Gate, Lane, Session};
use super::upstream::{Owed, Recipient, State, Upstream};
use super::{Between, Message, Worker};
use crate::environment::Entry;
use crate::resp::request::Request;
use crate::resp::{encode, number};
use crate::rewrite::words::is;
use crate::scoped::Target;

const BAD_REASON: &[u8] = b"-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n";
const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
const IN_TRANSACTION: &[u8] = b"-ERR 'client|unblock' is carried out by the agent in several steps and cannot be part of a transaction\r\n";
const NOT_BLOCKED: &[u8] = b":0\r\n";

/// How often the server is asked while it says that a connection which waits for its reply is not blocked: the
/// blocking command and this question go over two connections, and the server may read the question first.
const TRIES_MAX: u32 = 4;

/// What the server calls one of its connections.
#[derive(Debug, Clone, Copy)]
pub struct ServerId {
    id: i64,
    /// The housekeeper's connection that was open when the server said so.
    witness: Key<Upstream>,
}

/// The server is asked to unblock a connection.
pub struct Unblocking {
    /// Which one.
    upstream: Key<Upstream>,
    /// Who is blocked on it, and how it is to end.
    wanted: Wanted,
    /// How often it has been asked.
    tries: u32,
    /// The reply as far as it has come.
    pub reply: Vec<u8>,
}

/// A CLIENT UNBLOCK.
pub struct Wanted {
    entry: Arc<Entry>,
    error: bool,
    back: Back,
}

impl Wanted {
    /// The connection is gone: nobody is blocked on it.
    pub fn give_up(self) {
        self.back.done(None);
    }
}

impl Worker {
    pub(super) fn client_unblock(&mut self, key: Key<Session>, request: &Request<'_>) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        if session.transaction.is_some() {
            self.refuse(key, IN_TRANSACTION);
            return Outcome::Taken;
        }
        if !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        let error = match request.get(3) {
            None => false,
            Some(reason) if is(reason, b"timeout") => false,
            Some(reason) if is(reason, b"error") => true,
            Some(_) => {
                self.answer(key, BAD_REASON);
                return Outcome::Taken;
            }
        };
        let Some(id) = number::parse(request.arg(2)) else {
            self.answer(key, NOT_AN_INTEGER);
            return Outcome::Taken;
        };
        let store = self.sessions.get(key).map(|session| session.store.number);
        let entries = store.map(|store| self.environment.directory.of_store(store));
        let target = entries
            .into_iter()
            .flatten()
            .find(|entry| i64::try_from(entry.id) == Ok(id));
        let Some(entry) = target else {
            self.answer(key, NOT_BLOCKED);
            return Outcome::Taken;
        };
        let back = self.back(key);
        self.begin_errand(
            key,
            Errand {
                pending: 1,
                reply: NOT_BLOCKED.to_vec(),
                ends: false,
            },
        );
        let mailbox = entry.mailbox.clone();
        mailbox.send(Message::Clients(Between::Unblock { entry, error, back }));
        Outcome::Taken
    }

    /// Another session wants this one to wait no longer.
    pub(super) fn unblock(&mut self, entry: &Arc<Entry>, error: bool, back: Back) {
        let entry = entry.clone();
        let wanted = Wanted { entry, error, back };
        match self.blocked_on(&wanted.entry) {
            Some(blocked) => self.ask_to_unblock(blocked, wanted, 1),
            // The server has not said yet what it calls the connection.
            None => match self.asks_id(&wanted.entry) {
                Some(upstream) => upstream.early.push(wanted),
                None => wanted.give_up(),
            },
        }
    }

    fn ask_to_unblock(
        &mut self,
        (upstream_key, server_id): (Key<Upstream>, ServerId),
        wanted: Wanted,
        tries: u32,
    ) {
        let reason = if wanted.error { "ERROR" } else { "TIMEOUT" };
        let unblocking = self.unblockings.insert(Unblocking {
            upstream: upstream_key,
            wanted,
            tries,
            reply: Vec::new(),
        });
        if let Some(upstream) = self.upstreams.get_mut(upstream_key) {
            upstream.unblocking += 1;
        }
        let id = server_id.id.to_string();
        let mut request = Vec::new();
        encode::request(&["CLIENT", "UNBLOCK", &id, reason], &mut request);
        self.send_own(
            server_id.witness,
            &request,
            Recipient::Unblocking(unblocking),
        );
    }

    /// The connection that a session is blocked on, if the server can be asked about it.
    fn blocked_on(&self, entry: &Arc<Entry>) -> Option<(Key<Upstream>, ServerId)> {
        let key = self.session_of(entry)?;
        let Lane::Own(upstream_key) = self.sessions.get(key)?.lane else {
            return None;
        };
        let upstream = self.upstreams.get(upstream_key)?;
        // What went ahead of WAIT may be answered, and not read yet.
        let is_own = |owed: &&Owed| matches!(owed.to, Recipient::Greeting);
        let front = upstream.owed.iter().find(|owed| !is_own(owed))?;
        let waits = front.blocking && matches!(front.to, Recipient::Session(to) if to == key);
        let server_id = upstream.server_id.filter(|_| waits)?;
        let witness = self.upstreams.get(server_id.witness)?;
        let same_server = witness.address == upstream.address && witness.state != State::Connecting;
        same_server.then_some((upstream_key, server_id))
    }

    /// The connection that a session may be blocked on before the server has said what it calls it: the
    /// question went ahead of the blocking command, and its answer may not have been read yet.
    fn asks_id(&mut self, entry: &Arc<Entry>) -> Option<&mut Upstream> {
        let session = self.sessions.get(self.session_of(entry)?)?;
        let Lane::Own(upstream) = session.lane else {
            return None;
        };
        let upstream = self.upstreams.get_mut(upstream)?;
        upstream.asks_id.then_some(upstream)
    }

    /// The server has answered, or its connection has gone.
    pub(super) fn unblocked(&mut self, key: Key<Unblocking>) {
        let Some(unblocking) = self.unblockings.remove(key) else {
            return;
        };
        let Unblocking {
            upstream: upstream_key,
            wanted,
            tries,
            reply,
        } = unblocking;
        let blocked = self.blocked_on(&wanted.entry);
        match blocked.filter(|(key, _)| *key == upstream_key) {
            Some(blocked) if reply == NOT_BLOCKED && tries < TRIES_MAX => {
                self.ask_to_unblock(blocked, wanted, tries + 1);
            }
            _ => {
                // An error would name the agent's user; then nobody was unblocked.
                let is_known = matches!(reply.as_slice(), b":0\r\n" | b":1\r\n");
                wanted.back.done(is_known.then_some(reply));
            }
        }
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else {
            return;
        };
        upstream.unblocking -= 1;
        if let super::upstream::Role::Own(session) = upstream.role
            && upstream.unblocking == 0
        {
            self.open_gate(session, Gate::Unblocking);
        }
    }

    /// Whether a blocking request may be sent now: not while the server is asked to end an earlier one.
    pub(super) fn may_block_again(&mut self, key: Key<Session>, upstream: Key<Upstream>) -> bool {
        let free = |upstream: &Upstream| upstream.unblocking == 0;
        if self.upstreams.get(upstream).is_none_or(free) {
            return true;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.gate = Gate::Unblocking;
        }
        false
    }

    /// Asks the server what it calls this connection, before a session first blocks on it.
    pub(super) fn ask_server_id(&mut self, key: Key<Upstream>) {
        let asked = |upstream: &Upstream| upstream.server_id.is_some() || upstream.asks_id;
        if self.upstreams.get(key).is_none_or(asked) {
            return;
        }
        // There must be a housekeeper by the time of the answer.
        if let Some(store) = self.upstreams.get(key).and_then(|upstream| upstream.store) {
            self.lane_of_target(Target::Housekeeper, store, crate::resp::Protocol::Resp2);
        }
        self.send_own(
            key,
            b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n",
            Recipient::ServerId,
        );
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.asks_id = true;
        }
    }

    /// The server has said what it calls a connection.
    pub(super) fn take_server_id(&mut self, key: Key<Upstream>) {
        let address = self.upstreams.get(key).map(|upstream| &upstream.address);
        let housekeepers = self.housekeepers.iter().copied();
        let witness = housekeepers.into_iter().find(|witness| {
            self.upstreams.get(*witness).is_some_and(|upstream| {
                upstream.state != State::Connecting && Some(&upstream.address) == address
            })
        });
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        upstream.asks_id = false;
        let text = std::mem::take(&mut upstream.own_reply);
        let id = text
            .strip_prefix(b":")
            .and_then(|text| text.strip_suffix(b"\r\n"))
            .and_then(number::parse);
        if let (Some(id), Some(witness)) = (id, witness) {
            upstream.server_id = Some(ServerId { id, witness });
        }
        for Wanted { entry, error, back } in std::mem::take(&mut upstream.early) {
            self.unblock(&entry, error, back);
        }
    }
}
