//! Scripts on their way: the app's text goes to the server with the shim in front, by the name that the
//! server knows it by; the app goes on with the names of its own texts.
//!
//! A request by name is sent by name, so NOSCRIPT comes when the server has lost the script, as on a
//! server of the app's own. A request with its text is sent with its text, in a transaction too; by name only
//! where nobody can tell.

mod by_name;
mod cached;

use std::time::Instant;

pub(crate) use by_name::ByName;

use super::Worker;
use super::arena::Key;
use super::forward::Outcome;
use super::session::{INPUT_BYTES_MAX, LIBRARIES_INPUT_BYTES_MAX, SCRIPT_INPUT_BYTES_MAX, Session};
use super::upstream::Upstream;
use super::wide;
use crate::commands::{self, Command, Version};
use crate::resp::request::Request;
use crate::resp::{encode, number};
use crate::rewrite::words::is;
use crate::rewrite::{ReplyPlan, ScriptNames, StreamRewriter};
use crate::scoped::{MENTIONED_BYTES_MAX, Run, Script, Task};
use crate::scripts::{FunctionNames, Known, Sha, Walks};

const NO_SCRIPT: &[u8] = b"-NOSCRIPT No matching script.\r\n";

const NO_DEBUGGER: &[u8] = b"-NOPERM SCRIPT DEBUG is not available in a store: a script that is debugged stops or copies the whole server; ask the operator of this Valkey\r\n";

const TOO_LONG: &[u8] =
    b"-ERR the script is too long for a store: the agent takes at most 1 MiB\r\n";

const TOO_LONG_TO_WALK: &[u8] =
    b"-ERR the request is too long for a script that asks for all keys: the agent takes at most 1 MiB\r\n";

const TOO_MANY_LOADED: &[u8] =
    b"-OOM the store has loaded too many scripts, all of which the server keeps: send those that change with EVAL\r\n";

const LIBRARIES_TOO_LONG: &[u8] =
    b"-ERR the libraries are too long for a store: the agent takes at most 2 MiB at once\r\n";

/// The first version whose errors of scripts are one line each.
const LINES_WHOLE_SINCE: Version = Version { major: 8, minor: 1 };

/// What stands in a request in the place of the app's text or name.
pub(super) struct Replacement {
    /// The server's text or name.
    pub bytes: Vec<u8>,
    /// How its reply must be read.
    pub plan: ReplyPlan,
}

/// Why a request is not streamed.
pub(super) enum Unready {
    /// It has to wait: for more of it, or for a connection.
    Later,
    /// It is swallowed, and this is the answer.
    Refused(&'static [u8]),
}

/// Which script commands there are that are sent on.
enum Kind {
    Text,
    Name,
    Load,
    Exists,
    /// FCALL.
    Function,
}

fn kind(command: &Command) -> Option<Kind> {
    match command.name {
        "eval" | "eval_ro" => Some(Kind::Text),
        "evalsha" | "evalsha_ro" => Some(Kind::Name),
        "script|load" => Some(Kind::Load),
        "script|exists" => Some(Kind::Exists),
        "fcall" | "fcall_ro" => Some(Kind::Function),
        _ => None,
    }
}

/// Whether a request of this command must be there as a whole, or in its beginning, before it is sent on.
pub(super) fn concerns(command: &Command) -> bool {
    kind(command).is_some() || brings_library(command)
}

/// Whether a request must be there as a whole, since it brings libraries of functions.
fn brings_library(command: &Command) -> bool {
    matches!(command.name, "function|load" | "function|restore")
}

fn runs(command: &Command) -> bool {
    matches!(
        kind(command),
        Some(Kind::Text | Kind::Name | Kind::Function)
    )
}

/// Whether the command with this number runs scripts, or what has been queued.
pub(super) fn may_run(number: u16) -> bool {
    let command = commands::all().get(usize::from(number));
    command.is_some_and(|command| runs(command) || command.name == "exec")
}

impl Worker {
    /// Takes a request that has to do with scripts; `None` when it has not, or when it is too short.
    pub(super) fn script(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Option<Outcome> {
        let kind = kind(command)?;
        if !command.accepts(request.argc()) {
            return None;
        }
        if matches!(kind, Kind::Text | Kind::Name)
            && let Some(error) = misfit(&kind, request)
        {
            self.answer(key, error);
            return Some(Outcome::Taken);
        }
        if matches!(kind, Kind::Text)
            && let Some(outcome) = self.run_by_name(key, command, request)
        {
            return Some(outcome);
        }
        match kind {
            Kind::Text | Kind::Name | Kind::Function => {
                let script = match self.replacement(key, command, request.arg(1)) {
                    Some(Ok(script)) => script,
                    Some(Err(outcome)) => return Some(outcome),
                    None => return Some(Outcome::Taken),
                };
                Some(self.run_script(key, command, request, script))
            }
            Kind::Load => Some(self.script_load(key, command, request)),
            Kind::Exists => Some(self.script_exists(key, command, request)),
        }
    }

    /// What to send in the place of an EVAL's text or an EVALSHA's name.
    pub(super) fn replacement(
        &mut self,
        key: Key<Session>,
        command: &Command,
        script: &[u8],
    ) -> Option<Result<Replacement, Outcome>> {
        if matches!(kind(command), Some(Kind::Text)) {
            let known = self.prepare(key, script)?;
            return Some(Ok(Replacement {
                bytes: known.server_text().to_vec(),
                plan: plan(known.app, known.server),
            }));
        }
        if matches!(kind(command), Some(Kind::Function)) {
            if let Some(later) = self.look_at_functions(key) {
                return Some(Err(later));
            }
            let prefix = &self.sessions.get(key)?.store.prefix;
            return Some(Ok(Replacement {
                bytes: FunctionNames::of(prefix).of_server(script),
                plan: ReplyPlan::Verbatim,
            }));
        }
        let Some(app) = Sha::parse(script) else {
            return Some(Ok(unknown()));
        };
        let session = self.sessions.get_mut(key)?;
        let scripts = session.store.scripts.clone();
        let sought = session.sought.take() == Some(app);
        let queued = session.transaction.as_ref();
        let found = scripts.find(app).or_else(|| queued?.brings(app));
        let ask = !sought && (found.is_none() || scripts.is_due(Instant::now()));
        if ask {
            if !self.idle_or_wait(key) || !self.turn_or_wait(key) {
                scripts.ask_again();
                return Some(Err(Outcome::Later));
            }
            let session = self.sessions.get_mut(key)?;
            session.sought = Some(app);
            self.begin_job(key, Task::Script(Script::find(scripts, app)));
            return Some(Err(Outcome::Later));
        }
        Some(Ok(match found {
            Some(server) => Replacement {
                bytes: server.as_bytes().to_vec(),
                plan: plan(app, server),
            },
            None => unknown(),
        }))
    }

    /// A script's request that does not fit the buffer: streamed once its text or name and the number of
    /// its keys are there. `Err` when it cannot be yet, or at all.
    pub(super) fn begin_script_stream(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        bytes: &[u8],
    ) -> Result<(StreamRewriter, Key<Upstream>), Unready> {
        let session = self.sessions.get_mut(key).ok_or(Unready::Later)?;
        if brings_library(command) {
            if session.input_bytes_max == LIBRARIES_INPUT_BYTES_MAX {
                return Err(Unready::Refused(LIBRARIES_TOO_LONG));
            }
            session.input_bytes_max = LIBRARIES_INPUT_BYTES_MAX;
            return Err(Unready::Later);
        }
        let head = session.scanner.head(bytes).ok_or(Unready::Later)?;
        let argc = head.argc;
        let (Some(script), Some(keys)) = (head.arg(1), head.arg(2)) else {
            let fits = head
                .next_bytes
                .is_none_or(|bytes| bytes <= SCRIPT_INPUT_BYTES_MAX - INPUT_BYTES_MAX);
            if !fits || session.input_bytes_max == SCRIPT_INPUT_BYTES_MAX {
                return Err(Unready::Refused(TOO_LONG));
            }
            session.input_bytes_max = SCRIPT_INPUT_BYTES_MAX;
            return Err(Unready::Later);
        };
        let script = script.to_vec();
        let function = command.name.starts_with('f');
        let mut last = takes_keys(keys, argc).then(|| session.namespace.keys().to_vec());
        let mut rewriter = StreamRewriter::begin(command, argc);
        if runs(command) {
            let replacement = match self.replacement(key, command, &script) {
                Some(Ok(replacement)) => replacement,
                Some(Err(_)) | None => return Err(Unready::Later),
            };
            let session = self.sessions.get_mut(key).ok_or(Unready::Later)?;
            if session.may_walk(function, &script, &replacement.plan) {
                // Which names it needs can be told once all of its arguments are there.
                if session.input_bytes_max == SCRIPT_INPUT_BYTES_MAX {
                    return Err(Unready::Refused(TOO_LONG_TO_WALK));
                }
                session.input_bytes_max = SCRIPT_INPUT_BYTES_MAX;
                return Err(Unready::Later);
            }
            if let (Some(transaction), Some(last)) = (&mut session.transaction, &mut last) {
                let place = wide::place_of_script(transaction, &session.store.prefix, false);
                last.extend(place);
            }
            rewriter = StreamRewriter::begin_script(
                command,
                argc,
                replacement.bytes,
                last,
                replacement.plan,
            );
            if self.in_transaction(key) {
                rewriter.note_keys(MENTIONED_BYTES_MAX);
            }
        }
        let upstream = self.lane(key, true).ok_or(Unready::Later)?;
        Ok((rewriter, upstream))
    }

    /// The request that brought a script's text is over.
    pub(super) fn gather_less(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.input_bytes_max = INPUT_BYTES_MAX;
        }
    }

    pub(super) fn prepare(&self, key: Key<Session>, text: &[u8]) -> Option<Known> {
        let databases = self.environment.facts.databases;
        let session = self.sessions.get(key)?;
        let (store, queued) = (&session.store, session.transaction.is_some());
        let scripts = &store.scripts;
        Some(scripts.prepare(text, &store.prefix, databases, queued))
    }

    /// Sends a script with its keys, and behind the app's arguments the prefix of its database.
    fn run_script(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        request: &Request<'_>,
        script: Replacement,
    ) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let (walks, everything) = self.walks(key, request, &script.plan);
        if let Some(keys) = keys_of(request)
            && session.transaction.is_none()
            && walks
        {
            let prefix = session.namespace.keys();
            let words = request.args().enumerate().map(|(index, arg)| match index {
                1 => script.bytes.clone(),
                3.. if index < keys + 3 => [prefix, arg].concat(),
                _ => arg.to_vec(),
            });
            let whole = &session.store.prefix;
            let run = Run::new(words.collect(), &script.plan, everything, whole);
            return self.script_job(key, Task::Run(Box::new(run)));
        }
        let own = session.needs_own()
            || session.heavy
            || self.scripts_break_lines() && self.spares_own(&session.store);
        let Some(upstream) = self.lane(key, own) else {
            return Outcome::Later;
        };
        let (Some(session), Some(lane)) =
            (self.sessions.get_mut(key), self.upstreams.get_mut(upstream))
        else {
            return Outcome::Taken;
        };
        let prefix = session.namespace.keys();
        let mut last = prefix.to_vec();
        let out = lane.out.tail();
        let begin = out.len();
        // Without a number that it takes the server refuses the request, whose arguments are all that the
        // app sent, or the number might fit. Which of them are keys, it asks before that and as `atoi` says
        // (`genericGetKeys` in db.c): all have the prefix, so that no right is missing.
        let keys = keys_of(request);
        let named = keys.unwrap_or(usize::MAX);
        let room = (named.min(request.argc()) + 1) * 2 * prefix.len();
        out.reserve(request.bytes().len() + script.bytes.len() + room);
        encode::array(request.argc() + usize::from(keys.is_some()), out);
        encode::bulk(request.arg(0), out);
        encode::bulk(&script.bytes, out);
        behind_script(request, named, prefix, out);
        if let Some(transaction) = &mut session.transaction {
            let whole = &session.store.prefix;
            transaction.queued.mention_all(whole, &out[begin..]);
            last.extend(wide::place_of_script(transaction, whole, walks));
        }
        if keys.is_some() {
            encode::bulk(&last, out);
        }
        session.declares = session.declared(command, request.arg(1));
        let argc = request.argc();
        self.sent(key, upstream, command, script.plan, argc, false);
        Outcome::Taken
    }

    /// Before 8.1 the server passes a script's error on as it is (`luaCallFunction` in script_lua.c), so a
    /// line break in it is the end of the reply, and what follows is taken for the next one. Then no other
    /// session's reply may come next.
    pub(super) fn scripts_break_lines(&self) -> bool {
        self.environment.facts.release < LINES_WHOLE_SINCE
    }

    /// What the server says of an argument behind the mode: nothing may stand there before 9.1, then an
    /// engine's name.
    fn wrong_engine(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        const NAMES_ENGINES: Version = Version { major: 9, minor: 1 };
        match request.argc() {
            0..=3 => None,
            _ if self.environment.facts.release < NAMES_ENGINES => {
                self.current.map(commands::arity_error)
            }
            4 if is(request.arg(3), b"lua") => None,
            4 => Some(commands::engine_error(request.arg(3))),
            _ => Some(commands::subcommand_syntax_error(request)),
        }
    }

    pub(super) fn script_job(&mut self, key: Key<Session>, task: Task) -> Outcome {
        if !self.idle_or_wait(key) || !self.turn_or_wait(key) {
            return Outcome::Later;
        }
        self.begin_job(key, task);
        Outcome::Taken
    }

    /// Queues a request of the agent's words in the session's transaction.
    fn queue_script(
        &mut self,
        key: Key<Session>,
        command: &'static Command,
        words: &[&[u8]],
        plan: ReplyPlan,
    ) -> Outcome {
        let Some(upstream) = self.lane(key, true) else {
            return Outcome::Later;
        };
        if let Some(lane) = self.upstreams.get_mut(upstream) {
            encode::request(words, lane.out.tail());
            self.sent(key, upstream, command, plan, words.len(), false);
        }
        Outcome::Taken
    }
}

impl Session {
    /// Whether a script or function may ask for names that the agent walks for, whatever its arguments.
    fn may_walk(&self, function: bool, script: &[u8], plan: &ReplyPlan) -> bool {
        let scripts = &self.store.scripts;
        match plan {
            _ if function => scripts.function_asks(script).is_some(),
            ReplyPlan::Script(names) => scripts.walks(names.app) != Walks::No,
            _ => false,
        }
    }
}

fn plan(app: Sha, server: Sha) -> ReplyPlan {
    ReplyPlan::Script(Box::new(ScriptNames { server, app }))
}

/// The server says NOSCRIPT in its own words, where it would say it.
fn unknown() -> Replacement {
    Replacement {
        bytes: Sha::NONE.as_bytes().to_vec(),
        plan: ReplyPlan::Verbatim,
    }
}

/// The number of keys, as many of them as are `named` as the server knows them, and the arguments.
fn behind_script(request: &Request<'_>, named: usize, prefix: &[u8], out: &mut Vec<u8>) {
    encode::bulk(request.arg(2), out);
    for (index, arg) in request.args().skip(3).enumerate() {
        if index < named {
            encode::header(b'$', arg.len() + prefix.len(), out);
            out.extend_from_slice(prefix);
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        } else {
            encode::bulk(arg, out);
        }
    }
}

/// The number of keys, when it is one that the server takes.
fn keys_of(request: &Request<'_>) -> Option<usize> {
    let keys = request.get(2)?;
    takes_keys(keys, request.argc())
        .then(|| usize::try_from(number::parse(keys)?).ok())
        .flatten()
}

/// What Valkey says of a request that runs nothing (`evalGenericCommand` in eval.c): the server that holds
/// the store would look at its keys first.
fn misfit(kind: &Kind, request: &Request<'_>) -> Option<&'static [u8]> {
    if matches!(kind, Kind::Name) && request.arg(1).len() != Sha::NONE.as_bytes().len() {
        return Some(NO_SCRIPT);
    }
    match number::parse(request.arg(2)) {
        None => Some(b"-ERR value is not an integer or out of range\r\n"),
        Some(keys) if keys < 0 => Some(b"-ERR Number of keys can't be negative\r\n"),
        Some(_) if takes_keys(request.arg(2), request.argc()) => None,
        Some(_) => Some(b"-ERR Number of keys can't be greater than number of args\r\n"),
    }
}

fn takes_keys(keys: &[u8], argc: usize) -> bool {
    number::parse(keys)
        .and_then(|keys| usize::try_from(keys).ok())
        .is_some_and(|keys| keys <= argc.saturating_sub(3))
}
