//! From the server's bytes to the sessions: every frame goes to whom it is owed, its names taken
//! out.

mod owner;

use std::io::{ErrorKind, Read};

use super::Worker;
use super::arena::Key;
use super::events::FRAME_BYTES_MAX;
use super::integrity::WITHHELD;
use super::jobs::Job;
use super::scripts;
use super::session::{CLIENT_OUT_BYTES_HIGH, Gate, HEAVY_REPLY_BYTES, IN_FLIGHT_MAX, Session};
use super::upstream::{Recipient, Role, Upstream};
use crate::integrity::Verdict;
use crate::metrics::lookups::Head;
use crate::rewrite::reply::{Advance, ReplyPlan};
use owner::{Owner, owner};

/// Reads that one connection gets in a turn.
const READS_PER_TURN: usize = 4;

/// Small replies in a row after which a heavy session counts as light again: a cache that reads
/// one large value now and then should not keep paying for it.
const LIGHT_REPLIES: u16 = 64;

/// How much of an error tells what it is.
const ERROR_BYTES_LOOKED_AT: usize = 48;

/// The replies cannot be attributed any more.
struct Broken(&'static str);

impl Worker {
    pub(super) fn read_upstreams(&mut self) {
        for key in std::mem::take(&mut self.readable) {
            self.read_upstream(key);
        }
    }

    fn read_upstream(&mut self, key: Key<Upstream>) {
        if !self.may_read_upstream(key) {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..READS_PER_TURN {
            let Some(upstream) = self.upstreams.get_mut(key) else {
                break;
            };
            if !upstream.readable || upstream.stalled_by.is_some() {
                break;
            }
            match upstream.socket.read(&mut scratch) {
                Ok(0) => {
                    self.upstream_ended(key, &ErrorKind::UnexpectedEof.into());
                    break;
                }
                Ok(count) => {
                    if count < scratch.len()
                        && !upstream.hung_up
                        && upstream.socket.is_emptied_by_short_reads()
                    {
                        // A short read has emptied the socket; more bytes bring an event.
                        upstream.readable = false;
                    }
                    let store = upstream.store;
                    self.moved(store, count);
                    self.take_bytes(key, &scratch[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    upstream.readable = false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.upstream_ended(key, &error);
                    break;
                }
            }
        }
        self.scratch = scratch;
        if let Some(upstream) = self.upstreams.get_mut(key)
            && upstream.readable
            && upstream.stalled_by.is_none()
        {
            self.readable.push(key);
        }
    }

    fn take_bytes(&mut self, key: Key<Upstream>, bytes: &[u8]) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        let mut leftover = std::mem::take(&mut upstream.leftover);
        let result = if leftover.is_empty() {
            let result = self.take_replies(key, bytes);
            if let Ok(taken) = result {
                leftover.extend_from_slice(&bytes[taken..]);
            }
            result
        } else {
            leftover.extend_from_slice(bytes);
            let result = self.take_replies(key, &leftover);
            if let Ok(taken) = result {
                leftover.drain(..taken);
            }
            result
        };
        match (result, self.upstreams.get_mut(key)) {
            (Ok(_), Some(upstream)) => upstream.leftover = leftover,
            (Err(Broken(reason)), Some(_)) => {
                tracing::error!(reason, "an upstream connection cannot be trusted; closed");
                self.fail_upstream(key);
            }
            (_, None) => {}
        }
    }

    /// Takes frames from the front of `bytes`; answers how much was taken.
    fn take_replies(&mut self, key: Key<Upstream>, bytes: &[u8]) -> Result<usize, Broken> {
        let mut taken = 0;
        while taken < bytes.len() {
            let Some(upstream) = self.upstreams.get_mut(key) else {
                return Ok(taken);
            };
            let rest = &bytes[taken..];
            if !upstream.rewriter.in_progress() && !begin_frame(upstream, &self.sessions, rest)? {
                break;
            }
            if let Some(session) = upstream.out_of_turn.take() {
                self.overtook(session);
                continue;
            }
            let recipient = recipient(upstream);
            let dropped = &mut self.dropped;
            dropped.clear();
            let integrity = &self.environment.integrity;
            let mut verdict = Verdict::Clean;
            let (advance, session) = match recipient {
                _ if upstream.elsewhere.is_some() => {
                    (upstream.skip(rest, &self.nobody, dropped), None)
                }
                Some(Recipient::Session(session_key)) => match self.sessions.get_mut(session_key) {
                    Some(session) => {
                        let hidden = upstream.muted || upstream.guard.is_dropping();
                        let guarded = !hidden && integrity.is_enabled();
                        let out = if hidden { dropped } else { session.out.tail() };
                        let before = out.len();
                        if guarded {
                            upstream.guard.open(out);
                        }
                        let advance = upstream.rewriter.advance(rest, &session.namespace, out);
                        if guarded && let Ok(Advance { done, .. }) = advance {
                            let error = upstream.rewriter.met_error();
                            let own = &session.store.own_names;
                            let guard = &mut upstream.guard;
                            verdict = guard.look(own, integrity, out, before, error, done);
                            if verdict == Verdict::Whole && !upstream.unasked {
                                out.extend_from_slice(WITHHELD);
                            }
                        }
                        session.reply_bytes += out.len() - before;
                        session.receiving = matches!(&advance, Ok(advance) if !advance.done);
                        (advance, Some(session_key))
                    }
                    None => (upstream.skip(rest, &self.nobody, dropped), None),
                },
                Some(Recipient::Job(job) | Recipient::Page(job)) => match self.jobs.get_mut(job) {
                    Some(Job { context, reply, .. }) => (
                        upstream.rewriter.advance(rest, &context.namespace, reply),
                        None,
                    ),
                    None => (upstream.skip(rest, &self.nobody, dropped), None),
                },
                Some(Recipient::ServerId | Recipient::Exists) => {
                    let mut text = std::mem::take(&mut upstream.own_reply);
                    let advance = upstream.rewriter.advance(rest, &self.nobody, &mut text);
                    upstream.own_reply = text;
                    (advance, None)
                }
                Some(Recipient::Unblocking(unblocking)) => {
                    match self.unblockings.get_mut(unblocking) {
                        Some(unblocking) => {
                            let reply = &mut unblocking.reply;
                            (upstream.rewriter.advance(rest, &self.nobody, reply), None)
                        }
                        None => (upstream.skip(rest, &self.nobody, dropped), None),
                    }
                }
                Some(Recipient::Aside(job)) => match self.jobs.get_mut(job) {
                    Some(Job { context, aside, .. }) => (
                        upstream.rewriter.advance(rest, &context.namespace, aside),
                        None,
                    ),
                    None => (upstream.skip(rest, &self.nobody, dropped), None),
                },
                Some(
                    Recipient::Greeting
                    | Recipient::Listening
                    | Recipient::Heard(_)
                    | Recipient::Untold(_)
                    | Recipient::Slot(_)
                    | Recipient::Switched(..),
                )
                | None => {
                    let advance = upstream.skip(rest, &self.nobody, dropped);
                    if upstream.client_id.is_none() {
                        upstream.greeting.extend_from_slice(dropped);
                    }
                    if upstream.unasked
                        && upstream.role == Role::Listener
                        && upstream.frame.len() <= FRAME_BYTES_MAX
                    {
                        upstream.frame.extend_from_slice(dropped);
                    }
                    (advance, None)
                }
            };
            let advance = advance.map_err(|error| {
                tracing::error!(%error, "a reply could not be read");
                Broken("a reply could not be read")
            })?;
            taken += advance.consumed;
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.window.came(advance.consumed);
            }
            if verdict != Verdict::Clean
                && let Some(session_key) = session
            {
                let unasked = self.upstreams.get(key).is_some_and(|u| u.unasked);
                self.violated(
                    session_key,
                    verdict,
                    if unasked { "message" } else { "reply" },
                );
            }
            if advance.done {
                self.frame_done(key, session)?;
            }
            if let Some(session_key) = session {
                self.queue_flush_session(session_key);
                if let Some(session) = self.sessions.get(session_key)
                    && session.out.len() >= CLIENT_OUT_BYTES_HIGH
                {
                    self.slow_reader(key, session_key);
                }
            }
            if !advance.done {
                break;
            }
        }
        Ok(taken)
    }

    /// A frame is complete.
    fn frame_done(
        &mut self,
        key: Key<Upstream>,
        session_key: Option<Key<Session>>,
    ) -> Result<(), Broken> {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return Ok(());
        };
        upstream.guard.end();
        upstream.window.answered();
        let refused = upstream.refused;
        if upstream.unasked {
            upstream.unasked = false;
            if upstream.role == Role::Listener {
                self.take_event(key);
                return Ok(());
            }
            if let (true, Role::Own(session)) = (upstream.unheard, upstream.role) {
                self.kept_from(session);
                return Ok(());
            }
            let broken = upstream.rewriter.tells_broken_redirection();
            if let Some(session) = session_key.and_then(|key| self.sessions.get_mut(key)) {
                session.tracking.broken |= broken;
                session.reply_bytes = 0;
                session.settle();
            }
            if let Some(session) = session_key {
                self.settle_events(session);
            }
            return Ok(());
        }
        let Some(front) = upstream.owed.front_mut() else {
            return Err(Broken("a reply that nobody asked for"));
        };
        if let Some(ack) = upstream.rewriter.pubsub_summary()
            && let Some(session) = session_key.and_then(|key| self.sessions.get_mut(key))
        {
            session.subscribed.confirm(&ack);
        }
        front.frames -= 1;
        if front.frames > 0 && !refused {
            return Ok(());
        }
        let Some(front) = upstream.owed.pop_front() else {
            return Ok(());
        };
        let mut head = upstream.head;
        head.nulls = upstream.rewriter.nulls();
        let from = std::mem::replace(&mut upstream.answered_to, front.end);
        if let Some(elsewhere) = upstream.elsewhere.take() {
            self.went_astray(key, front, from, elsewhere);
            self.release(key);
            return Ok(());
        }
        let missed = upstream.end_by_name(&front);
        let error = upstream
            .error
            .then(|| std::mem::take(&mut upstream.error_text));
        if upstream.retired && upstream.role == Role::Shared && upstream.owed.is_empty() && !missed
        {
            // Its last session is served, and no new one will come.
            self.close_upstream(key);
        }
        let end = front.end;
        if self.scripts_break_lines()
            && let Some(upstream) = self.upstreams.get_mut(key)
            && upstream.role != Role::Shared
            && upstream.rewriter.met_error()
            && front.command.is_some_and(scripts::may_run)
            && !missed
        {
            // What else the error may have brought must not be the next one's reply.
            upstream.tainted = true;
        }
        match front.to {
            Recipient::Greeting | Recipient::Listening | Recipient::Switched(..) if refused => {
                let text = std::mem::take(&mut self.dropped);
                self.greeting_refused(key, &text);
            }
            Recipient::Greeting => self.greeted(key),
            Recipient::Listening => self.listening(key),
            Recipient::Heard(session) => self.heard(session),
            Recipient::Untold(session) => {
                self.tell_untold(session);
            }
            Recipient::Switched(session, protocol) => self.switched(key, session, protocol),
            Recipient::ServerId => self.take_server_id(key),
            Recipient::Exists => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.take_exists();
                }
            }
            Recipient::Unblocking(unblocking) => self.unblocked(unblocking),
            Recipient::Job(job) => {
                // Before the job goes on, which may ask again.
                self.question_answered(key);
                self.resume_job(job);
            }
            // The answer to the question behind it says whether it counts.
            Recipient::Page(_) if self.pages_are_proven() => {}
            Recipient::Page(job) | Recipient::Slot(job) => {
                self.resume_job(job);
                self.page_done();
            }
            Recipient::Aside(job) => self.resume_aside(job),
            Recipient::Session(_) if missed => self.send_with_text(key, front),
            Recipient::Session(session_key) => {
                if let Some(session) = self.sessions.get_mut(session_key) {
                    if refused {
                        session.refused_exec();
                    }
                    if front.patterns {
                        session.change_patterns(refused);
                    }
                }
                if front.exec {
                    self.executed(session_key, refused);
                }
                if front.turn != 0
                    && let Some(session) = self.sessions.get_mut(session_key)
                {
                    session.astray.end();
                }
                self.note_reply(key, session_key, &front, from, (head, error.as_deref()));
                self.session_paid(session_key);
            }
        }
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.out.forget(end);
            if !upstream.waiting.is_empty() {
                self.release(key);
            }
        }
        Ok(())
    }

    fn session_paid(&mut self, key: Key<Session>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.reply_bytes >= HEAVY_REPLY_BYTES {
            session.heavy = true;
            session.light_replies = 0;
        } else if session.heavy {
            session.light_replies += 1;
            session.heavy = session.light_replies < LIGHT_REPLIES;
        }
        session.reply_bytes = 0;
        session.paid();
        if session.gate == Gate::InFlight && session.in_flight < IN_FLIGHT_MAX / 2 {
            self.open_gate(key, Gate::InFlight);
        }
        if self.sessions.get(key).is_some_and(Session::is_idle) {
            self.session_idle(key);
        }
    }
}

/// Decides whose the next frame is and begins to read it. `false`: too few bytes to tell.
fn begin_frame(
    upstream: &mut Upstream,
    sessions: &super::Arena<Session>,
    bytes: &[u8],
) -> Result<bool, Broken> {
    match owner(upstream, sessions, bytes) {
        Owner::Unknown => Ok(false),
        owner @ (Owner::Unasked | Owner::Unheard) => {
            upstream.unasked = true;
            upstream.unheard = matches!(owner, Owner::Unheard);
            upstream.muted = false;
            if let Role::Own(session) = upstream.role
                && let Some(session) = sessions.get(session)
            {
                upstream.rewriter.set_redirection(session.tracking.redirect);
            }
            upstream.rewriter.start(ReplyPlan::Pubsub);
            Ok(true)
        }
        Owner::Front => {
            if !upstream.look_for_miss(bytes) || !upstream.look_elsewhere(bytes) {
                return Ok(false);
            }
            if upstream.elsewhere.is_some() {
                // What its request says of the reply is needed once more.
                upstream.error = false;
                upstream.refused = true;
                upstream.muted = true;
                upstream.rewriter.start(ReplyPlan::Verbatim);
                return Ok(true);
            }
            upstream.out_of_turn = upstream.owed.front().and_then(|front| {
                let Recipient::Session(key) = front.to else {
                    return None;
                };
                let session = sessions.get(key)?;
                (!session.astray.admits(front.turn)).then_some(key)
            });
            let Some(front) = upstream.owed.front_mut() else {
                return Err(Broken("a reply that nobody asked for"));
            };
            // Only a SUBSCRIBE's plan is needed again, for its next frame.
            let plan = if front.frames > 1 {
                front.plan.clone()
            } else {
                std::mem::replace(&mut front.plan, ReplyPlan::Verbatim)
            };
            if matches!(plan, ReplyPlan::Exec(_)) && bytes.len() < 2 {
                front.plan = plan;
                return Ok(false);
            }
            upstream.head = Head::of(bytes);
            upstream.error = bytes[0] == b'-';
            // CLIENT REPLY holds no confirmation back (`CLIENT_PUSHING` in networking.c).
            upstream.muted = front.muted && (upstream.error || plan != ReplyPlan::Pubsub);
            upstream.muted |= upstream.missed;
            if upstream.error {
                let text = &bytes[1..bytes.len().min(ERROR_BYTES_LOOKED_AT)];
                upstream.error_text.clear();
                upstream.error_text.extend_from_slice(text);
            }
            upstream.refused = matches!(bytes, [b'-' | b'_', ..] | [b'*', b'-', ..]);
            upstream.rewriter.start(plan);
            Ok(true)
        }
    }
}

fn recipient(upstream: &Upstream) -> Option<Recipient> {
    if upstream.unasked {
        return match upstream.role {
            Role::Own(session) if !upstream.unheard => Some(Recipient::Session(session)),
            _ => None,
        };
    }
    upstream.owed.front().map(|owed| owed.to)
}
