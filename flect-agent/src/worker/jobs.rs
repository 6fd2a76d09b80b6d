//! Store-wide commands on their way: each step of a [`Task`] is a request on one of the agent's own
//! connections, and the session waits until the task is done.

use std::sync::Arc;

use super::Worker;
use super::arena::Key;
use super::astray::Tried;
use super::flushes::Flushing;
use super::lanes;
use super::session::{Gate, Session};
use super::upstream::{Owed, Recipient, Role, Upstream};
use crate::audit::Reason;
use crate::commands::Command;
use crate::diagnosis::Arguments;
use crate::environment::{Setting, UpstreamAddress};
use crate::resp::Protocol;
use crate::rewrite::reply::ReplyPlan;
use crate::scoped::{self, Context, Step, Target, Task};

/// A task under way for a session.
pub struct Job {
    pub session: Key<Session>,
    pub store: usize,
    pub task: Task,
    pub context: Context,
    /// When the request was taken, by the worker's clock.
    pub since_us: u32,
    /// Its flush, if it is one.
    flushing: Option<Flushing>,
    /// What it is and how the app asked for it, for the store's logs.
    pub command: Option<&'static Command>,
    pub noted: Option<Arguments>,
    /// The reply to the current question, as far as it has come.
    pub reply: Vec<u8>,
    /// The same of what is under way besides.
    pub aside: Vec<u8>,
    aside_owed: bool,
    /// What comes next when that has been answered.
    held: Option<Step>,
    /// The page asked for, as long as it may have to be asked for again.
    pub page: Vec<u8>,
    /// Since when it is asked for again.
    pub tried: Tried,
}

/// Pages of the server's names that a worker asks for at once, all of its stores together: the server
/// takes what one connection has sent in one go, and everybody else waits as long.
const PAGES_MAX: usize = 2;

/// Store-wide commands of one store at once in a worker: each may hold the names it has seen, and
/// each asks the server for one page after the other.
const JOBS_MAX: usize = 4;

/// Connections of the librarian that a worker keeps: functions are loaded and listed now and then.
const LIBRARIANS_MAX: usize = 2;

/// Whether a request asks for a page.
fn is_page(request: &[u8]) -> bool {
    request
        .get(HEADER_BYTES..)
        .is_some_and(|rest| rest.starts_with(b"$4\r\nSCAN\r\n"))
}

/// The first line, of six or eight words.
const HEADER_BYTES: usize = b"*6\r\n".len();

impl Worker {
    /// Whether a store-wide command may begin; otherwise the session waits for its turn.
    pub(super) fn turn_or_wait(&mut self, key: Key<Session>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some(lanes) = lanes::of(&mut self.stores, Some(session.store.number)) else {
            return false;
        };
        if lanes.jobs < JOBS_MAX {
            return true;
        }
        session.gate = Gate::Turn;
        lanes.turns.push_back(key);
        false
    }

    fn remove_job(&mut self, key: Key<Job>) -> Option<Job> {
        let job = self.jobs.remove(key)?;
        let lanes = lanes::of(&mut self.stores, Some(job.store))?;
        lanes.jobs -= 1;
        while let Some(next) = lanes.turns.pop_front() {
            if self
                .sessions
                .get(next)
                .is_some_and(|s| s.gate == Gate::Turn)
            {
                self.open_gate(next, Gate::Turn);
                break;
            }
        }
        Some(job)
    }

    /// Begins a task for a session that is owed nothing.
    pub(super) fn begin_job(&mut self, key: Key<Session>, mut task: Task) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.gate = Gate::Job;
        session.doing.wrote_ms = self.now_ms;
        let context = Context {
            prefix: session.store.prefix.clone(),
            namespace: session.namespace.clone(),
            protocol: session.protocol,
        };
        let flushing = matches!(task, Task::Flush(_))
            .then(|| Flushing::begin(&self.environment, &session.store, 1));
        let step = task.begin(&context);
        let store = session.store.number;
        if let Some(lanes) = lanes::of(&mut self.stores, Some(store)) {
            lanes.jobs += 1;
        }
        let job = self.jobs.insert(Job {
            session: key,
            store,
            task,
            context,
            flushing,
            since_us: self.now_us,
            command: self.current,
            noted: self.noted.take(),
            reply: Vec::new(),
            aside: Vec::new(),
            aside_owed: false,
            held: None,
            page: Vec::new(),
            tried: Tried::default(),
        });
        self.take_step(job, step);
    }

    /// A question has its whole reply.
    pub(super) fn resume_job(&mut self, key: Key<Job>) {
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        let reply = std::mem::take(&mut job.reply);
        let step = job.task.resume(&reply, &job.context);
        let needed = job.task.has_effects() || self.sessions.get(job.session).is_some();
        // A client that has gone needs no further pages.
        if !needed {
            self.remove_job(key);
            return;
        }
        self.take_step(key, step);
    }

    /// What was under way besides has its whole reply.
    pub(super) fn resume_aside(&mut self, key: Key<Job>) {
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        job.aside_owed = false;
        let reply = std::mem::take(&mut job.aside);
        if reply.first() == Some(&b'-') {
            self.take_step(key, Step::Done(scoped::refusal(&reply)));
        } else if let Some(step) = job.held.take() {
            self.take_step(key, step);
        }
    }

    /// The connection that a question went to is gone, and with it the client's: as if its own
    /// server had closed.
    pub(super) fn fail_job(&mut self, key: Key<Job>) {
        if let Some(job) = self.remove_job(key) {
            self.close_session(job.session);
        }
    }

    fn take_step(&mut self, key: Key<Job>, step: Step) {
        if matches!(step, Step::Done(_) | Step::AskBoth { .. })
            && let Some(job) = self.jobs.get_mut(key)
            && job.aside_owed
        {
            job.held = Some(step);
            return;
        }
        match step {
            Step::AskBoth { aside, request } => {
                let Some(job) = self.jobs.get_mut(key) else {
                    return;
                };
                job.aside_owed = true;
                let store = job.store;
                let lane = self.lane_of_target(Target::Store, store, Protocol::Resp2);
                let Some(upstream) = lane else {
                    self.fail_job(key);
                    return;
                };
                self.send_own(upstream, &aside, Recipient::Aside(key));
                self.want_page(key, request);
            }
            Step::Ask {
                target: Target::Housekeeper,
                request,
            } if is_page(&request) => self.want_page(key, request),
            Step::Done(bytes) => {
                if let Some(mut job) = self.remove_job(key) {
                    if scoped::found_too_many(&bytes) {
                        self.audit(job.session, Reason::Names, "more names than are gathered");
                    }
                    if matches!(job.task, Task::Fill(_)) {
                        self.not_filled(job.session, &bytes);
                    } else {
                        self.finish_job(&job, &bytes);
                    }
                    if let Some(flushing) = job.flushing.take() {
                        self.flushes_over(flushing, bytes == b"+OK\r\n");
                    }
                }
            }
            Step::Keep(changes) => self.keep_settings(key, changes),
            Step::Again => {
                if let Some(job) = self.remove_job(key) {
                    self.open_gate(job.session, Gate::Job);
                }
            }
            Step::Ask { target, request } => {
                let Some(job) = self.jobs.get(key) else {
                    return;
                };
                let plan = job.task.plan();
                let Some(upstream) = self.lane_of_job(key, target) else {
                    self.fail_job(key);
                    return;
                };
                self.send_own(upstream, &request, Recipient::Job(key));
                if let Some(owed) = self
                    .upstreams
                    .get_mut(upstream)
                    .and_then(|upstream| upstream.owed.back_mut())
                {
                    owed.plan = plan;
                }
            }
        }
    }

    /// Asks the control side to keep settings of the job's store; [`Worker::settings_kept`] goes on.
    fn keep_settings(&mut self, key: Key<Job>, changes: Vec<(Setting, i64)>) {
        let Some(job) = self.jobs.get(key) else {
            return;
        };
        let Some(lanes) = lanes::of(&mut self.stores, Some(job.store)) else {
            return;
        };
        let request = super::Request::Settings {
            store: lanes.store.clone(),
            changes,
            worker: self.number,
            job: super::JobTicket(key),
        };
        // The control side ends only with the process.
        let _ = self.control.send(request);
    }

    /// The control side has answered.
    pub(super) fn settings_kept(&mut self, key: Key<Job>, kept: bool) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.reply = if kept {
                b"+OK\r\n".to_vec()
            } else {
                b"-ERR CONFIG SET failed - the agent could not keep the settings; try again\r\n"
                    .to_vec()
            };
            self.resume_job(key);
        }
    }

    /// Asks for a page of the server's names once fewer are under way.
    fn want_page(&mut self, key: Key<Job>, request: Vec<u8>) {
        self.pages_wanted.push_back((key, request));
        self.ask_pages();
    }

    fn ask_pages(&mut self) {
        while self.pages < PAGES_MAX {
            let Some((key, request)) = self.pages_wanted.pop_front() else {
                return;
            };
            let Some(job) = self.jobs.get(key) else {
                continue;
            };
            let (store, protocol) = (job.store, job.context.protocol);
            match self.lane_of_target(Target::Housekeeper, store, protocol) {
                Some(upstream) => {
                    self.pages += 1;
                    self.send_page(upstream, key, request);
                }
                None => self.fail_job(key),
            }
        }
    }

    /// A page has come, or its connection is gone.
    pub(super) fn page_done(&mut self) {
        self.pages = self.pages.saturating_sub(1);
        self.ask_pages();
    }

    fn finish_job(&mut self, job: &Job, bytes: &[u8]) {
        let key = job.session;
        if let Task::Functions(task) = &job.task
            && task.changes()
            && let Some(lanes) = lanes::of(&mut self.stores, Some(job.store))
        {
            lanes.store.scripts.functions_changed();
        }
        let bytes = self.checked(key, bytes);
        if let Some(session) = self.sessions.get_mut(key) {
            let mut latency_us = self.now_us.wrapping_sub(job.since_us);
            session.meter.reply(latency_us);
            if matches!(job.task, Task::ConfigSet(_)) {
                // It has waited for the registry, which is no matter of the store's.
                latency_us = 0;
            }
            if let Some(command) = job.command {
                session.meter.carried_out(command.number, latency_us);
            }
            // Inside MULTI it takes its place in EXEC's reply.
            self.current = job.command;
            self.answer(key, bytes);
            if let Some(session) = self.sessions.get_mut(key) {
                session.gate = Gate::Open;
            }
            self.log_job(job, latency_us, bytes.len());
            self.queue_flush_session(key);
            self.queue_run(key);
        }
    }

    /// The connection for a job's next question.
    fn lane_of_job(&mut self, key: Key<Job>, target: Target) -> Option<Key<Upstream>> {
        let job = self.jobs.get(key)?;
        let (store, protocol, session) = (job.store, job.context.protocol, job.session);
        let runs = matches!(job.task, Task::Run(_)) && target == Target::App;
        let loads = matches!(job.task, Task::Script(_)) && target == Target::Store;
        if runs && self.sessions.get(session).is_some_and(Session::needs_own) {
            // The server tracks what is read on the session's own connection.
            return self.lane(session, true);
        }
        if !(runs || loads) || !self.scripts_break_lines() {
            return self.lane_of_target(target, store, protocol);
        }
        let credentials = lanes::of(&mut self.stores, Some(store))?
            .store
            .credentials
            .clone();
        let protocol = if runs { protocol } else { Protocol::Resp2 };
        self.connect(&credentials, Role::Once, protocol, store)
    }

    /// A job's question on this connection is answered: whether another one may go over it.
    pub(super) fn question_answered(&mut self, key: Key<Upstream>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return;
        };
        match upstream.role {
            Role::Own(_) => upstream.tainted |= upstream.error,
            Role::Librarian if !upstream.error && self.librarians.len() < LIBRARIANS_MAX => {
                self.librarians.push(key);
            }
            Role::Librarian | Role::Once => self.close_upstream(key),
            _ => {}
        }
    }

    /// Replies are read as RESP2, but for the one that goes to the app as it is.
    pub(super) fn lane_of_target(
        &mut self,
        target: Target,
        store: usize,
        protocol: Protocol,
    ) -> Option<Key<Upstream>> {
        match target {
            Target::Store => self.shared_lane(store, Protocol::Resp2),
            Target::App => self.shared_lane(store, protocol),
            Target::Housekeeper => self.housekeeper_of(store),
            Target::Librarian => {
                let places = self.places_of(store);
                let upstreams = &self.upstreams;
                self.librarians.retain(|key| upstreams.get(*key).is_some());
                let leads = |key: &Key<Upstream>| {
                    let upstream = upstreams.get(*key);
                    upstream.is_some_and(|upstream| places.contains(&upstream.address))
                };
                if let Some(place) = self.librarians.iter().position(leads) {
                    return Some(self.librarians.swap_remove(place));
                }
                let credentials = self.environment.librarian.clone();
                self.connect(&credentials, Role::Librarian, Protocol::Resp2, store)
            }
            Target::Sorter => self.sorter_lane(store, protocol),
        }
    }

    /// Where a store is.
    fn places_of(&self, store: usize) -> Arc<Vec<UpstreamAddress>> {
        let lanes = self.stores.get(store).and_then(Option::as_ref);
        lanes.map_or_else(Arc::default, |lanes| {
            self.environment.whereabouts.of(lanes.store.slot)
        })
    }

    /// The housekeeper's connection to the server that has a store.
    pub(super) fn housekeeper_of(&mut self, store: usize) -> Option<Key<Upstream>> {
        let places = self.places_of(store);
        let upstreams = &self.upstreams;
        self.housekeepers
            .retain(|key| upstreams.get(*key).is_some());
        let known = self.housekeepers.iter().find(|key| {
            let upstream = upstreams.get(**key);
            upstream.is_some_and(|upstream| places.contains(&upstream.address))
        });
        if let Some(key) = known {
            return Some(*key);
        }
        let credentials = self.environment.housekeeper.clone();
        let key = self.connect(&credentials, Role::Housekeeper, Protocol::Resp2, store)?;
        self.housekeepers.push(key);
        Some(key)
    }

    /// Sends a request of the agent's own.
    pub(super) fn send_own(&mut self, key: Key<Upstream>, request: &[u8], to: Recipient) {
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.out.tail().extend_from_slice(request);
            upstream.owed.push_back(Owed {
                to,
                plan: ReplyPlan::Verbatim,
                frames: 1,
                muted: matches!(to, Recipient::Greeting),
                blocking: false,
                patterns: false,
                exec: false,
                since_us: self.now_us,
                command: None,
                end: upstream.out.position(),
                noted: None,
                by_name: None,
                turn: 0,
                tried: Tried::default(),
                argc: 0,
            });
            self.queue_flush_upstream(key);
        }
    }
}
