//! What becomes of a reply that holds a name which is not the app's to see.
//!
//! Invariant: it reaches no client, and the account of replies stays as it is: a reply that is still
//! wholly in hand is exchanged for one error, one of which the client has the beginning ends the client's
//! connection, a message that nobody asked for is left out.

use std::time::Duration;

use super::Worker;
use super::arena::Key;
use super::audit;
use super::session::Session;
use crate::audit::Reason;
use crate::integrity::Verdict;

/// What the client gets instead.
pub(super) const WITHHELD: &[u8] =
    b"-ERR the agent withheld the reply: it held a name that is not the app's to see; tell the operator\r\n";

/// A rule that leaks does so with every request: the log tells it once in so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// When the log was last written to, and what has happened since.
#[derive(Debug, Default)]
pub struct Log {
    last: Option<Duration>,
    untold: u64,
}

impl Worker {
    /// Counts what was found and tells it, without a byte of the reply.
    #[cold]
    pub(super) fn violated(&mut self, key: Key<Session>, verdict: Verdict, kind: &'static str) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.meter.violations.add(1);
        audit::note(&session.app, &session.store, Reason::Integrity, kind);
        let log = &mut self.integrity_log;
        log.untold += 1;
        if log.last.is_none_or(|last| self.now - last >= LOG_EVERY) {
            tracing::error!(
                store = %session.store.slug(),
                kind,
                withheld = log.untold,
                "integrity: what would have left for an app held a name of the server's own"
            );
            log.last = Some(self.now);
            log.untold = 0;
        }
        if verdict == Verdict::Partly {
            self.close_session(key);
        }
    }

    /// The reply of a task of the agent's own, or what stands for it. Tasks ask with rights that the
    /// store's user has not, so other stores' names are looked for as well.
    pub(super) fn checked<'a>(&mut self, key: Key<Session>, bytes: &'a [u8]) -> &'a [u8] {
        let integrity = &self.environment.integrity;
        let Some(session) = self.sessions.get(key) else {
            return bytes;
        };
        let hidden = integrity.is_enabled()
            && (session.store.own_names.are_in(bytes)
                || integrity.foreign_in(bytes)
                || bytes.starts_with(b"-") && integrity.in_error(bytes));
        if !hidden {
            return bytes;
        }
        self.violated(key, Verdict::Whole, "task");
        WITHHELD
    }
}
