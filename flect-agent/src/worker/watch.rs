//! Looks at replies for what counts and for what is slow or large.
//!
//! A reply that is neither costs a comparison of two numbers that are known anyway. The arguments of one
//! that is are still in the buffer that was flushed last (`Outbox::sent`), so no request is copied for
//! the logs; only of scripts, where the server gets another text than the app's, are arguments noted
//! beforehand.

use super::Worker;
use super::arena::Key;
use super::jobs::Job;
use super::lanes::connecting::tells_of_no_primary;
use super::lanes::reading::tells_of_no_data;
use super::session::{Lane, Session};
use super::upstream::{Owed, Upstream};
use crate::commands::{self, Command, Flags, Policy};
use crate::diagnosis::{Arguments, Entry, Kind};
use crate::environment::Setting;
use crate::metrics::lookups::{Head, Lookups};
use crate::metrics::stats;
use crate::registry::now_seconds;
use crate::resp::request::Request;

/// Arguments that [`Worker::note_arguments`] is for.
fn is_sent_otherwise(command: &Command) -> bool {
    let name = command.name;
    name.starts_with("eval")
        || name.starts_with("fcall")
        || name.starts_with("script|")
        || name == "client|tracking"
}

impl Worker {
    /// A request's reply is complete: it is counted, and logged where that is due. A reply that other
    /// clients could delay tells nothing of the server.
    pub(super) fn note_reply(
        &mut self,
        upstream: Key<Upstream>,
        key: Key<Session>,
        owed: &Owed,
        from: u64,
        (head, error): (Head, Option<&[u8]>),
    ) {
        let lane = self.upstreams.get(upstream);
        let is_reader = lane.is_some_and(|lane| lane.is_reader);
        if is_reader && error.is_some_and(tells_of_no_data) {
            // Until it is looked at again, for all workers.
            self.environment.replicas.store(std::sync::Arc::default());
        } else if error.is_some_and(tells_of_no_primary) {
            self.doubt();
        }
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if let Some(error) = error {
            session.meter.error(owed.command, error);
            if let Some(command) = owed.command {
                let lookups = Lookups::of_error(command, owed.argc, error);
                session.meter.looked(lookups);
            }
        } else if let Some(command) = owed.command
            && owed.argc > 0
        {
            session.meter.looked(Lookups::of(command, owed.argc, head));
        }
        let mut latency_us = self.now_us.wrapping_sub(owed.since_us);
        let settings = session.store.settings();
        let mut slow = false;
        if !owed.blocking {
            session.meter.reply(latency_us);
            let rejected = error.is_some_and(stats::is_rejection);
            if let Some(command) = owed.command
                && !rejected
            {
                session.meter.carried_out(command, latency_us);
            }
            slow = latency_us >= settings.watched_us();
        } else if settings.watched_us() == 0 {
            // How long the server has worked on it, it does not tell: less than its client has waited.
            slow = true;
            latency_us = 0;
        }
        if slow || session.reply_bytes >= settings.large_reply_bytes() {
            self.log_reply(upstream, key, owed, from, slow.then_some(latency_us));
        }
    }

    #[cold]
    fn log_reply(
        &self,
        upstream: Key<Upstream>,
        key: Key<Session>,
        owed: &Owed,
        from: u64,
        latency_us: Option<u32>,
    ) {
        let (Some(session), Some(number)) = (self.sessions.get(key), owed.command) else {
            return;
        };
        let Some(command) = commands::all().get(usize::from(number)) else {
            return;
        };
        let bytes = self
            .upstreams
            .get(upstream)
            .map(|u| u.out.sent(from, owed.end));
        let arguments = || match (&owed.noted, bytes) {
            (Some(noted), _) => (**noted).clone(),
            (None, Some(bytes)) if !is_sent_otherwise(command) => {
                Arguments::of_bytes(bytes, Some(&session.store.prefix))
            }
            (None, _) => Arguments::default(),
        };
        log(
            session,
            command,
            latency_us,
            session.reply_bytes,
            &arguments,
        );
    }

    /// A store-wide command is done.
    pub(super) fn log_job(&self, job: &Job, latency_us: u32, reply_bytes: usize) {
        let (Some(session), Some(command)) = (self.sessions.get(job.session), job.command) else {
            return;
        };
        let settings = session.store.settings();
        let slow = latency_us >= settings.watched_us();
        if slow || reply_bytes >= settings.large_reply_bytes() {
            let arguments = || job.noted.clone().unwrap_or_default();
            log(
                session,
                command,
                slow.then_some(latency_us),
                reply_bytes,
                &arguments,
            );
        }
    }

    /// A request has been taken: arguments are noted where they would be lost, and what was answered on
    /// the spot is logged by a store that logs everything.
    #[inline]
    pub(super) fn watch_request(&mut self, key: Key<Session>, request: &Request<'_>, bytes: usize) {
        let (Some(session), Some(command)) = (self.sessions.get(key), self.current) else {
            return;
        };
        let settings = session.store.settings();
        let on_the_spot = matches!(command.policy, Policy::Local(_));
        if on_the_spot && settings.watched_us() == 0
            || bytes >= settings.large_request_bytes()
            || is_sent_otherwise(command) && command.policy == Policy::Rewrite
        {
            self.note_arguments(key, command, request, bytes);
        }
    }

    #[cold]
    fn note_arguments(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
        bytes: usize,
    ) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let arguments = || Arguments::of(request);
        let settings = session.store.settings();
        if bytes >= settings.large_request_bytes() {
            self.log_large_request(session, command, bytes, &arguments);
        }
        match command.policy {
            Policy::Local(_) => {
                if settings.watched_us() == 0 && command.accepts(request.argc()) {
                    log(session, command, Some(0), 0, &arguments);
                }
            }
            Policy::Scoped(_) | Policy::Operator(_) => {}
            Policy::Rewrite => {
                let (Lane::Own(upstream) | Lane::Shared(upstream)) = session.lane else {
                    return;
                };
                let upstream = self.upstreams.get_mut(upstream);
                if let Some(owed) = upstream.and_then(|upstream| upstream.owed.back_mut())
                    && owed.command == Some(command.number)
                {
                    owed.noted = Some(Box::new(arguments()));
                }
            }
        }
    }

    /// A request that was streamed has been sent whole; the beginning of it may still be there.
    pub(super) fn watch_stream(
        &self,
        key: Key<Session>,
        command: &'static Command,
        upstream: Key<Upstream>,
    ) {
        let (Some(session), Some(upstream)) =
            (self.sessions.get(key), self.upstreams.get(upstream))
        else {
            return;
        };
        let mut sent = upstream.owed.iter().rev().map(|owed| owed.end);
        let Some(end) = sent.next() else {
            return;
        };
        let from = sent.next().unwrap_or(upstream.answered_to);
        let bytes = usize::try_from(end - from).unwrap_or(usize::MAX);
        if bytes >= session.store.settings().large_request_bytes() {
            let arguments =
                || Arguments::of_bytes(upstream.out.sent(from, end), Some(&session.store.prefix));
            self.log_large_request(session, command, bytes, &arguments);
        }
    }

    fn log_large_request(
        &self,
        session: &Session,
        command: &Command,
        bytes: usize,
        arguments: &dyn Fn() -> Arguments,
    ) {
        if !command.flags.has(Flags::SKIP_COMMANDLOG) {
            push(session, Kind::LargeRequest, bytes, arguments, command);
        }
    }
}

/// Enters a command into the logs that it belongs into.
fn log(
    session: &Session,
    command: &Command,
    latency_us: Option<u32>,
    reply_bytes: usize,
    arguments: &dyn Fn() -> Arguments,
) {
    let settings = session.store.settings();
    if let Some(us) = latency_us {
        let threshold_ms = settings.latency_monitor_threshold_ms();
        let ms = i64::from(us / 1000);
        if threshold_ms > 0 && ms >= threshold_ms {
            let fast = command.flags.has(Flags::FAST);
            let event = if fast { "fast-command" } else { "command" };
            let mut spikes = session.store.diagnosis.spikes();
            spikes.add(event, now_seconds(), u64::from(us / 1000));
        }
    }
    if command.flags.has(Flags::SKIP_COMMANDLOG) || command.flags.has(Flags::SKIP_SLOWLOG) {
        return;
    }
    let slower_than_us = settings.get(Setting::SlowerThan);
    if let Some(us) = latency_us
        && slower_than_us >= 0
        && i64::from(us) >= slower_than_us
    {
        push(session, Kind::Slow, us as usize, arguments, command);
    }
    if reply_bytes >= settings.large_reply_bytes() {
        push(session, Kind::LargeReply, reply_bytes, arguments, command);
    }
}

fn push(
    session: &Session,
    kind: Kind,
    value: usize,
    arguments: &dyn Fn() -> Arguments,
    command: &Command,
) {
    let most = session.store.settings().get(match kind {
        Kind::Slow => Setting::SlowMaxLen,
        Kind::LargeRequest => Setting::LargeRequestMaxLen,
        Kind::LargeReply => Setting::LargeReplyMaxLen,
    });
    let mut arguments = arguments();
    if arguments.is_empty() {
        arguments = Arguments::of_command(command);
    }
    let entry = Entry {
        id: 0,
        at: now_seconds(),
        value: i64::try_from(value).unwrap_or(i64::MAX),
        arguments,
        peer: session.entry.peer.to_string(),
        name: session.entry.named().name.clone(),
    };
    session.store.diagnosis.log(kind).push(most, entry);
}
