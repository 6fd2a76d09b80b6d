//! A store's sessions look at each other and end each other: CLIENT LIST, INFO, KILL.
//!
//! Invariant: a session is found only among its own store's. What it does to others is done by the worker
//! that serves them, and its own reply waits until that is done, so that the server has seen it too.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::arena::Key;
use super::forward::Outcome;
use super::mailbox::Mailbox;
use super::session::{Gate, Lane, Session};
use super::upstream::{Owed, Recipient, Upstream};
use super::{Message, Ticket, Worker};
use crate::clients::{self, Asked, Client, Filter, Shown, line};
use crate::environment::{Entry, Look, Store};
use crate::resp::request::Request;
use crate::resp::{Protocol, encode};

const NO_SUCH_CLIENT: &[u8] = b"-ERR No such client\r\n";

/// What workers tell each other about a store's sessions.
pub enum Between {
    /// The session ends: another of its store wants it.
    Kill {
        /// Which one.
        entry: Arc<Entry>,
        /// Who waits for that.
        back: Option<Back>,
    },
    /// The session waits no longer for what it is blocked on.
    Unblock {
        /// Which one.
        entry: Arc<Entry>,
        /// It is told an error instead of what it is told after its time.
        error: bool,
        /// Who waits for that.
        back: Back,
    },
    /// What a session asked of this worker or another is done.
    Done {
        /// Which session.
        ticket: Ticket,
        /// Its reply, if that was open.
        reply: Option<Vec<u8>>,
    },
    /// A store's pause is over: look after those that wait.
    Unpaused,
    /// Flushes of a store are over.
    Flushed {
        /// The store's number.
        store: usize,
        /// Which ones.
        numbers: RangeInclusive<usize>,
        /// They were carried out.
        happened: bool,
    },
    /// Nothing is valid any more for another session, whose invalidations go to this one.
    AllInvalid {
        /// Which one they go to.
        entry: Arc<Entry>,
        /// What the other speaks.
        protocol: Protocol,
    },
    /// Commands of a store for its sessions that monitor.
    Lines {
        /// Whose.
        store: Arc<Store>,
        /// Whole lines; `None` when they were too many to be sent.
        lines: Option<Arc<[u8]>>,
    },
}

/// Who is told when something asked of another worker is done.
pub struct Back {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) ticket: Ticket,
}

/// What a session waits for that other workers do.
pub struct Errand {
    /// How many have not answered.
    pub pending: usize,
    pub reply: Vec<u8>,
    /// The session ends with this reply.
    pub ends: bool,
}

impl Worker {
    pub(super) fn take_from_worker(&mut self, message: Between) {
        match message {
            Between::Kill { entry, back } => self.kill(&entry, back),
            Between::Unblock { entry, error, back } => self.unblock(&entry, error, back),
            Between::Done { ticket, reply } => self.errand_done(ticket.0, reply),
            // Each turn looks after them.
            Between::Unpaused => {}
            Between::Flushed {
                store,
                numbers,
                happened,
            } => self.take_flushed(store, numbers, happened),
            Between::AllInvalid { entry, protocol } => self.take_redirected_flush(&entry, protocol),
            Between::Lines { store, lines } => self.take_lines(&store, lines.as_deref()),
        }
    }

    /// Tells the directory what a session is doing now.
    pub(super) fn tell(&self, key: Key<Session>) {
        if let Some(session) = self.sessions.get(key) {
            session.entry.live.tell(&self.look(session));
        }
    }

    fn look(&self, session: &Session) -> Look {
        let mut flags = 0;
        let mut set = |bit: u32, is: bool| flags |= if is { bit } else { 0 };
        set(clients::MONITOR, session.monitoring);
        set(clients::PUBSUB, session.subscribed.any());
        set(clients::MULTI, session.transaction.is_some());
        let waits = self.waits_for_reply(session);
        set(clients::BLOCKED, waits || session.gate == Gate::Pause);
        set(clients::TRACKING, session.tracking.on);
        set(
            clients::BROADCAST,
            session.tracking.on && session.tracking.bcast,
        );
        set(clients::CLOSING, session.finishing);
        set(clients::NO_TOUCH, session.no_touch);
        let queued = session.transaction.as_ref().map(|t| t.plans.len());
        Look {
            flags,
            command: session.doing.last_command,
            channels: session.subscribed.channels,
            patterns: session.subscribed.patterns,
            shard_channels: session.subscribed.shard_channels,
            queued: queued.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX)),
            watched: if session.watching { session.watched } else { 0 },
            touched_ms: session.doing.touched_ms,
            input_bytes: session.input.len() as u64,
            input_free_bytes: (session.input.capacity() - session.input.len()) as u64,
            output_bytes: session.out.len() as u64,
            output_bytes_max: session.out.capacity() as u64,
            read_bytes: session.doing.read_bytes,
            written_bytes: session.doing.written_bytes,
            // What blocks has not been carried out (`call` in server.c).
            commands: session.doing.commands.saturating_sub(u64::from(waits)),
        }
    }

    /// Whether the first reply that the session waits for may take long. What the agent asks on its own
    /// account in front of that does not.
    fn waits_for_reply(&self, session: &Session) -> bool {
        let Lane::Own(upstream) = session.lane else {
            return false;
        };
        if session.transaction.is_some() {
            // What is queued does not wait.
            return false;
        }
        let sessions_own = |owed: &&Owed| matches!(owed.to, Recipient::Session(_));
        let first =
            |upstream: &Upstream| upstream.owed.iter().find(sessions_own).map(|o| o.blocking);
        self.upstreams.get(upstream).and_then(first) == Some(true)
    }

    /// CLIENT LIST.
    pub(super) fn client_list(
        &self,
        session: &Session,
        request: &Request<'_>,
    ) -> Result<String, Vec<u8>> {
        let words: Vec<&[u8]> = request.args().skip(2).collect();
        let filter = Filter::list(&words, &self.asked(&|user| is_user(session, user)))?;
        let mut entries = self.environment.directory.of_store(session.store.number);
        if let Some(ids) = &filter.listed {
            let found = |id: &u64| entries.iter().find(|entry| entry.id == *id).cloned();
            entries = ids.iter().filter_map(found).collect();
        }
        let mut list = String::new();
        for entry in entries {
            self.with_client(session, &entry, |client| {
                if filter.matches(client) {
                    line(client, self.shown(request), &mut list);
                }
            });
        }
        Ok(list)
    }

    /// CLIENT INFO.
    pub(super) fn client_info(&self, session: &Session, request: &Request<'_>) -> String {
        let mut info = String::new();
        self.with_client(session, &session.entry, |client| {
            line(client, self.shown(request), &mut info);
        });
        info
    }

    fn shown(&self, request: &Request<'_>) -> Shown {
        Shown {
            release: self.environment.facts.release,
            argument_bytes: request.args().map(|argument| argument.len() as u64).sum(),
        }
    }

    fn asked<'a>(&self, is_user: &'a dyn Fn(&[u8]) -> bool) -> Asked<'a> {
        Asked {
            release: self.environment.facts.release,
            databases: self.environment.facts.databases,
            is_user,
        }
    }

    /// Looks at a client for a session of the same store.
    fn with_client<T>(
        &self,
        session: &Session,
        entry: &Arc<Entry>,
        what: impl FnOnce(&Client<'_>) -> T,
    ) -> T {
        let asks = Arc::ptr_eq(entry, &session.entry);
        let mut look = if asks {
            self.look(session)
        } else {
            entry.live.look()
        };
        if asks {
            look.command = self.current.map(|command| command.number);
        }
        let named = entry.named().clone();
        look.flags |= if named.read_only {
            clients::READONLY
        } else {
            0
        };
        look.flags |= if named.no_evict { clients::NO_EVICT } else { 0 };
        what(&Client {
            entry,
            named: &named,
            look: &look,
            asks,
            age_seconds: Instant::now().duration_since(entry.since).as_secs(),
            idle_seconds: self.now_ms.saturating_sub(look.touched_ms) / 1000,
        })
    }

    /// CLIENT KILL.
    pub(super) fn client_kill(&mut self, key: Key<Session>, request: &Request<'_>) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let queued = session.transaction.is_some();
        if !queued && !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let words: Vec<&[u8]> = request.args().skip(2).collect();
        let filter = match Filter::kill(&words, &self.asked(&|user| is_user(session, user))) {
            Ok(filter) => filter,
            Err(reply) => {
                self.answer(key, &reply);
                return Outcome::Taken;
            }
        };
        let mut count = 0;
        let mut ends = false;
        let mut others = Vec::new();
        for entry in self.environment.directory.of_store(session.store.number) {
            if !self.with_client(session, &entry, |client| filter.matches(client)) {
                continue;
            }
            if Arc::ptr_eq(&entry, &session.entry) {
                ends = true;
                count += 1;
            } else if self.environment.directory.leave(&entry) {
                // From here on nobody sees it any more.
                others.push(entry);
                count += 1;
            }
        }
        let mut reply = Vec::new();
        match (words.len(), count) {
            (1, 0) => reply.extend_from_slice(NO_SUCH_CLIENT),
            (1, _) => encode::ok(&mut reply),
            (_, count) => encode::integer(count, &mut reply),
        }
        let pending = others.len();
        for entry in others {
            let back = (!queued).then(|| self.back(key));
            let mailbox = entry.mailbox.clone();
            mailbox.send(Message::Clients(Between::Kill { entry, back }));
        }
        let errand = Errand {
            pending,
            reply,
            ends,
        };
        self.begin_errand(key, errand);
        Outcome::Taken
    }

    /// Where answers for this session go.
    pub(super) fn back(&self, key: Key<Session>) -> Back {
        Back {
            mailbox: self.mailbox.clone(),
            ticket: Ticket(key),
        }
    }

    /// The session waits until others have done what it asked for. Inside MULTI nothing waits.
    pub(super) fn begin_errand(&mut self, key: Key<Session>, errand: Errand) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if errand.pending > 0 && session.transaction.is_none() {
            session.gate = Gate::Job;
            session.errand = Some(errand);
            return;
        }
        let ends = errand.ends;
        self.answer(key, &errand.reply);
        if let Some(session) = self.sessions.get_mut(key)
            && ends
        {
            match &mut session.transaction {
                Some(transaction) => transaction.ends = true,
                None => session.finishing = true,
            }
            self.queue_flush_session(key);
        }
    }

    /// One of those that a session waits for has done its part.
    pub(super) fn errand_done(&mut self, key: Key<Session>, reply: Option<Vec<u8>>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(errand) = &mut session.errand else {
            return;
        };
        if let Some(reply) = reply {
            errand.reply = reply;
        }
        errand.pending -= 1;
        if errand.pending > 0 {
            return;
        }
        if let Some(errand) = session.errand.take() {
            session.gate = Gate::Open;
            self.begin_errand(key, errand);
            self.queue_run(key);
        }
    }

    /// Another session wants this one to end.
    pub(super) fn kill(&mut self, entry: &Arc<Entry>, back: Option<Back>) {
        if let Some(key) = self.session_of(entry) {
            self.close_session(key);
        }
        if let Some(back) = back {
            back.done(None);
        }
    }

    /// The session that is known by this entry, if it is here and still has it.
    pub(super) fn session_of(&self, entry: &Arc<Entry>) -> Option<Key<Session>> {
        let is = |session: &Session| Arc::ptr_eq(&session.entry, entry);
        let mut keys = self.sessions.keys().into_iter();
        keys.find(|key| self.sessions.get(*key).is_some_and(is))
    }
}

impl Back {
    /// Says that it is done, and what the reply is if that was open.
    pub fn done(self, reply: Option<Vec<u8>>) {
        let ticket = self.ticket;
        self.mailbox
            .send(Message::Clients(Between::Done { ticket, reply }));
    }
}

/// Whether the session's app could log in under this name.
fn is_user(session: &Session, user: &[u8]) -> bool {
    session.app.store(user).is_some()
}
