//! Commands about all keys inside MULTI, and SWAPDB: queued as scripts that find the store's names where
//! the agent leaves them just before EXEC, so each sees what the transaction did before it.
//!
//! Commands about the server whose result does not depend on the transaction are carried out when they
//! are queued, and an ECHO holds their place.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::Worker;
use super::arena::Key;
use super::flushes::Flushing;
use super::forward::Outcome;
use super::session::{Gate, Session, Transaction};
use crate::commands::{Command, Names, Scoped};
use crate::resp::request::Request;
use crate::resp::{Protocol, encode};
use crate::rewrite::ReplyPlan;
use crate::rewrite::words::is;
use crate::scoped::{Run, Task, database};
use crate::scripts::GENERIC;
use crate::store::{Namespace, Prefix};

impl Worker {
    /// Queues a store-wide command in the session's transaction; `None` when it is carried out now.
    pub(super) fn queue_wide(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        scoped: Scoped,
        request: &Request<'_>,
    ) -> Option<Outcome> {
        let needs = match scoped {
            Scoped::Keys => Needs::Names(request.arg(1)),
            Scoped::Scan | Scoped::DbSize | Scoped::RandomKey | Scoped::FlushDb => {
                Needs::Names(b"*")
            }
            Scoped::FlushAll | Scoped::SwapDb => Needs::Everything,
            Scoped::Move | Scoped::CopyAcrossDatabases | Scoped::SortWithPatterns => Needs::Nothing,
            _ => return None,
        };
        let text = self.generic_script(key)?;
        let Some(upstream) = self.lane(key, true) else {
            return Some(Outcome::Later);
        };
        let databases = self.environment.facts.databases;
        let session = self.sessions.get_mut(key)?;
        let namespace = session.namespace.clone();
        let prefix = session.store.prefix.clone();
        let transaction = session.transaction.as_mut()?;
        mention(transaction, scoped, request, &prefix, &namespace, databases);
        transaction.flushes += usize::from(flushes(scoped, request));
        let own = &namespace.keys()[prefix.as_str().len()..];
        let mut last = namespace.keys().to_vec();
        match needs {
            Needs::Nothing => {}
            Needs::Everything => last.extend(place(transaction, &prefix, b"")),
            Needs::Names(pattern) => {
                last.extend(place(transaction, &prefix, &[own, pattern].concat()));
            }
        }
        let mut words: Vec<&[u8]> = vec![b"EVAL", &text, b"0"];
        words.extend(request.args());
        words.push(&last);
        let lane = self.upstreams.get_mut(upstream)?;
        encode::request(&words, lane.out.tail());
        let argc = request.argc();
        let plan = match (command.names, session.protocol) {
            (Names::Georadius { .. }, Protocol::Resp3) => ReplyPlan::Places,
            _ => ReplyPlan::Verbatim,
        };
        self.sent(key, upstream, command, plan, argc, false);
        Some(Outcome::Taken)
    }

    /// SWAPDB: one script, with the names walked for when it has found its arguments in order.
    pub(super) fn swap_databases(&mut self, key: Key<Session>, request: &Request<'_>) -> Outcome {
        let (Some(text), Some(session)) = (self.generic_script(key), self.sessions.get(key)) else {
            return Outcome::Taken;
        };
        let words = [b"EVAL".as_slice(), &text, b"0"]
            .into_iter()
            .chain(request.args())
            .map(<[u8]>::to_vec)
            .collect();
        let run = Run::new(words, &ReplyPlan::Verbatim, false, &session.store.prefix);
        self.script_job(key, Task::Run(Box::new(run)))
    }

    /// Before EXEC: whether the names that the transaction needs must be fetched first, or could not be.
    pub(super) fn before_exec(&mut self, key: Key<Session>) -> Option<Outcome> {
        let session = self.sessions.get_mut(key)?;
        let transaction = session.transaction.as_mut()?;
        if let Some(error) = transaction.unfilled.take() {
            self.abort(key, &error);
            return Some(Outcome::Taken);
        }
        if !transaction.queued.is_due() {
            if transaction.flushes > 0 && transaction.flushing.is_none() {
                let flushing =
                    Flushing::begin(&self.environment, &session.store, transaction.flushes);
                transaction.flushing = Some(flushing);
            }
            return None;
        }
        if !self.idle_or_wait(key) || !self.turn_or_wait(key) {
            return Some(Outcome::Later);
        }
        let session = self.sessions.get_mut(key)?;
        let transaction = session.transaction.as_mut()?;
        let fill = transaction.queued.fill(&session.store.prefix);
        self.begin_job(key, Task::Fill(Box::new(fill)));
        Some(Outcome::Later)
    }

    /// The names could not be fetched: EXEC, which is still to be taken, discards the transaction.
    pub(super) fn not_filled(&mut self, key: Key<Session>, error: &[u8]) {
        const ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of: ";
        // A server that loads its data has refused to queue the command already.
        const REFUSED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
        let why = error.strip_prefix(b"-").unwrap_or(error);
        let aborted = match why.starts_with(b"LOADING ") {
            true => REFUSED.to_vec(),
            false => [ABORTED, why].concat(),
        };
        if let Some(session) = self.sessions.get_mut(key)
            && let Some(transaction) = &mut session.transaction
        {
            transaction.unfilled = Some(aborted);
        }
        self.open_gate(key, Gate::Job);
    }

    fn generic_script(&self, key: Key<Session>) -> Option<Vec<u8>> {
        let known = self.prepare(key, GENERIC)?;
        Some(known.server_text().to_vec())
    }
}

/// Which names a queued command needs.
enum Needs<'a> {
    Nothing,
    /// Those of the session's database that match.
    Names(&'a [u8]),
    Everything,
}

/// Whether a queued command will flush: one with other arguments will be an error.
fn flushes(scoped: Scoped, request: &Request<'_>) -> bool {
    let known = |mode: &[u8]| is(mode, b"async") || is(mode, b"sync");
    matches!(scoped, Scoped::FlushDb | Scoped::FlushAll)
        && request.argc() <= 2
        && request.get(1).is_none_or(known)
}

/// What stands behind the prefix of a script in a transaction: where it will find the names, and note
/// those that it makes.
pub(super) fn place_of_script(
    transaction: &mut Transaction,
    prefix: &Prefix,
    walks: bool,
) -> Vec<u8> {
    if walks {
        return place(transaction, prefix, b"");
    }
    [b"\0@", transaction.queued.place(prefix, number())].concat()
}

fn place(transaction: &mut Transaction, prefix: &Prefix, wanted: &[u8]) -> Vec<u8> {
    [b"\0@", transaction.queued.needs(prefix, wanted, number())].concat()
}

/// No two of a process are the same, and no two processes make them of the same seed.
fn number() -> u64 {
    RandomState::new().hash_one(0)
}

/// Notes which keys a command that is not rewritten may make.
fn mention(
    transaction: &mut Transaction,
    scoped: Scoped,
    request: &Request<'_>,
    prefix: &Prefix,
    namespace: &Namespace,
    databases: u32,
) {
    let own = |namespace: &Namespace| namespace.keys()[prefix.as_str().len()..].to_vec();
    let number = |at: usize| request.get(at).and_then(|n| database(n, databases).ok());
    let mut names = Vec::new();
    match scoped {
        Scoped::SortWithPatterns => {
            names.extend(
                request
                    .args()
                    .skip(2)
                    .map(|arg| [&own(namespace), arg].concat()),
            );
        }
        Scoped::Move | Scoped::CopyAcrossDatabases => {
            let key = request.arg(if scoped == Scoped::Move { 1 } else { 2 });
            let places = (2..request.argc()).filter_map(number);
            let mut places: Vec<_> = places.map(|n| own(&prefix.namespace(n))).collect();
            places.push(own(namespace));
            names.extend(places.iter().map(|place| [place, key].concat()));
        }
        Scoped::SwapDb => {
            for number in [number(1), number(2)].into_iter().flatten() {
                transaction.queued.swaps(own(&prefix.namespace(number)));
            }
        }
        _ => {}
    }
    for name in names {
        transaction.queued.mention(&name);
    }
}
