//! FLUSHDB and FLUSHALL as sessions that track hear of them: once, that nothing is valid any more, where the
//! server tells of each key that the agent takes away.
//!
//! Invariant: an invalidation is kept from a session only while a flush of its store is under way that it is
//! still to be told of; the word of that comes behind everything that the flush has made the server tell.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::arena::Key;
use super::session::{Lane, Session};
use super::tracking::Tracking;
use super::upstream::Recipient;
use super::{Between, Message, Worker};
use crate::environment::{Entry, Environment, Store};
use crate::resp::{Protocol, encode};
use crate::rewrite::reply::INVALIDATION_CHANNEL;

/// What may wait for a client that does not read it, as at Valkey's client-output-buffer-limit for subscribers.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How often the flushes of one transaction are told of: more say the same, and an app with many sessions could
/// make its worker busy with nothing else for its neighbours.
const TOLD_OF_ONE_MAX: usize = 64;

/// Flushes under way. However they end, the store's sessions are told.
#[derive(Debug)]
pub struct Flushing {
    environment: Arc<Environment>,
    store: Arc<Store>,
    numbers: RangeInclusive<usize>,
    told: bool,
}

/// What a session knows of its store's flushes.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many had begun when it began to track.
    before: usize,
    /// How many of the later ones are over for it.
    over: usize,
    /// An invalidation has been kept from it since the last of these.
    kept: bool,
    /// What it is told when the server has answered a PING, each behind one.
    untold: VecDeque<Untold>,
}

#[derive(Debug)]
enum Untold {
    /// So many flushes are over, and have happened or not.
    Over { count: usize, happened: bool },
    /// The same for another session, of this protocol, whose invalidations come to this one.
    OfAnother(Protocol),
}

impl Flushing {
    /// So many flushes begin now; at least one.
    pub fn begin(environment: &Arc<Environment>, store: &Arc<Store>, count: usize) -> Self {
        let last = store.flushes.add(count);
        Self {
            environment: environment.clone(),
            store: store.clone(),
            numbers: last + 1 - count..=last,
            told: false,
        }
    }

    /// Tells the other workers.
    fn tell(&mut self, own: Option<usize>, happened: bool) {
        self.told = true;
        let directory = &self.environment.directory;
        let sessions = directory.of_store(self.store.number);
        let mut workers: Vec<usize> = sessions.iter().map(|entry| entry.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        for worker in workers.into_iter().filter(|worker| Some(*worker) != own) {
            let message = Between::Flushed {
                store: self.store.number,
                numbers: self.numbers.clone(),
                happened,
            };
            directory.mailboxes.send(worker, Message::Clients(message));
        }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        if !self.told {
            self.tell(None, false);
        }
    }
}

impl Session {
    /// Tracks so from now on.
    pub fn track(&mut self, tracking: Tracking) {
        if tracking.on && !self.tracking.on {
            self.flushed = Flushed {
                before: self.store.flushes.get(),
                ..Flushed::default()
            };
        }
        self.tracking = tracking;
    }

    /// Whether invalidations are kept from it. One to which others redirect theirs is told all: whose they are,
    /// they do not tell.
    pub fn waits_for_flush(&self) -> bool {
        let flushed = &self.flushed;
        self.tracking.on
            && self.tracking.redirect == 0
            && !self.redirected_to
            && self.store.flushes.get() > flushed.before + flushed.over
    }
}

impl Worker {
    /// Flushes of a store are over: this worker's sessions are told before anything else is done for them.
    pub(super) fn flushes_over(&mut self, mut flushing: Flushing, happened: bool) {
        flushing.tell(Some(self.number), happened);
        self.take_flushed(flushing.store.number, flushing.numbers.clone(), happened);
    }

    /// Flushes of a store are over.
    pub(super) fn take_flushed(
        &mut self,
        store: usize,
        numbers: RangeInclusive<usize>,
        happened: bool,
    ) {
        for key in self.sessions.keys() {
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            if session.store.number != store || !session.tracking.on {
                continue;
            }
            let first = (*numbers.start()).max(session.flushed.before + 1);
            let count = (numbers.end() + 1).saturating_sub(first);
            if count > 0 {
                self.tell_behind(key, Untold::Over { count, happened });
            }
        }
    }

    /// All is invalid for another session, of this protocol, that redirects to this one.
    pub(super) fn take_redirected_flush(&mut self, entry: &Arc<Entry>, protocol: Protocol) {
        if let Some(key) = self.session_of(entry) {
            self.tell_behind(key, Untold::OfAnother(protocol));
        }
    }

    /// An invalidation has been kept from a session.
    pub(super) fn kept_from(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.flushed.kept = true;
        }
    }

    /// Tells a session something behind what is on its way to it. A PING cannot ask for that where it would
    /// be queued, stand inside of a request, or wait behind a command that does.
    fn tell_behind(&mut self, key: Key<Session>, what: Untold) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.flushed.untold.push_back(what);
        let lane = match session.lane {
            Lane::Own(upstream) if session.transaction.is_none() && session.stream.is_none() => {
                let waits = self.upstreams.get(upstream).is_none_or(|upstream| {
                    let mut owed = upstream.owed.iter();
                    owed.any(|owed| owed.blocking)
                });
                (!waits).then_some(upstream)
            }
            _ => None,
        };
        match lane {
            Some(lane) => self.send_own(lane, b"*1\r\n$4\r\nPING\r\n", Recipient::Untold(key)),
            None => while self.tell_untold(key) {},
        }
    }

    /// Tells a session the first of what waits; whether there was anything.
    pub(super) fn tell_untold(&mut self, key: Key<Session>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some(untold) = session.flushed.untold.pop_front() else {
            return false;
        };
        match untold {
            Untold::Over { count, happened } => {
                session.flushed.over += count;
                let kept = std::mem::take(&mut session.flushed.kept);
                let times = match happened {
                    true => count.min(TOLD_OF_ONE_MAX),
                    false => usize::from(kept),
                };
                for _ in 0..times {
                    self.tell_all_invalid(key);
                }
            }
            Untold::OfAnother(protocol) => {
                let mut out = Vec::new();
                match session.protocol {
                    Protocol::Resp3 => {
                        encode::push(Protocol::Resp3, 2, &mut out);
                        encode::bulk("invalidate", &mut out);
                        encode::null(protocol, &mut out);
                    }
                    Protocol::Resp2 if session.subscribed.any() => {
                        encode::push(Protocol::Resp2, 3, &mut out);
                        encode::bulk("message", &mut out);
                        encode::bulk(INVALIDATION_CHANNEL, &mut out);
                        encode::null(protocol, &mut out);
                    }
                    Protocol::Resp2 => {}
                }
                self.tell_unasked(key, &out);
            }
        }
        true
    }

    /// What a server tells at a flush (`trackingInvalidateKeysOnFlush` and `sendTrackingMessage` in tracking.c):
    /// a null, in the protocol of whoever tracks.
    fn tell_all_invalid(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (store, protocol, target) = (
            session.store.number,
            session.protocol,
            session.tracking.redirect,
        );
        if !session.tracking.on {
            return;
        }
        let mut out = Vec::new();
        if target != 0 {
            if let Some(entry) = self.environment.directory.find(store, target) {
                let mailbox = entry.mailbox.clone();
                let message = Between::AllInvalid { entry, protocol };
                mailbox.send(Message::Clients(message));
                return;
            }
            session.tracking.broken = true;
            if protocol == Protocol::Resp3 {
                encode::push(protocol, 2, &mut out);
                encode::bulk("tracking-redir-broken", &mut out);
                encode::integer(i64::try_from(target).unwrap_or(i64::MAX), &mut out);
            }
        } else if protocol == Protocol::Resp3 {
            encode::push(protocol, 2, &mut out);
            encode::bulk("invalidate", &mut out);
            encode::null(protocol, &mut out);
        }
        self.tell_unasked(key, &out);
    }

    /// Puts a message among a session's replies, and never inside of one.
    fn tell_unasked(&mut self, key: Key<Session>, message: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.receiving {
            session.events.extend_from_slice(message);
        } else {
            session.out.tail().extend_from_slice(message);
        }
        if session.out.len() + session.events.len() > WAITING_BYTES_MAX {
            tracing::warn!(store = %session.store.slug(), "a client that tracks does not read its invalidations; it is disconnected");
            self.close_session(key);
            return;
        }
        self.queue_flush_session(key);
    }
}
