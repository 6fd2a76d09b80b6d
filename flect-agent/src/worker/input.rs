//! From a client's bytes to requests: read, scan, dispatch; streaming what does not fit.

use std::io::{ErrorKind, Read};

use super::Worker;
use super::arena::Key;
use super::forward::{Outcome, SUBSCRIPTION_IN_TRANSACTION};
use super::monitors;
use super::scripts::{self, Unready};
use super::session::{
    CLIENT_OUT_BYTES_HIGH, Gate, IN_FLIGHT_MAX, INPUT_BYTES_MAX, Lane, SCRIPT_INPUT_BYTES_MAX,
    Session, Stream, StreamTo,
};
use crate::audit::Reason;
use crate::commands::{self, Command, Lookup, Names, Need, Placement, Policy};
use crate::resp::request::{Request, Scanned};
use crate::rewrite::request::keys;
use crate::rewrite::stream::StreamRewriter;
use crate::scoped::MENTIONED_BYTES_MAX;

/// Reads that one session gets in a turn, so that a flood from one client leaves the others theirs.
const READS_PER_TURN: usize = 4;

impl Worker {
    /// Takes what a session has to say, as far as its gate lets it.
    pub(super) fn run_session(&mut self, key: Key<Session>) {
        self.take_input(key);
        self.account(key);
        self.tell(key);
    }

    fn take_input(&mut self, key: Key<Session>) {
        let mut reads = 0;
        let mut hungry = false;
        loop {
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            if session.finishing {
                return;
            }
            if session.gate != Gate::Open {
                self.watch_for_end(key);
                return;
            }
            if self.rests && session.rests() {
                return;
            }
            if !session.input.is_empty() && !hungry {
                let input = std::mem::take(&mut session.input);
                let taken = self.take_requests(key, &input);
                self.keep(key, input, taken);
                hungry = true;
                continue;
            }
            if !session.readable {
                return;
            }
            if reads == READS_PER_TURN {
                self.queue_run(key);
                return;
            }
            if reads == 0 && !self.may_read_session(key) {
                return;
            }
            reads += 1;
            hungry = false;
            if !self.read_session(key) {
                return;
            }
        }
    }

    /// One read. `false` when there is nothing (more) to take.
    fn read_session(&mut self, key: Key<Session>) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let Some(session) = self.sessions.get_mut(key) else {
            self.scratch = scratch;
            return false;
        };
        let room = session.input_bytes_max.saturating_sub(session.input.len());
        let room = room.min(scratch.len());
        if room == 0 {
            self.scratch = scratch;
            return false;
        }
        let result = session.socket.read(&mut scratch[..room]);
        let going_on = match result {
            Ok(0) => {
                self.client_ended(key);
                false
            }
            Ok(count) => {
                session.meter.bytes_in.add(count as u64);
                session.doing.read_bytes += count as u64;
                session.doing.touched_ms = self.now_ms;
                if count < room && !session.hung_up && !session.accelerated {
                    // A short read has emptied the socket; the next bytes bring an event.
                    session.readable = false;
                }
                let (store, mut input) = (session.store.number, std::mem::take(&mut session.input));
                self.moved(Some(store), count);
                if input.is_empty() {
                    let taken = self.take_requests(key, &scratch[..count]);
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.input.extend_from_slice(&scratch[taken..count]);
                    }
                } else {
                    input.extend_from_slice(&scratch[..count]);
                    let taken = self.take_requests(key, &input);
                    self.keep(key, input, taken);
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                session.readable = false;
                false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => {
                tracing::debug!(%error, "a client connection broke while reading");
                self.close_session(key);
                false
            }
        };
        self.scratch = scratch;
        going_on
    }

    /// Puts back what was not taken.
    fn keep(&mut self, key: Key<Session>, mut input: Vec<u8>, taken: usize) {
        if let Some(session) = self.sessions.get_mut(key) {
            input.drain(..taken);
            // An idle connection keeps no buffer.
            session.input = if input.is_empty() { Vec::new() } else { input };
        }
    }

    /// The client will send no more. Replies under way still reach it (it may have closed only its
    /// sending half), except where that could take forever.
    fn client_ended(&mut self, key: Key<Session>) {
        let waits = self.waits_for_others(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.readable = false;
        session.finishing = true;
        // A store-wide task ends by itself, and its reply is owed as others are.
        if waits || session.subscribed.any() || session.is_served() && session.out.is_empty() {
            self.close_session(key);
        } else {
            self.queue_flush_session(key);
        }
    }

    /// While a gate is closed nothing is read, so the end of a client that hung up shows only here:
    /// a blocked client that has gone must not take an element off a list, whatever it has sent
    /// behind.
    fn watch_for_end(&mut self, key: Key<Session>) {
        let waits = self.waits_for_others(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !session.hung_up || !session.input.is_empty() && !waits {
            return;
        }
        let mut byte = [0; 1];
        if waits || matches!(session.socket.peek(&mut byte), Ok(0)) {
            self.client_ended(key);
        }
    }

    /// Whether a reply may depend on what other clients do, and take forever.
    fn waits_for_others(&self, key: Key<Session>) -> bool {
        match self.sessions.get(key).map(|session| session.lane) {
            Some(Lane::Own(upstream)) => self
                .upstreams
                .get(upstream)
                .is_none_or(|u| u.owed.iter().any(|owed| owed.blocking)),
            _ => false,
        }
    }

    /// Takes requests from the front of `bytes`; answers how much was taken.
    fn take_requests(&mut self, key: Key<Session>, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let Some(session) = self.sessions.get_mut(key) else {
                break;
            };
            if session.out.len() >= CLIENT_OUT_BYTES_HIGH && session.gate == Gate::Open {
                session.gate = Gate::Client;
                self.queue_flush_session(key);
                break;
            }
            if session.in_flight >= IN_FLIGHT_MAX && session.gate == Gate::Open {
                session.gate = Gate::InFlight;
            }
            if session.gate != Gate::Open
                || session.finishing
                || self.rests && rest.len() <= INPUT_BYTES_MAX && session.rests()
            {
                break;
            }
            if session.stream.is_some() {
                match self.feed_stream(key, rest) {
                    0 => break,
                    count => taken += count,
                }
                continue;
            }
            match session.scanner.scan(rest) {
                Ok(Scanned::Request { consumed }) => {
                    session.nothing_behind = consumed == rest.len();
                    let mut scanner = std::mem::take(&mut session.scanner);
                    let outcome = self.take_request(key, &scanner.request(rest), consumed);
                    scanner.reset();
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.scanner = scanner;
                    }
                    match outcome {
                        Outcome::Taken => {
                            taken += consumed;
                            self.gather_less(key);
                        }
                        Outcome::Later => break,
                    }
                }
                Ok(Scanned::Empty { consumed }) => {
                    session.scanner.reset();
                    taken += consumed;
                }
                Ok(Scanned::Incomplete) => {
                    if rest.len() < session.input_bytes_max || !self.begin_stream(key, rest) {
                        break;
                    }
                }
                Err(error) => {
                    self.finish_with(key, &error.reply());
                    return bytes.len();
                }
            }
        }
        taken
    }

    /// Takes one request, if the store's limits let it, and counts it.
    fn take_request(&mut self, key: Key<Session>, request: &Request<'_>, bytes: usize) -> Outcome {
        if self.hears_first(key) {
            return Outcome::Later;
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Later;
        };
        let store = &session.store;
        let (paced, full) = (store.limits.has_rate(), store.limits.memory_exceeded());
        let (paused, monitored) = (store.pause.is_set(), store.monitors.any());
        if paused && self.held_back(key, request) {
            return Outcome::Later;
        }
        if paced && !self.admit(key) {
            return Outcome::Later;
        }
        let tap = if monitored { self.tap(key) } else { None };
        self.current = None;
        let outcome = if full && self.when_full(key, request) {
            Outcome::Taken
        } else {
            self.dispatch(key, request)
        };
        if outcome == Outcome::Taken
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.admitted = false;
            session.heard = false;
            session.meter.request(self.current);
            if let Some(command) = self.current {
                session.doing.last_command = Some(command.number);
            }
            session.doing.commands += u64::from(session.transaction.is_none());
            if self.sampler.takes()
                && let Some(command) = self.current
                && command.policy == Policy::Rewrite
                && let Some(name) = keys(command, request).next()
            {
                session.meter.key(name);
            }
            self.watch_request(key, request, bytes);
        }
        if outcome == Outcome::Taken
            && let Some(tap) = tap
        {
            self.tell_monitors(&tap, key, request);
        }
        outcome
    }

    /// The request in front is turned down by policy or limit.
    pub(super) fn note_refused(&self, key: Key<Session>) {
        if let Some(session) = self.sessions.get(key) {
            session.meter.refused.add(1);
        }
    }

    /// Answers and takes no more requests; the session ends when the answer is out.
    pub(super) fn finish_with(&mut self, key: Key<Session>, reply: &[u8]) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.answer(reply, None);
            session.finishing = true;
            self.queue_flush_session(key);
        }
    }

    /// A request that fills the buffer without being whole: from here on it is rewritten as it
    /// comes. `false` when it has to wait for a connection.
    fn begin_stream(&mut self, key: Key<Session>, bytes: &[u8]) -> bool {
        if self.hears_first(key) || !self.admit(key) {
            return false;
        }
        let release = self.environment.facts.release;
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        session.heard = false;
        let Some(head) = session.scanner.head(bytes) else {
            return false;
        };
        let argc = head.argc;
        if head.args_complete == 0 && session.input_bytes_max < SCRIPT_INPUT_BYTES_MAX {
            // No command is called so; the error repeats the arguments behind the name.
            session.input_bytes_max = SCRIPT_INPUT_BYTES_MAX;
            return false;
        }
        let shown = if session.store.monitors.any() {
            monitors::beginning(&head)
        } else {
            Vec::new()
        };
        let paused = session.store.pause.is_set();
        let known: Vec<Vec<u8>> = (0..2)
            .map_while(|index| head.arg(index))
            .map(<[u8]>::to_vec)
            .collect();
        let begun = (head.args_complete == 1).then_some(head.begun);
        let second = known.get(1).map(Vec::as_slice).or(begun);
        let lookup = known.first().map(|name| commands::lookup(name, second));
        let unknown = match lookup {
            Some(Lookup::Known(command)) if command.since <= release => Vec::new(),
            Some(Lookup::UnknownSubcommand(_)) => {
                commands::unknown_subcommand_error(&known[0], second.unwrap_or_default())
            }
            _ => {
                let whole = (0..head.args_complete).filter_map(|index| head.arg(index));
                commands::unknown_command_error(whole.chain([head.begun]))
            }
        };
        let script = known.get(1).map_or(b"".as_slice(), Vec::as_slice);
        if let Some(Lookup::Known(command)) = lookup
            && paused
            && self.must_wait(key, command, script)
        {
            return false;
        }
        let refusal = match lookup {
            _ if !unknown.is_empty() => unknown,
            Some(Lookup::Known(command)) if scripts::concerns(command) => {
                match self.begin_script_stream(key, command, bytes) {
                    Ok((rewriter, upstream)) => {
                        let Some(session) = self.sessions.get_mut(key) else {
                            return false;
                        };
                        session.scanner.reset();
                        let to = Some(StreamTo {
                            upstream,
                            command,
                            argc,
                        });
                        let refusal = Vec::new();
                        session.stream = Some(Stream {
                            rewriter,
                            to,
                            refusal,
                        });
                        if !shown.is_empty() {
                            self.tell_beginning(key, command, &shown);
                        }
                        return true;
                    }
                    Err(Unready::Later) => return false,
                    Err(Unready::Refused(error)) => error.to_vec(),
                }
            }
            Some(Lookup::Known(command)) => match command.policy {
                Policy::Rewrite if let Some(error) = self.memory_refusal(key, command, script) => {
                    self.note_refused(key);
                    self.audit(key, Reason::Memory, command.name);
                    error.to_vec()
                }
                Policy::Rewrite
                    if command.placement == Placement::Dedicated(Need::Subscription)
                        && self.in_transaction(key) =>
                {
                    SUBSCRIPTION_IN_TRANSACTION.to_vec()
                }
                Policy::Rewrite if streamable(command) => {
                    let Some(upstream) = self.lane(key, true) else {
                        return false;
                    };
                    let Some(session) = self.sessions.get_mut(key) else {
                        return false;
                    };
                    session.scanner.reset();
                    session.admitted = false;
                    session.meter.request(Some(command));
                    let mut rewriter = StreamRewriter::begin(command, argc);
                    if session.transaction.is_some() {
                        rewriter.note_keys(MENTIONED_BYTES_MAX);
                    }
                    session.stream = Some(Stream {
                        rewriter,
                        to: Some(StreamTo {
                            upstream,
                            command,
                            argc,
                        }),
                        refusal: Vec::new(),
                    });
                    session.doing.last_command = Some(command.number);
                    if may_block(command) {
                        self.ask_server_id(upstream);
                    }
                    if !shown.is_empty() {
                        self.tell_beginning(key, command, &shown);
                    }
                    return true;
                }
                Policy::Operator(reason) => {
                    self.note_refused(key);
                    self.audit(key, Reason::OperatorCommand, command.name);
                    commands::refusal(command, reason)
                }
                Policy::Rewrite | Policy::Scoped(_) | Policy::Local(_) => {
                    let Some(session) = self.sessions.get_mut(key) else {
                        return false;
                    };
                    if session.input_bytes_max < SCRIPT_INPUT_BYTES_MAX {
                        // It is looked at as a whole, as a pattern of KEYS must be.
                        session.input_bytes_max = SCRIPT_INPUT_BYTES_MAX;
                        return false;
                    }
                    b"-ERR the request is too long for this command: the agent takes at most 1 MiB\r\n".to_vec()
                }
            },
            _ => Vec::new(),
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        session.scanner.reset();
        session.admitted = false;
        session.meter.request(known_command(lookup));
        session.stream = Some(Stream {
            rewriter: StreamRewriter::discard(argc),
            to: None,
            refusal,
        });
        true
    }
}

impl Worker {
    pub(super) fn in_transaction(&self, key: Key<Session>) -> bool {
        let session = self.sessions.get(key);
        session.is_some_and(|session| session.transaction.is_some())
    }
}

fn known_command(lookup: Option<Lookup>) -> Option<&'static Command> {
    match lookup {
        Some(Lookup::Known(command)) => Some(command),
        _ => None,
    }
}

/// Whether a request may be sent on before all of it is here. Patterns are counted one by one; what COPY and
/// SORT are to do, their last words may tell.
fn streamable(command: &Command) -> bool {
    commands::streamable(command)
        && !matches!(
            command.name,
            "psubscribe" | "punsubscribe" | "copy" | "sort" | "sort_ro"
        )
}

/// Whether a request of this command may keep its client waiting.
pub(super) fn may_block(command: &Command) -> bool {
    command.placement == Placement::Dedicated(Need::Blocking)
        || matches!(command.names, Names::Xread { .. })
}
