//! SCRIPT: what the server keeps of a store's scripts.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Worker;
use super::super::arena::Key;
use super::super::forward::Outcome;
use super::super::session::Session;
use super::{NO_DEBUGGER, NO_SCRIPT, TOO_MANY_LOADED};
use crate::audit::Reason;
use crate::commands::Command;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::rewrite::ReplyPlan;
use crate::rewrite::words::is;
use crate::scoped::{SYNTAX_ERROR, Script, Task};
use crate::scripts::Sha;

impl Worker {
    pub(super) fn script_load(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(known) = self.prepare(key, request.arg(2)) else {
            return Outcome::Taken;
        };
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        if !session.store.scripts.may_load(&known) {
            self.audit(key, Reason::Memory, "SCRIPT LOAD");
            self.refuse(key, TOO_MANY_LOADED);
            return Outcome::Taken;
        }
        if session.transaction.is_some() {
            // Other nodes do not learn of it; this one does, and the server has it.
            let mut reply = Vec::new();
            encode::bulk(known.app.as_bytes(), &mut reply);
            let words = [b"SCRIPT".as_slice(), b"LOAD", known.server_text()];
            let plan = ReplyPlan::Replace(reply.into());
            let outcome = self.queue_script(key, command, &words, plan);
            if outcome == Outcome::Taken
                && let Some(session) = self.sessions.get_mut(key)
            {
                session.queue_script(known.app, known.server);
            }
            return outcome;
        }
        let task = Script::load(session.store.scripts.clone(), known);
        self.script_job(key, Task::Script(task))
    }

    pub(super) fn script_exists(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let scripts = session.store.scripts.clone();
        let names: Vec<Option<Sha>> = request.args().skip(2).map(Sha::parse).collect();
        if session.transaction.is_some() {
            let queued = session.transaction.as_ref();
            let known = |name: &Option<Sha>| {
                name.and_then(|name| scripts.find(name).or_else(|| queued?.brings(name)))
            };
            let known: Vec<Sha> = names
                .iter()
                .map(|name| known(name).unwrap_or(Sha::NONE))
                .collect();
            let mut words = vec![b"SCRIPT".as_slice(), b"EXISTS"];
            words.extend(known.iter().map(Sha::as_bytes));
            return self.queue_script(key, command, &words, ReplyPlan::Verbatim);
        }
        self.script_job(key, Task::Script(Script::exists(scripts, names)))
    }

    /// `SCRIPT FLUSH [ASYNC|SYNC]`: the server's cache has the others' scripts too, so it stays.
    pub(in crate::worker) fn script_flush(
        &mut self,
        key: Key<Session>,
        request: &Request<'_>,
    ) -> Outcome {
        let known = request
            .get(2)
            .is_none_or(|mode| is(mode, b"async") || is(mode, b"sync"));
        if request.argc() > 3 || !known {
            self.answer(key, b"-ERR SCRIPT FLUSH only support SYNC|ASYNC option\r\n");
            return Outcome::Taken;
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let scripts = session.store.scripts.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = now.map_or(0, |now| now.as_nanos());
        let flush = format!("{nanoseconds}.{}", self.number).into_bytes();
        self.script_job(key, Task::Script(Script::flush(scripts, flush)))
    }

    /// `SCRIPT SHOW sha1`: what another node has loaded, only that one can show.
    pub(in crate::worker) fn script_show(&mut self, key: Key<Session>, request: &Request<'_>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if request.argc() != 3 {
            self.refuse(key, SYNTAX_ERROR);
            return;
        }
        let known = Sha::parse(request.arg(2)).and_then(|sha| session.store.scripts.get(sha));
        match known {
            Some(known) => {
                let mut reply = Vec::new();
                encode::bulk(known.app_text(), &mut reply);
                self.answer(key, &reply);
            }
            None => self.answer(key, NO_SCRIPT),
        }
    }

    /// `SCRIPT DEBUG YES|SYNC|NO`: a script that is debugged waits for its session's words while all stores
    /// wait for it, or in a copy of the whole server.
    pub(in crate::worker) fn script_debug(&mut self, key: Key<Session>, request: &Request<'_>) {
        let mode = request.arg(2);
        if let Some(error) = self.wrong_engine(request) {
            self.refuse(key, &error);
        } else if is(mode, b"no") {
            self.answer(key, b"+OK\r\n");
        } else if is(mode, b"yes") || is(mode, b"sync") {
            self.note_refused(key);
            self.refuse(key, NO_DEBUGGER);
        } else {
            self.answer(key, b"-ERR Use SCRIPT DEBUG YES/SYNC/NO\r\n");
        }
    }
}
