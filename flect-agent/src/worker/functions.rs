//! Before a function or a script runs: whether the agent walks for names first.
//!
//! Which functions ask for names stands on the server, behind their descriptions. Another node's change is
//! noticed within a second of use; until then a function that is not known to ask is refused its names.

use std::time::Instant;

use super::Worker;
use super::arena::Key;
use super::forward::Outcome;
use super::session::Session;
use crate::resp::request::Request;
use crate::rewrite::ReplyPlan;
use crate::scoped::{Functions, Task};
use crate::scripts::{Asks, Sha, Walks, is_about_all_keys};

impl Worker {
    /// Before a function is called: whether it must be asked first which of them ask for names.
    pub(super) fn look_at_functions(&mut self, key: Key<Session>) -> Option<Outcome> {
        let databases = self.environment.facts.databases;
        let session = self.sessions.get_mut(key)?;
        let scripts = session.store.scripts.clone();
        let prefix = session.store.prefix.clone();
        // No script is called so.
        let asked = session.sought.take() == Some(Sha::NONE);
        if asked || !scripts.functions_are_due(Instant::now()) {
            return None;
        }
        if !self.idle_or_wait(key) || !self.turn_or_wait(key) {
            scripts.functions_changed();
            return Some(Outcome::Later);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.sought = Some(Sha::NONE);
        }
        let learn = Functions::learn(scripts, &prefix, databases);
        self.begin_job(key, Task::Functions(Box::new(learn)));
        Some(Outcome::Later)
    }

    /// Whether a script needs names that the agent walks for, and whether all of them beforehand.
    pub(super) fn walks(
        &self,
        key: Key<Session>,
        request: &Request<'_>,
        plan: &ReplyPlan,
    ) -> (bool, bool) {
        let Some(session) = self.sessions.get(key) else {
            return (false, false);
        };
        let scripts = &session.store.scripts;
        // A script may be told the command's name.
        let told = || request.args().skip(3).any(is_about_all_keys);
        if request
            .arg(0)
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case(&b'f'))
        {
            return match scripts.function_asks(request.arg(1)) {
                None => (false, false),
                Some(Asks::Told) => (told(), true),
                Some(Asks::Beforehand) => (true, true),
                Some(Asks::First | Asks::Careful) => (true, false),
            };
        }
        let walks = match plan {
            ReplyPlan::Script(names) => scripts.walks(names.app),
            _ => Walks::No,
        };
        let everything = walks == Walks::Beforehand || walks == Walks::No && told();
        (everything || walks == Walks::OnDemand, everything)
    }
}
