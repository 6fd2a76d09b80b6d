//! EVAL by its script's name: the server would hash the whole text, fifteen KiB and more with what stands in
//! front of it, only to find that it has compiled it already.
//!
//! Invariant: a script runs once, in its place among the session's requests, and its app sees EVAL's reply. So
//! the session has nothing else under way and takes no further request before the reply. A script may itself
//! answer NOSCRIPT: in front of its name the server is asked whether it has it, and only where it said that it
//! has not is the request sent again, with the text.

use super::super::Worker;
use super::super::arena::Key;
use super::super::forward::Outcome;
use super::super::lanes;
use super::super::session::{Gate, Replies, Session};
use super::super::upstream::{Owed, Recipient, Upstream};
use super::{behind_script, keys_of, plan};
use crate::commands::Command;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::rewrite::reply::ReplyPlan;
use crate::scripts::Known;

/// What stands behind the script in a request is kept until the reply. Where there is more of it, the text is
/// the smaller part of what the server does.
const ARGUMENTS_BYTES_MAX: usize = 16 * 1024;

/// What requests by name may become if the server lacks their scripts, on one connection: some 250 texts. It
/// comes on top of what the connection may have waiting, at once if the server has been told to forget.
const PROMISED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How the server begins to say that it lacks a script.
const NO_SCRIPT: &[u8] = b"-NOSCRIPT ";

/// What it says of one that it has not.
const LACKS: &[u8] = b"*1\r\n:0\r\n";

/// A request that was sent by its script's name, as far as it must be sent again.
#[derive(Debug)]
pub(crate) struct ByName {
    known: Known,
    /// What stands behind the script.
    arguments: Vec<u8>,
    argc: usize,
    /// EVAL_RO.
    reads: bool,
}

impl ByName {
    fn promised_bytes(&self) -> usize {
        self.known.server_text().len() + self.arguments.len()
    }

    /// The request with the script's text, and what its reply means.
    pub(in crate::worker) fn with_text(&self, out: &mut Vec<u8>) -> ReplyPlan {
        out.reserve(self.promised_bytes() + 64);
        encode::array(self.argc, out);
        encode::bulk(if self.reads { "EVAL_RO" } else { "EVAL" }, out);
        encode::bulk(self.known.server_text(), out);
        out.extend_from_slice(&self.arguments);
        plan(self.known.app, self.known.server)
    }
}

impl Worker {
    /// Sends an EVAL by its script's name. `None` where it is to be sent with its text.
    pub(super) fn run_by_name(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Outcome> {
        let session = self.sessions.get(key)?;
        let alone = session.is_idle() && session.nothing_behind;
        // MULTI, CLIENT TRACKING and their like concern the next command, or all that the server gets.
        let plain = session.replies == Replies::On && !session.needs_own();
        let keys = keys_of(request)?;
        let given_bytes = request.bytes().len() - request.range(1).end as usize;
        if !alone || !plain || given_bytes > ARGUMENTS_BYTES_MAX {
            return None;
        }
        let known = self.prepare(key, request.arg(1))?;
        let plan = plan(known.app, known.server);
        let session = self.sessions.get(key)?;
        if self.walks(key, request, &plan).0
            || !session.store.scripts.goes_by_name(known.app, self.now)
        {
            return None;
        }
        let prefix = session.namespace.keys();
        let mut arguments = Vec::with_capacity(given_bytes + (keys + 2) * (prefix.len() + 8));
        behind_script(request, keys, prefix, &mut arguments);
        encode::bulk(prefix, &mut arguments);
        let by_name = ByName {
            known,
            arguments,
            argc: request.argc() + 1,
            reads: command.name == "eval_ro",
        };
        let own = session.heavy || self.scripts_break_lines() && self.spares_own(&session.store);
        let Some(upstream) = self.lane(key, own) else {
            return Some(Outcome::Later);
        };
        let lane = self.upstreams.get_mut(upstream)?;
        if lane.promised_bytes + by_name.promised_bytes() > PROMISED_BYTES_MAX {
            return None;
        }
        lane.promised_bytes += by_name.promised_bytes();
        let name = by_name.known.server;
        let mut question = Vec::with_capacity(80);
        encode::request(
            &[b"SCRIPT", b"EXISTS".as_slice(), name.as_bytes()],
            &mut question,
        );
        self.send_own(upstream, &question, Recipient::Exists);
        let out = self.upstreams.get_mut(upstream)?.out.tail();
        let word = if by_name.reads {
            "EVALSHA_RO"
        } else {
            "EVALSHA"
        };
        encode::array(by_name.argc, out);
        encode::bulk(word, out);
        encode::bulk(name.as_bytes(), out);
        out.extend_from_slice(&by_name.arguments);
        if let Some(session) = self.sessions.get_mut(key) {
            session.declares = session.declared(command, request.arg(1));
        }
        self.sent(key, upstream, command, plan, request.argc(), false);
        if let Some(owed) = self.upstreams.get_mut(upstream)?.owed.back_mut() {
            owed.by_name = Some(Box::new(by_name));
        }
        self.sessions.get_mut(key)?.gate = Gate::Idle;
        Some(Outcome::Taken)
    }

    /// The server lacks the script: nothing has run, and the request goes to the end of the same connection,
    /// where nothing of its session's is. Its client may have gone, as may one whose EVAL is under way.
    pub(in crate::worker) fn send_with_text(&mut self, upstream: Key<Upstream>, mut owed: Owed) {
        let (Some(again), Some(lane)) = (owed.by_name.take(), self.upstreams.get_mut(upstream))
        else {
            return;
        };
        owed.plan = again.with_text(lane.out.tail());
        if let Recipient::Session(session) = owed.to
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.reply_bytes = 0;
        }
        owed.frames = 1;
        owed.end = lane.out.position();
        lane.owed.push_back(owed);
        if let Some(lanes) = lanes::of(&mut self.stores, lane.store) {
            lanes.store.scripts.missed(again.known.app, self.now);
        }
        self.queue_flush_upstream(upstream);
    }
}

impl Upstream {
    /// The server has said whether it has the script whose name comes next.
    pub(in crate::worker) fn take_exists(&mut self) {
        self.lacks = std::mem::take(&mut self.own_reply) == LACKS;
    }

    /// Notes whether the reply that begins says that the server lacks the script. `false`: too few bytes to
    /// tell.
    pub(in crate::worker) fn look_for_miss(&mut self, bytes: &[u8]) -> bool {
        let front = self.owed.front();
        let by_name = front.is_some_and(|front| front.by_name.is_some());
        self.missed = by_name && self.lacks && bytes.starts_with(NO_SCRIPT);
        !(by_name && self.lacks) || self.missed || !NO_SCRIPT.starts_with(bytes)
    }

    /// A reply is complete: whether its request is to be sent again.
    pub(in crate::worker) fn end_by_name(&mut self, owed: &Owed) -> bool {
        if let Some(by_name) = &owed.by_name {
            self.promised_bytes -= by_name.promised_bytes();
        }
        std::mem::take(&mut self.missed)
    }
}
