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
        let refused = needs_memory(command) || may_write(command, script);
        refused.then_some(OUT_OF_MEMORY)
    }
}

/// Whether a command may make the store larger.
pub(super) fn needs_memory(command: &Command) -> bool {
    command.flags.has(Flags::DENYOOM)
}

/// Whether a script may make the store larger, as far as it can be told (`scriptFlagsToCmdFlags` in
/// script.c); `false` for what is no script.
fn may_write(command: &Command, script: &[u8]) -> bool {
    let harmless = |flag: &[u8]| flag == b"no-writes" || flag == b"allow-oom";
    match command.name {
        "evalsha" | "fcall" => true,
        "eval" => !script_flags(script).any(harmless),
        _ => false,
    }
}

/// The flags in a script's first line: `#!lua flags=no-writes,allow-oom`.
pub(super) fn script_flags(script: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = script
        .split(|byte| *byte == b'\n')
        .next()
        .filter(|line| line.starts_with(b"#!"))
        .unwrap_or_default();
    line.split(u8::is_ascii_whitespace)
        .filter_map(|word| word.strip_prefix(b"flags="))
        .flat_map(|flags| flags.split(|byte| *byte == b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], writes: bool) {
        let Lookup::Known(command) = commands::lookup(words[0].as_bytes(), None) else {
            panic!("{words:?}");
        };
        assert_eq!(may_write(command, words[1].as_bytes()), writes, "{words:?}");
    }

    #[test]
    fn scripts_pass_that_say_they_need_no_memory() {
        check(&["eval", "return 1"], true);
        check(&["EVALSHA", "0123"], true);
        check(&["eval", "#!lua\nreturn 1"], true);
        check(&["eval", "#!lua flags=no-cluster\nflags=no-writes"], true);
        check(
            &["eval", "#!lua flags=no-cluster,no-writes\nreturn 1"],
            false,
        );
        check(&["eval", "#!lua name=x flags=allow-oom"], false);
        for pass in ["eval_ro", "evalsha_ro", "get"] {
            check(&[pass, "x"], false);
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
