//! One request: looked up, and sent on, answered, carried out or refused.

use super::Worker;
use super::arena::Key;
use super::forward::Outcome;
use super::session::{Gate, Session};
use crate::commands::{self, Command, Local, Lookup, Policy, Scoped};
use crate::resp::Protocol;
use crate::resp::request::Request;
use crate::resp::{encode, number};
use crate::rewrite;
use crate::scoped::{
    Count, Flush, Info, Keys, Names, Page, RandomKey, Rename, Settings, Target, Task,
};

/// Valkey's texts for arguments that make no sense.
pub const SYNTAX_ERROR: &[u8] = b"-ERR syntax error\r\n";
pub const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
const NOT_AN_INT: &[u8] =
    b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n";
pub const OUT_OF_RANGE: &[u8] = b"-ERR DB index is out of range\r\n";
const SAME_OBJECT: &[u8] = b"-ERR source and destination objects are the same\r\n";

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
            Lookup::MissingSubcommand(command) => {
                self.refuse(key, &commands::arity_error(command));
                return Outcome::Taken;
            }
        };
        let policy = commands::policy(command, request);
        if policy == Policy::Rewrite {
            if let Some(outcome) = self.script(key, command, request) {
                return outcome;
            }
            return self.forward(key, command, request);
        }
        if !command.accepts(request.argc()) {
            self.refuse(key, &commands::arity_error(command));
            return Outcome::Taken;
        }
        if let Some(error) = self.subscribers_may_not(key, command) {
            self.refuse(key, &error);
            return Outcome::Taken;
        }
        match policy {
            Policy::Operator(why) => {
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
    fn subscribers_may_not(&self, key: Key<Session>, command: &Command) -> Option<Vec<u8>> {
        let session = self.sessions.get(key)?;
        let allowed = matches!(command.policy, Policy::Local(Local::Quit | Local::Reset));
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
        command: &Command,
        scoped: Scoped,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        if session.transaction.is_some() {
            let error = format!(
                "-ERR '{}' is carried out by the agent in several steps and cannot be part of a transaction\r\n",
                command.name
            );
            self.refuse(key, error.as_bytes());
            return Outcome::Taken;
        }
        if !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        match self.task(session, scoped, request) {
            Ok(_) if !self.turn_or_wait(key) => return Outcome::Later,
            Ok(task) => self.begin_job(key, task),
            Err(reply) => self.answer(key, &reply),
        }
        Outcome::Taken
    }

    /// The task for a request, or the reply where none is needed.
    fn task(
        &self,
        session: &Session,
        scoped: Scoped,
        request: &Request<'_>,
    ) -> Result<Task, Vec<u8>> {
        let own = &session.namespace;
        let databases = self.environment.facts.databases;
        let lists_channels = matches!(scoped, Scoped::PubsubChannels | Scoped::PubsubShardChannels);
        if lists_channels && request.argc() > 3 {
            return Err(subcommand_syntax_error(request));
        }
        match scoped {
            Scoped::Keys => Ok(Task::Keys(Keys::new(request.arg(1), own))),
            Scoped::Scan => page(request).map(Task::Page),
            Scoped::RandomKey => Ok(Task::RandomKey(RandomKey::new(own))),
            Scoped::DbSize => Ok(Task::Count(Count::new(own))),
            Scoped::FlushDb | Scoped::FlushAll => {
                let mode = request.get(1);
                let known = |mode: &[u8]| {
                    mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync")
                };
                if request.argc() > 2 || !mode.is_none_or(known) {
                    return Err(SYNTAX_ERROR.to_vec());
                }
                Ok(Task::Flush(match scoped {
                    Scoped::FlushAll => Flush::all_databases(&session.store.prefix),
                    _ => Flush::database(own),
                }))
            }
            Scoped::Info => {
                let sections = request.args().skip(1).map(<[u8]>::to_vec).collect();
                let clients = session.store.sessions();
                Ok(Task::Info(Info::new(
                    sections,
                    clients,
                    &session.store.prefix,
                )))
            }
            Scoped::PubsubChannels => Ok(Task::Names(Names::new(b"CHANNELS", request.get(2)))),
            Scoped::PubsubShardChannels => {
                Ok(Task::Names(Names::new(b"SHARDCHANNELS", request.get(2))))
            }
            Scoped::PubsubNumpat => {
                let patterns = session.store.patterns.distinct();
                Err(format!(":{patterns}\r\n").into_bytes())
            }
            Scoped::ConfigGet => {
                let patterns = request.args().skip(2).map(<[u8]>::to_vec).collect();
                Ok(Task::Settings(Settings::new(patterns)))
            }
            Scoped::Move => move_key(session, databases, request).map(Task::Rename),
            Scoped::CopyAcrossDatabases => copy(session, databases, request).map(Task::Rename),
            Scoped::SortWithPatterns => {
                let mut bytes = Vec::new();
                let command = match commands::lookup(request.arg(0), None) {
                    Lookup::Known(command) => command,
                    _ => return Err(SYNTAX_ERROR.to_vec()),
                };
                rewrite::request::rewrite(command, request, own, &mut bytes);
                Ok(Task::Forward(Target::Sorter, bytes))
            }
        }
    }
}

/// Valkey's words for a subcommand with too many arguments (`addReplySubcommandSyntaxError`).
fn subcommand_syntax_error(request: &Request<'_>) -> Vec<u8> {
    let container = request.arg(0).to_ascii_uppercase();
    let text = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        request.arg(1),
        b"'. Try ",
        &container,
        b" HELP.",
    ]
    .concat();
    let mut error = Vec::new();
    encode::error(text, &mut error);
    error
}

/// A database's number as SELECT, MOVE and COPY read it (`getIntFromObjectOrReply` in object.c).
pub fn database(text: &[u8], databases: u32) -> Result<u32, &'static [u8]> {
    let number = number::parse(text).ok_or(NOT_AN_INTEGER)?;
    if i32::try_from(number).is_err() {
        return Err(NOT_AN_INT);
    }
    u32::try_from(number)
        .ok()
        .filter(|number| *number < databases)
        .ok_or(OUT_OF_RANGE)
}

/// Options of SCAN, the last of each counts (`scanGenericCommand` in db.c).
fn page(request: &Request<'_>) -> Result<Page, Vec<u8>> {
    let cursor = request.arg(1);
    let digits = !cursor.is_empty() && cursor.iter().all(u8::is_ascii_digit);
    if !digits
        || std::str::from_utf8(cursor)
            .ok()
            .and_then(|c| c.parse::<u64>().ok())
            .is_none()
    {
        return Err(b"-ERR invalid cursor\r\n".to_vec());
    }
    let mut page = Page {
        cursor: cursor.to_vec(),
        pattern: None,
        count: None,
        kind: None,
        empty_pages: 0,
    };
    let mut at = 2;
    while let Some(option) = request.get(at) {
        let Some(value) = request.get(at + 1) else {
            return Err(SYNTAX_ERROR.to_vec());
        };
        if option.eq_ignore_ascii_case(b"count") {
            match number::parse(value) {
                None => return Err(NOT_AN_INTEGER.to_vec()),
                Some(count) if count < 1 => return Err(SYNTAX_ERROR.to_vec()),
                Some(_) => page.count = Some(value.to_vec()),
            }
        } else if option.eq_ignore_ascii_case(b"match") {
            page.pattern = Some(value.to_vec());
        } else if option.eq_ignore_ascii_case(b"type") {
            page.kind = Some(value.to_vec());
        } else {
            return Err(SYNTAX_ERROR.to_vec());
        }
        at += 2;
    }
    Ok(page)
}

fn move_key(session: &Session, databases: u32, request: &Request<'_>) -> Result<Rename, Vec<u8>> {
    let number = database(request.arg(2), databases).map_err(<[u8]>::to_vec)?;
    if number == session.database {
        return Err(SAME_OBJECT.to_vec());
    }
    let destination = session.store.prefix.namespace(number);
    Ok(Rename::move_key(
        &[session.namespace.keys(), request.arg(1)].concat(),
        &[destination.keys(), request.arg(1)].concat(),
    ))
}

/// Options of COPY (`copyCommand` in db.c).
fn copy(session: &Session, databases: u32, request: &Request<'_>) -> Result<Rename, Vec<u8>> {
    let mut number = session.database;
    let mut replace = false;
    let mut at = 3;
    while let Some(option) = request.get(at) {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
            at += 1;
        } else if option.eq_ignore_ascii_case(b"db") && at + 1 < request.argc() {
            number = database(request.arg(at + 1), databases).map_err(<[u8]>::to_vec)?;
            at += 2;
        } else {
            return Err(SYNTAX_ERROR.to_vec());
        }
    }
    if number == session.database && request.arg(1) == request.arg(2) {
        return Err(SAME_OBJECT.to_vec());
    }
    let destination = session.store.prefix.namespace(number);
    Ok(Rename::copy(
        &[session.namespace.keys(), request.arg(1)].concat(),
        &[destination.keys(), request.arg(2)].concat(),
        replace,
    ))
}
