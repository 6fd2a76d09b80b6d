//! A store that holds more than it may: commands that need memory are refused, as Valkey refuses them at
//! `maxmemory` with `noeviction` (`processCommand` in server.c).
//!
//! Scripts are judged whole: Valkey refuses the single commands of a script that declares no flags, but
//! it knows nothing of one store's limit, so such a script is refused before it begins.

use super::Worker;
use super::arena::Key;
use super::session::Session;
use crate::audit::Reason;
use crate::commands::{self, Command, Flags, Lookup};
use crate::resp::request::Request;
use crate::scripts::Declared;

/// `shared.oomerr` in server.c.
const OUT_OF_MEMORY: &[u8] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// `execCommandAbort` in multi.c, as `rejectCommand` calls it.
const EXEC_ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.\r\n";

impl Worker {
    /// Refuses a request of a store that is full; `false` when it may pass.
    #[cold]
    pub(super) fn when_full(&mut self, key: Key<Session>, request: &Request<'_>) -> bool {
        let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
            return false;
        };
        let Some(session) = self.sessions.get(key) else {
            return false;
        };
        if !command.accepts(request.argc()) {
            return false;
        }
        let transaction = session.transaction.as_ref();
        let aborts =
            command.name == "exec" && transaction.is_some_and(|queued| queued.needs_memory);
        let refusal = self.memory_refusal(key, command, request.get(1).unwrap_or_default());
        if !aborts && refusal.is_none() {
            return false;
        }
        self.current = Some(command);
        self.note_refused(key);
        self.audit(key, Reason::Memory, command.name);
        match refusal {
            Some(error) => self.refuse(key, error),
            None => self.abort(key, EXEC_ABORTED),
        }
        true
    }

    /// Why a command may not run now that the store is full; `script` is its first argument.
    pub(super) fn memory_refusal(
        &self,
        key: Key<Session>,
        command: &Command,
        script: &[u8],
    ) -> Option<&'static [u8]> {
        let session = self.sessions.get(key)?;
        if !session.store.limits.memory_exceeded() {
            return None;
        }
        let refused =
            needs_memory(command) || may_write(command, session.declared(command, script));
        refused.then_some(OUT_OF_MEMORY)
    }
}

/// Whether a command may make the store larger.
pub(super) fn needs_memory(command: &Command) -> bool {
    command.flags.has(Flags::DENYOOM)
}

/// Whether a script may make the store larger, as far as it can be told; `false` for what is no script.
fn may_write(command: &Command, declared: Declared) -> bool {
    matches!(command.name, "eval" | "evalsha" | "fcall") && !declared.needs_no_memory()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_pass_that_say_they_need_no_memory() {
        let check = |name: &str, declared, writes| {
            let Lookup::Known(command) = commands::lookup(name.as_bytes(), None) else {
                panic!("{name}");
            };
            assert_eq!(may_write(command, declared), writes, "{name}");
        };
        let harmless = Declared::of_script(b"#!lua flags=no-writes");
        for script in ["eval", "EVALSHA", "fcall"] {
            check(script, Declared::default(), true);
            check(script, harmless, false);
        }
        for pass in ["eval_ro", "evalsha_ro", "fcall_ro", "get"] {
            check(pass, Declared::default(), false);
        }
    }

    #[test]
    fn commands_need_memory_as_the_server_says() {
        for (name, needs) in [
            ("set", true),
            ("lpush", true),
            ("get", false),
            ("del", false),
        ] {
            let Lookup::Known(command) = commands::lookup(name.as_bytes(), None) else {
                panic!("{name}");
            };
            assert_eq!(needs_memory(command), needs, "{name}");
        }
    }
}
