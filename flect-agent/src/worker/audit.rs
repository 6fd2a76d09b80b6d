//! What the audit log is told of sessions: their app and store, and which command or limit it was.
//!
//! Invariant: what is told is of the agent's own words; nothing that a client sent is repeated.

use super::Worker;
use super::arena::Key;
use super::session::Session;
use crate::audit::{self, Reason, Subject};
use crate::environment::{App, Store};

impl Worker {
    /// Something that a session did.
    #[cold]
    pub(super) fn audit(&self, key: Key<Session>, reason: Reason, detail: &str) {
        if let Some(session) = self.sessions.get(key) {
            note(&session.app, &session.store, reason, detail);
        }
    }
}

/// Something that an app did with a store.
#[cold]
pub(super) fn note(app: &App, store: &Store, reason: Reason, detail: &str) {
    store.refusals.add(reason);
    let slug = store.slug();
    let subject = Subject {
        app: Some(&app.name),
        store: Some(slug.as_str()),
        cgroup: None,
    };
    audit::note(reason, subject, || detail.to_owned());
}
