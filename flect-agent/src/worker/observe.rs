//! What a store is told of itself without asking the server: its logs, its statistics, its user.

use super::Worker;
use super::arena::Key;
use super::forward::Outcome;
use super::session::Session;
use crate::commands::{self, GRANTS_DATABASES, Local, Lookup, Policy, Version};
use crate::diagnosis::answer::{self, Latency};
use crate::registry::now_seconds;
use crate::resp::request::Request;
use crate::resp::{Protocol, encode, number};
use crate::rewrite::words::is;

/// What Valkey says where no file of settings or users was given.
const NO_CONFIG_FILE: &[u8] = b"-ERR The server is running without a config file\r\n";
const NO_ACL_FILE: &[u8] = b"-ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users in the configuration.\r\n";
const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
const OWN_USER_STAYS: &[u8] = b"-ERR The 'default' user cannot be removed\r\n";

/// Valkey's words where there is too little to diagnose, which is below 5 MB.
const MEMORY_SMALL: &str = "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back to our programming as soon as I finished rebooting.\n";

/// Valkey's words where it finds nothing.
const MEMORY_FINE: &str = "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n";

/// Below this, Valkey diagnoses nothing (`getMemoryDoctorReport` in object.c).
const MEMORY_SMALL_BYTES: u64 = 5 * 1024 * 1024;

/// What Valkey says with an allocator that tells nothing.
const NO_MALLOC_STATS: &str = "Stats not supported for the current allocator";

/// The flags of the one user of a Valkey that nobody has configured. Servers before 9.1 say that they check
/// payloads; those since do not say so unless they were told to.
fn flags(release: Version) -> &'static [&'static str] {
    if release < GRANTS_DATABASES {
        &["on", "nopass", "sanitize-payload"]
    } else {
        &["on", "nopass"]
    }
}

/// What that user may do.
const ALL_RIGHTS: &str = "~* &* +@all";

impl Worker {
    /// Commands about the store as its apps see it. What has been sent before them shows in them.
    pub(super) fn observe(
        &mut self,
        key: Key<Session>,
        local: Local,
        request: &Request<'_>,
    ) -> Outcome {
        let waits = self
            .sessions
            .get(key)
            .is_some_and(|s| s.transaction.is_none());
        if waits && !self.idle_or_wait(key) {
            return Outcome::Later;
        }
        let Some(session) = self.sessions.get(key) else {
            return Outcome::Taken;
        };
        let store = &session.store;
        let protocol = session.protocol;
        let mut out = Vec::new();
        match local {
            Local::Slowlog => out = answer::slowlog(&store.diagnosis, request),
            Local::Commandlog => out = answer::commandlog(&store.diagnosis, request),
            Local::Latency => {
                let latency = Latency {
                    diagnosis: &store.diagnosis,
                    settings: store.settings(),
                    stats: &|| store.stats(),
                    protocol,
                    now: now_seconds(),
                };
                out = latency.answer(request);
            }
            Local::ConfigResetstat => {
                store.reset_stats();
                encode::ok(&mut out);
            }
            Local::ConfigRewrite => out.extend_from_slice(NO_CONFIG_FILE),
            Local::MemoryDoctor => {
                let (bytes, _) = store.measured().unwrap_or_default();
                let small = bytes < MEMORY_SMALL_BYTES;
                let text = if small { MEMORY_SMALL } else { MEMORY_FINE };
                encode::text(protocol, text, &mut out);
            }
            Local::MemoryMallocStats => encode::text(protocol, NO_MALLOC_STATS, &mut out),
            Local::Acl => out = acl(session, self.environment.facts.release, request),
            _ => encode::ok(&mut out),
        }
        self.answer(key, &out);
        Outcome::Taken
    }
}

/// ACL's subcommands about users: a store has one who may do everything, and the one that the session
/// has logged in as, where it named a store (`aclCommand` in acl.c).
fn acl(session: &Session, release: Version, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut users: Vec<&[u8]> = vec![b"default"];
    if session.user != b"default" {
        users.push(&session.user);
    }
    let protocol = session.protocol;
    let subcommand = request.arg(1).to_ascii_lowercase();
    match subcommand.as_slice() {
        b"users" => encode::request(&users, &mut out),
        b"list" => {
            encode::array(users.len(), &mut out);
            for user in users {
                let rights = format!(" {} {ALL_RIGHTS}", flags(release).join(" "));
                encode::bulk([b"user ", user, rights.as_bytes()].concat(), &mut out);
            }
        }
        b"getuser" if users.contains(&request.arg(2)) => describe_user(protocol, release, &mut out),
        b"getuser" => encode::null(protocol, &mut out),
        b"deluser" => {
            if request.args().skip(2).any(|user| users.contains(&user)) {
                return OWN_USER_STAYS.to_vec();
            }
            encode::integer(0, &mut out);
        }
        b"log" => match request.get(2) {
            _ if request.argc() > 3 => return commands::subcommand_syntax_error(request),
            Some(word) if is(word, b"reset") => encode::ok(&mut out),
            Some(word) if number::parse(word).is_none() => return NOT_AN_INTEGER.to_vec(),
            _ => encode::array(0, &mut out),
        },
        b"dryrun" if !users.contains(&request.arg(2)) => {
            encode::error(
                [b"ERR User '", request.arg(2), b"' not found"].concat(),
                &mut out,
            );
        }
        b"dryrun" => dry_run(request, &mut out),
        _ => out.extend_from_slice(NO_ACL_FILE),
    }
    out
}

fn describe_user(protocol: Protocol, release: Version, out: &mut Vec<u8>) {
    let databases = (release >= GRANTS_DATABASES).then_some(("databases", "alldbs"));
    let rights = [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")];
    let rights = rights.into_iter().chain(databases);
    encode::map(protocol, 3 + rights.clone().count(), out);
    encode::bulk("flags", out);
    encode::set(protocol, flags(release).len(), out);
    for flag in flags(release) {
        encode::bulk(flag, out);
    }
    encode::bulk("passwords", out);
    encode::array(0, out);
    for (field, value) in rights {
        encode::bulk(field, out);
        encode::bulk(value, out);
    }
    encode::bulk("selectors", out);
    encode::array(0, out);
}

/// Whether the store's user may run a command: all that is no operator's.
fn dry_run(request: &Request<'_>, out: &mut Vec<u8>) {
    let Lookup::Known(command) = commands::lookup(request.arg(3), request.get(4)) else {
        encode::error(
            [b"ERR Command '", request.arg(3), b"' not found"].concat(),
            out,
        );
        return;
    };
    if !command.accepts(request.argc() - 3) {
        let text = format!(
            "ERR wrong number of arguments for '{}' command",
            command.name
        );
        encode::error(text, out);
        return;
    }
    if let Policy::Operator(_) = command.policy {
        let user = request.arg(2);
        let name = command.name.as_bytes();
        let text = [
            b"User ",
            user,
            b" has no permissions to run the '",
            name,
            b"' command",
        ];
        encode::bulk(text.concat(), out);
        return;
    }
    encode::ok(out);
}
