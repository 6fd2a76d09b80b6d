//! CLIENT PAUSE: the store's sessions wait, and no other store's.
//!
//! A request waits where `processCommand` makes it wait (server.c): after it was found to be a command with
//! the right number of arguments, and before anything is done about it, in MULTI too.

use std::time::Duration;

use super::Worker;
use super::arena::Key;
use super::session::{Gate, Session};
use super::{Between, EPOCH, Message};
use crate::commands::{self, Command, Flags, Lookup};
use crate::resp::request::Request;
use crate::resp::{encode, number};
use crate::rewrite::words::is;
use crate::scripts::Declared;

/// The longest pause: what Valkey can add to its clock of milliseconds since 1970. Anything longer than a
/// century is forever all the same.
const PAUSE_MS_MAX: i64 = i64::MAX - 10_000_000_000_000;

impl Worker {
    /// CLIENT PAUSE timeout \[WRITE|ALL\].
    pub(super) fn client_pause(&self, key: Key<Session>, request: &Request<'_>) -> Vec<u8> {
        let Some(session) = self.sessions.get(key) else {
            return Vec::new();
        };
        let mut reply = Vec::new();
        match read(request) {
            Ok((length, all)) => {
                // Read anew: the pause begins now, not with the turn.
                let now = EPOCH.elapsed();
                session.store.pause.extend(now, now + length, all);
                encode::ok(&mut reply);
            }
            Err(text) => encode::error(text, &mut reply),
        }
        reply
    }

    /// CLIENT UNPAUSE: whoever waits goes on, in whichever worker.
    pub(super) fn client_unpause(&self, key: Key<Session>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        session.store.pause.end();
        for entry in self.environment.directory.of_store(session.store.number) {
            entry.mailbox.send(Message::Clients(Between::Unpaused));
        }
    }

    /// Whether the request in front must wait for the end of its store's pause.
    #[cold]
    pub(super) fn held_back(&mut self, key: Key<Session>, request: &Request<'_>) -> bool {
        match commands::lookup(request.arg(0), request.get(1)) {
            Lookup::Known(command) if command.accepts(request.argc()) => {
                self.must_wait(key, command, request.get(1).unwrap_or_default())
            }
            // What makes no sense is refused at once.
            _ => false,
        }
    }

    /// The same of a command whose first argument is `script` if it runs one.
    pub(super) fn must_wait(
        &mut self,
        key: Key<Session>,
        command: &Command,
        script: &[u8],
    ) -> bool {
        if command.name == "fcall" && self.look_at_functions(key).is_some() {
            // What it declares is being asked for.
            return true;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some((rest, all)) = session.store.pause.remaining(EPOCH.elapsed()) else {
            return false;
        };
        let transaction = session.transaction.as_ref();
        let writes = replicates(command, session.declared(command, script))
            || command.name == "exec" && transaction.is_some_and(|queued| queued.writes);
        // Valkey takes who monitors for a replica, and those do not wait.
        if session.monitoring || !all && !writes {
            return false;
        }
        session.gate = Gate::Pause;
        session.doing.last_command = Some(command.number);
        self.held.push(key);
        self.wake_within(rest);
        true
    }

    fn wake_within(&mut self, rest: Duration) {
        self.pace = Some(self.pace.map_or(rest, |wait| wait.min(rest)));
    }

    /// Lets those go whose store's pause is over, and sees to it that the loop wakes for the others.
    pub(super) fn release_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = EPOCH.elapsed();
        for key in std::mem::take(&mut self.held) {
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            match session.store.pause.remaining(now) {
                _ if session.gate != Gate::Pause => {}
                Some((rest, _)) => {
                    self.held.push(key);
                    self.wake_within(rest);
                }
                None => self.open_gate(key, Gate::Pause),
            }
        }
    }
}

/// Whether a command may change something that replicas must be told (`is_may_replicate_command` in
/// server.c). COMMAND does not tell which commands have that flag without being writes.
pub(super) fn replicates(command: &Command, declared: Declared) -> bool {
    match command.name {
        "eval" | "evalsha" | "fcall" => !declared.no_writes,
        "publish" | "spublish" | "pfcount" => true,
        _ => command.flags.has(Flags::WRITE),
    }
}

/// How long, and whether everything waits (`clientCommand` and `getTimeoutFromObjectOrReply`).
fn read(request: &Request<'_>) -> Result<(Duration, bool), &'static str> {
    let all = match request.get(3) {
        None => true,
        Some(mode) if is(mode, b"all") => true,
        Some(mode) if is(mode, b"write") => false,
        Some(_) => return Err("ERR CLIENT PAUSE mode must be WRITE or ALL"),
    };
    let length_ms =
        number::parse(request.arg(2)).ok_or("ERR timeout is not an integer or out of range")?;
    if length_ms > PAUSE_MS_MAX {
        return Err("ERR timeout is out of range");
    }
    let length_ms = u64::try_from(length_ms).map_err(|_| "ERR timeout is negative")?;
    // A clock that has run for centuries could not be added to.
    Ok((Duration::from_millis(length_ms), all))
}
