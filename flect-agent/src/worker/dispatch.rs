//! One request: looked up, and sent on, answered, carried out or refused.

use super::Worker;
use super::arena::Key;
use super::forward::Outcome;
use super::scripts;
use super::session::{Gate, Lane, Session};
use super::upstream::Recipient;
use crate::audit::Reason;
use crate::commands::{self, Command, Local, Lookup, Policy, Scoped};
use crate::diagnosis::Arguments;
use crate::resp::Protocol;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::rewrite::ReplyPlan;
use crate::scoped::{Asker, Own, Task, View};
use crate::weakened::{self, Weakness};

impl Worker {
    /// Takes one request as far as it can be taken now.
    pub(super) fn dispatch(&mut self, key: Key<Session>, request: &Request<'_>) -> Outcome {
        let name = request.arg(0);
        let command = match commands::lookup(name, request.get(1)) {
            Lookup::Known(command) => command,
            Lookup::UnknownCommand if commands::is_cross_protocol(name) => {
                // A browser was made to talk to Valkey: no reply, as in `processCommand`.
                tracing::warn!("a client speaks HTTP; disconnected");
                self.close_session(key);
                return Outcome::Taken;
            }
            Lookup::UnknownCommand => {
                self.refuse(key, &commands::unknown_command_error(request.args()));
                return Outcome::Taken;
            }
            Lookup::UnknownSubcommand(_) => {
                let error = commands::unknown_subcommand_error(name, request.arg(1));
                self.refuse(key, &error);
                return Outcome::Taken;
            }
            Lookup::MissingSubcommand(command)
                if command.since > self.environment.facts.release =>
            {
                self.refuse(key, &commands::unknown_command_error(request.args()));
                return Outcome::Taken;
            }
            Lookup::MissingSubcommand(command) => {
                self.refuse(key, &commands::arity_error(command));
                return Outcome::Taken;
            }
        };
        if command.since > self.environment.facts.release {
            // This server is older than the command.
            let known = matches!(
                commands::lookup(name, None),
                Lookup::Known(container) | Lookup::MissingSubcommand(container)
                    if container.since <= self.environment.facts.release
            );
            let error = if known && command.name.contains('|') {
                commands::unknown_subcommand_error(name, request.arg(1))
            } else {
                commands::unknown_command_error(request.args())
            };
            self.refuse(key, &error);
            return Outcome::Taken;
        }
        self.current = Some(command);
        if self.monitors_may_not(key, command) && command.accepts(request.argc()) {
            self.refuse_monitor(key);
            return Outcome::Taken;
        }
        let policy = match commands::policy(command, request) {
            Policy::Operator(_) if weakened::has(Weakness::Operator) => Policy::Rewrite,
            Policy::Scoped(_) | Policy::Local(_) if weakened::has(Weakness::Scoped) => {
                Policy::Rewrite
            }
            policy => policy,
        };
        if policy == Policy::Rewrite {
            // What the agent does something about before the server could refuse it.
            if (scripts::concerns(command) || matches!(command.name, "multi" | "client|tracking"))
                && command.accepts(request.argc())
                && let Some(outcome) = self.held_as_subscriber(key, command)
            {
                return outcome;
            }
            if let Some(outcome) = self.script(key, command, request) {
                return outcome;
            }
            if command.name == "client|tracking" && command.accepts(request.argc()) {
                return self.track(key, command, request);
            }
            return self.forward(key, command, request);
        }
        if !command.accepts(request.argc()) {
            self.refuse(key, &commands::arity_error(command));
            return Outcome::Taken;
        }
        if let Some(outcome) = self.held_as_subscriber(key, command) {
            return outcome;
        }
        match policy {
            Policy::Operator(why) => {
                self.note_refused(key);
                self.audit(key, Reason::OperatorCommand, command.name);
                self.refuse(key, &commands::refusal(command, why));
                Outcome::Taken
            }
            Policy::Local(local) => self.local(key, local, request),
            Policy::Scoped(scoped) => self.scoped(key, command, scoped, request),
            Policy::Rewrite => Outcome::Taken,
        }
    }

    /// In RESP2 a subscriber's connection carries messages, so other commands are refused
    /// (`processCommand` in server.c). What is sent on, the server refuses itself.
    pub(super) fn subscribers_may_not(
        &self,
        key: Key<Session>,
        command: &Command,
    ) -> Option<Vec<u8>> {
        let session = self.sessions.get(key)?;
        let allowed = match command.policy {
            Policy::Local(Local::Quit | Local::Reset) => true,
            // It was allowed when it came.
            Policy::Local(Local::Hello) => session.switched,
            _ => false,
        };
        if !session.subscribed.any() || session.protocol == Protocol::Resp3 || allowed {
            return None;
        }
        Some(
            format!(
                "-ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
                command.name
            )
            .into_bytes(),
        )
    }

    /// What becomes of a request that a subscriber may not make, or may not make yet.
    fn held_as_subscriber(&mut self, key: Key<Session>, command: &Command) -> Option<Outcome> {
        if self.confirmation_is_due(key) {
            return Some(Outcome::Later);
        }
        let error = self.subscribers_may_not(key, command)?;
        self.refuse(key, &error);
        Some(Outcome::Taken)
    }

    /// In RESP2, whether a client may say other things depends on its subscriptions: the session waits until
    /// those under way are confirmed.
    fn confirmation_is_due(&mut self, key: Key<Session>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Lane::Own(upstream) = session.lane else {
            return false;
        };
        if session.protocol == Protocol::Resp3 || session.is_idle() {
            return false;
        }
        let upstream = self.upstreams.get(upstream);
        let due = upstream.is_some_and(|upstream| {
            let mut owed = upstream.owed.iter();
            owed.any(|owed| owed.plan == ReplyPlan::Pubsub)
        });
        if due {
            session.gate = Gate::Idle;
        }
        due
    }

    /// Whether the session is owed nothing; otherwise its gate closes until then.
    pub(super) fn idle_or_wait(&mut self, key: Key<Session>) -> bool {
        match self.sessions.get_mut(key) {
            Some(session) if session.is_idle() => true,
            Some(session) => {
                session.gate = Gate::Idle;
                false
            }
            None => false,
        }
    }

    /// A store-wide command: a task of the agent's, once everything before it has taken effect.
    fn scoped(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        scoped: Scoped,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        if session.transaction.is_some()
            && let Some(outcome) = self.queue_wide(key, command, scoped, request)
        {
            return outcome;
        }
        if !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        if scoped == Scoped::SwapDb {
            return self.swap_databases(key, request);
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let asker = Asker {
            prefix: &session.store.prefix,
            namespace: &session.namespace,
            database: session.database,
            databases: self.environment.facts.databases,
            own: &|| {
                let states = self.environment.directory.states(session.store.number);
                Own::of(&session.store, states, session.entry.asked.port())
                    .with_modules(&self.environment.facts.modules)
            },
            scripts_run: matches!(scoped, Scoped::Function | Scoped::ScriptKill)
                && self
                    .environment
                    .directory
                    .may_run_scripts(session.store.number),
            patterns: &|| session.store.patterns.distinct(),
            view: &|| {
                let databases = self.environment.facts.databases;
                View::of(&session.store, session.entry.asked.port(), databases)
            },
        };
        match Task::for_request(scoped, request, &asker) {
            Ok(_) if !self.turn_or_wait(key) => return Outcome::Later,
            Ok(task) => {
                if command.name == "sort_ro" {
                    self.track_sorted(key, request);
                }
                self.noted = Some(Arguments::of(request));
                self.begin_job(key, task);
            }
            Err(reply) => self.answer(key, &reply),
        }
        Outcome::Taken
    }

    /// SORT_RO with patterns runs on another connection than the one on which the server tracks what the
    /// session reads: a command there that reads the same key has it tracked (`trackingRememberKeys` in
    /// tracking.c takes the key that is sorted, and none of what patterns name).
    fn track_sorted(&mut self, key: Key<Session>, request: &Request<'_>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if !session.tracking.on {
            return;
        }
        let name = [session.namespace.keys(), request.arg(1)].concat();
        let mut read = Vec::new();
        encode::request(&[b"TYPE".as_slice(), &name], &mut read);
        if let Some(upstream) = self.lane(key, true) {
            self.send_own(upstream, &read, Recipient::Greeting);
        }
    }
}
