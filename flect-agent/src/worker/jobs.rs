//! Store-wide commands on their way: each step of a [`Task`] is a request on one of the agent's own
//! connections, and the session waits until the task is done.

use super::Worker;
use super::arena::Key;
use super::lanes;
use super::session::{Gate, Session};
use super::upstream::{Owed, Recipient, Role, Upstream};
use crate::commands::Command;
use crate::diagnosis::Arguments;
use crate::environment::Setting;
use crate::resp::Protocol;
use crate::rewrite::reply::ReplyPlan;
use crate::scoped::{Context, Step, Target, Task};

/// A task under way for a session.
pub struct Job {
    pub session: Key<Session>,
    pub store: usize,
    pub task: Task,
    pub context: Context,
    /// When the request was taken, by the worker's clock.
    pub since_us: u32,
    /// What it is and how the app asked for it, for the store's logs.
    pub command: Option<&'static Command>,
    pub noted: Option<Arguments>,
    /// The reply to the current question, as far as it has come.
    pub reply: Vec<u8>,
}

/// Store-wide commands of one store at once in a worker: each may hold the names it has seen, and
/// each asks the server for one page after the other.
const JOBS_MAX: usize = 4;

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
        let context = Context {
            prefix: session.store.prefix.clone(),
            namespace: session.namespace.clone(),
            protocol: session.protocol,
        };
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
            since_us: self.now_us,
            command: self.current,
            noted: self.noted.take(),
            reply: Vec::new(),
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
        // A client that has gone needs no further pages.
        if self.sessions.get(job.session).is_none() {
            self.remove_job(key);
            return;
        }
        self.take_step(key, step);
    }

    /// The connection that a question went to is gone, and with it the client's: as if its own
    /// server had closed.
    pub(super) fn fail_job(&mut self, key: Key<Job>) {
        if let Some(job) = self.remove_job(key) {
            self.close_session(job.session);
        }
    }

    fn take_step(&mut self, key: Key<Job>, step: Step) {
        match step {
            Step::Done(bytes) => {
                if let Some(job) = self.remove_job(key) {
                    self.finish_job(&job, &bytes);
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
                let (store, protocol) = (job.store, job.context.protocol);
                let plan = job.task.plan();
                let Some(upstream) = self.lane_of_target(target, store, protocol) else {
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

    fn finish_job(&mut self, job: &Job, bytes: &[u8]) {
        let key = job.session;
        if let Some(session) = self.sessions.get_mut(key) {
            let latency_us = self.now_us.wrapping_sub(job.since_us);
            session.meter.reply(latency_us);
            if let Some(command) = job.command {
                session.meter.carried_out(command.number, latency_us);
            }
            session.gate = Gate::Open;
            session.answer(bytes, job.command.map(|command| command.number));
            self.log_job(job, latency_us, bytes.len());
            self.queue_flush_session(key);
            self.queue_run(key);
        }
    }

    /// Replies are read as RESP2, but for the one that goes to the app as it is.
    fn lane_of_target(
        &mut self,
        target: Target,
        store: usize,
        protocol: Protocol,
    ) -> Option<Key<Upstream>> {
        match target {
            Target::Store => self.shared_lane(store, Protocol::Resp2),
            Target::App => self.shared_lane(store, protocol),
            Target::Housekeeper => {
                if let Some(key) = self.housekeeper
                    && self.upstreams.get(key).is_some()
                {
                    return Some(key);
                }
                let credentials = self.environment.housekeeper.clone();
                let key = self.connect(&credentials, Role::Housekeeper, Protocol::Resp2, None)?;
                self.housekeeper = Some(key);
                Some(key)
            }
            Target::Sorter => self.sorter_lane(store, protocol),
        }
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
                since_us: self.now_us,
                command: None,
                end: upstream.out.position(),
                noted: None,
            });
            self.queue_flush_upstream(key);
        }
    }
}
