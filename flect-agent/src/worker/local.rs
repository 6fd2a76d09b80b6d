//! What the agent answers itself: the session's own state, and what no server need be asked for.

mod hello;

use std::sync::Arc;

use super::Worker;
use super::admission::{TOO_MANY_CLIENTS, WRONG_PASSWORD};
use super::arena::Key;
use super::audit;
use super::forward::Outcome;
use super::session::{Lane, Replies, Session, Subscribed};
use super::tracking::Tracking;
use crate::audit::Reason;
use crate::commands::Local;
use crate::resp::request::Request;
use crate::resp::{Protocol, encode};
use crate::rewrite::words::{is, until_nul};
use crate::scoped::{SYNTAX_ERROR, database};

const STATE_HELD: &[u8] =
    b"-ERR the connection holds a transaction, a WATCH or subscriptions; end them first\r\n";
const BAD_CLIENT_NAME: &[u8] =
    b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
/// A private server's setting `import-mode` is off unless it is being filled by another.
const NOT_IMPORTING: &[u8] = b"-ERR Server is not in import mode\r\n";
const CLUSTER_DISABLED: &[u8] = b"-ERR This instance has cluster support disabled\r\n";

impl Worker {
    pub(super) fn local(
        &mut self,
        key: Key<Session>,
        local: Local,
        request: &Request<'_>,
    ) -> Outcome {
        let Some(session) = self.sessions.get_mut(key) else {
            return Outcome::Taken;
        };
        let changes_state = matches!(
            local,
            Local::Hello | Local::Auth | Local::Select | Local::Reset
        );
        // Replies under way are read by the old state. Inside MULTI only RESET takes effect now.
        let now = session.transaction.is_none() || local == Local::Reset;
        if changes_state && now && !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        match local {
            Local::ScriptFlush => return self.script_flush(key, request),
            Local::ScriptShow => self.script_show(key, request),
            Local::Slowlog
            | Local::Commandlog
            | Local::Latency
            | Local::ConfigResetstat
            | Local::ConfigRewrite
            | Local::MemoryDoctor
            | Local::MemoryMallocStats
            | Local::MemoryPurge
            | Local::Acl => return self.observe(key, local, request),
            Local::ScriptDebug => self.script_debug(key, request),
            Local::ClientReply => self.client_reply(key, request),
            Local::ClientKill => return self.client_kill(key, request),
            Local::ClientUnblock => return self.client_unblock(key, request),
            Local::ClientPause => {
                let reply = self.client_pause(key, request);
                self.answer(key, &reply);
            }
            Local::ClientUnpause => {
                self.client_unpause(key);
                self.answer(key, b"+OK\r\n");
            }
            Local::Monitor => return self.monitor(key),
            Local::Quit => self.finish_with(key, b"+OK\r\n"),
            Local::Reset => self.reset(key),
            _ => {
                let reply = match local {
                    Local::Hello => match self.hello(key, request) {
                        Some(reply) => reply,
                        None => return Outcome::Later,
                    },
                    Local::Auth => self.auth(key, request),
                    Local::Select => self.select(key, request),
                    _ => self.described(key, local, request),
                };
                // Valkey finds such errors when EXEC carries the command out, so they do not abort.
                let (Ok(reply) | Err(reply)) = reply;
                self.answer(key, &reply);
            }
        }
        Outcome::Taken
    }

    /// Answers that only look at the session, or note something about it.
    fn described(
        &mut self,
        key: Key<Session>,
        local: Local,
        request: &Request<'_>,
    ) -> Result<Vec<u8>, Vec<u8>> {
        let Some(session) = self.sessions.get(key) else {
            return Ok(Vec::new());
        };
        let protocol = session.protocol;
        let mut out = Vec::new();
        match local {
            Local::ClientId => {
                encode::integer(
                    i64::try_from(session.entry.id).unwrap_or(i64::MAX),
                    &mut out,
                );
            }
            Local::ClientGetName => match session.entry.named().name.as_slice() {
                b"" => encode::null(protocol, &mut out),
                name => encode::bulk(name, &mut out),
            },
            Local::ClientSetName => {
                let name = request.arg(2);
                if !is_plain(name) {
                    return Err(BAD_CLIENT_NAME.to_vec());
                }
                session.entry.named().name = name.to_vec();
                encode::ok(&mut out);
            }
            Local::ClientSetInfo => set_info(session, request)?,
            Local::ClientInfo => {
                encode::text(protocol, &self.client_info(session, request), &mut out);
            }
            Local::ClientList => {
                let list = self.client_list(session, request)?;
                encode::text(protocol, &list, &mut out);
            }
            Local::ClientNoEvict => {
                let on = is(request.arg(2), b"on");
                if !on && !is(request.arg(2), b"off") {
                    return Err(SYNTAX_ERROR.to_vec());
                }
                session.entry.named().no_evict = on;
            }
            Local::ClientCapa => {
                let mut words = request.args().skip(2);
                let redirect = words.any(|word| is(word, b"redirect"));
                session.entry.named().redirect |= redirect;
            }
            Local::ClientImportSource => {
                if !is(request.arg(2), b"off") {
                    return Err(NOT_IMPORTING.to_vec());
                }
            }
            Local::ClientGetRedir => {
                encode::integer(session.tracking_now().redirection(), &mut out)
            }
            Local::ClientTrackingInfo => session.tracking_now().info(protocol, &mut out),
            Local::AclWhoami => encode::bulk(&session.user, &mut out),
            Local::ClusterDisabled => return Err(CLUSTER_DISABLED.to_vec()),
            Local::ReadOnly => {
                session.entry.named().read_only = self
                    .current
                    .is_some_and(|command| command.name == "readonly");
            }
            Local::Role => {
                encode::array(3, &mut out);
                encode::bulk(b"master", &mut out);
                encode::integer(0, &mut out);
                encode::array(0, &mut out);
            }
            _ => encode::ok(&mut out),
        }
        if out.is_empty() {
            encode::ok(&mut out);
        }
        Ok(out)
    }

    fn client_reply(&mut self, key: Key<Session>, request: &Request<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mode = request.arg(2);
        if is(mode, b"on") {
            session.replies = Replies::On;
            self.answer(key, b"+OK\r\n");
        } else if is(mode, b"off") {
            session.replies = Replies::Off;
        } else if is(mode, b"skip") {
            if session.replies == Replies::On {
                session.replies = Replies::SkipNext;
            }
        } else {
            self.refuse(key, SYNTAX_ERROR);
        }
    }

    /// RESET: as if the connection were new (`resetCommand` in networking.c).
    fn reset(&mut self, key: Key<Session>) {
        self.end_monitoring(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Lane::Own(upstream) = session.lane {
            session.lane = Lane::None;
            self.close_upstream(upstream);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.owed = 0;
        session.in_flight = 0;
        session.answered.clear();
        session.transaction = None;
        session.selecting = None;
        session.watching = false;
        session.no_touch = false;
        session.executing.clear();
        session.lines_bytes = 0;
        session.tracking = Tracking::default();
        session.tracking_after = None;
        session.redirect_found = None;
        session.redirected_to = false;
        session.subscribed = Subscribed::default();
        session.pattern_changes.clear();
        session.event_channels.clear();
        session.events.clear();
        session.forget_patterns();
        session.replies = Replies::On;
        session.user = b"default".to_vec();
        session.protocol = Protocol::Resp2;
        session.database = 0;
        let store = session.app.default_store().clone();
        {
            let mut named = session.entry.named();
            named.name.clear();
            named.user = b"default".to_vec();
            named.redirect = false;
            named.no_evict = false;
            named.read_only = false;
            named.database = 0;
            named.protocol = 2;
        }
        match self.move_to(key, &store) {
            Ok(()) => self.answer(key, b"+RESET\r\n"),
            Err(reply) => self.finish_with(key, reply),
        }
    }

    fn select(&mut self, key: Key<Session>, request: &Request<'_>) -> Result<Vec<u8>, Vec<u8>> {
        let databases = self.environment.facts.databases;
        let number = database(request.arg(1), databases).map_err(<[u8]>::to_vec)?;
        if let Some(session) = self.sessions.get_mut(key) {
            match &mut session.transaction {
                Some(transaction) => transaction.database = number,
                None => {
                    session.database = number;
                    session.entry.named().database = number;
                }
            }
            session.select(number);
        }
        Ok(b"+OK\r\n".to_vec())
    }

    /// `AUTH [user] password`: a user names one of the app's stores; which stores those are, the
    /// cgroup says. The password is asked for only where the store has a token, so that apps which
    /// were configured with one keep working.
    fn auth(&mut self, key: Key<Session>, request: &Request<'_>) -> Result<Vec<u8>, Vec<u8>> {
        let (user, password) = match request.argc() {
            2 => (b"default".as_slice(), request.arg(1)),
            3 => (request.arg(1), request.arg(2)),
            _ => return Err(SYNTAX_ERROR.to_vec()),
        };
        self.choose_store(key, user, password)?;
        Ok(b"+OK\r\n".to_vec())
    }

    fn choose_store(
        &mut self,
        key: Key<Session>,
        user: &[u8],
        password: &[u8],
    ) -> Result<(), &'static [u8]> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        let Some(store) = session.app.store(user).cloned() else {
            // What it named is not repeated: it may be a password in the wrong place.
            self.audit(
                key,
                Reason::Authentication,
                "AUTH named no store of the app",
            );
            return Err(WRONG_PASSWORD);
        };
        if !store.opens_with(password) {
            let detail = "AUTH with a wrong token";
            audit::note(&session.app, &store, Reason::Authentication, detail);
            return Err(WRONG_PASSWORD);
        }
        if !Arc::ptr_eq(&store, &session.store) && session.needs_own() {
            return Err(STATE_HELD);
        }
        self.move_to(key, &store).inspect_err(|reply| {
            // Valkey closes a connection beyond the limit, whenever it finds that.
            if let Some(session) = self.sessions.get_mut(key) {
                session.finishing |= *reply == TOO_MANY_CLIENTS;
            }
        })?;
        if let Some(session) = self.sessions.get_mut(key) {
            session.user = user.to_vec();
            session.entry.named().user = user.to_vec();
        }
        Ok(())
    }
}

/// CLIENT SETINFO (`clientSetinfoCommand` in networking.c).
fn set_info(session: &Session, request: &Request<'_>) -> Result<(), Vec<u8>> {
    let (option, value) = (request.arg(2), request.arg(3));
    let mut named = session.entry.named();
    let field = if is(option, b"lib-name") {
        &mut named.lib_name
    } else if is(option, b"lib-ver") {
        &mut named.lib_version
    } else {
        let mut error = Vec::new();
        encode::error(
            [b"ERR Unrecognized option '", until_nul(option), b"'"].concat(),
            &mut error,
        );
        return Err(error);
    };
    if !is_plain(value) {
        let mut error = Vec::new();
        let text = b" cannot contain spaces, newlines or special characters.";
        encode::error([b"ERR ", option, text].concat(), &mut error);
        return Err(error);
    }
    *field = value.to_vec();
    Ok(())
}

/// Nothing that would break a line of CLIENT LIST (`validateClientAttr` in networking.c), which shows what
/// stands before a NUL.
fn is_plain(text: &[u8]) -> bool {
    until_nul(text)
        .iter()
        .all(|byte| (b'!'..=b'~').contains(byte))
}
