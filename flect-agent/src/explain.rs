//! What the agent does with a request, told instead of done.
//!
//! Invariant: this module decides nothing. Policies, rewritten requests, errors and reply examples
//! come from the command table, the rewriters and the tasks that serve apps, so an explanation cannot
//! say one thing while the agent does another (tested by property).

mod question;
mod reasons;
mod reply;

use serde::Serialize;

use crate::commands::{self, Command, Lookup, Placement, Policy};
use crate::resp::encode;
use crate::resp::request::{ProtocolError, Request, RequestScanner, Scanned};
use crate::rewrite;
use crate::scoped::Target;
use crate::store::Prefix;

pub use reasons::{policy_name, reason, reply_words};
pub use reply::ReplyExample;

/// One request explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// As people write it: `GET`, `CONFIG SET`; empty when the table has none.
    pub command: String,
    /// `rewrite`, `scoped`, `local`, `operator`, or `unknown`.
    pub policy: &'static str,
    /// Why it is treated so.
    pub reason: String,
    /// What goes to Valkey first; nothing when the agent answers.
    pub sent: Vec<Argument>,
    /// What the reply goes through.
    pub reply: String,
    /// A reply of the server and what the app gets of it.
    pub example: Option<ReplyExample>,
    /// The error that the app gets, from the agent or from the server.
    pub error: Option<String>,
    /// `shared`, `own`, `agent`, or `none`.
    pub connection: &'static str,
    /// Why that connection.
    pub connection_reason: String,
    /// What the server lets that connection do.
    pub rights: Vec<String>,
    /// What else is good to know.
    pub notes: Vec<String>,
}

/// An argument on its way to Valkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// What the agent put in front, or the whole of what it added.
    #[serde(serialize_with = "lossy")]
    pub added: Vec<u8>,
    /// What the app sent.
    #[serde(serialize_with = "lossy")]
    pub own: Vec<u8>,
}

fn lossy<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// The store and database that a request is explained for.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store's prefix.
    pub prefix: Prefix,
    /// The selected database.
    pub database: u32,
}

/// Explains a request given word by word.
///
/// # Panics
/// Never: what is encoded here can be scanned.
#[must_use]
pub fn words<W: AsRef<[u8]>>(words: &[W], place: &Place) -> Option<Explanation> {
    let mut bytes = Vec::new();
    encode::request(words, &mut bytes);
    scanned(&bytes, place).unwrap_or_default()
}

/// Explains a request as somebody types it into a terminal; `None` when the line is empty.
///
/// # Errors
/// Where Valkey itself would not understand the line.
pub fn line(text: &[u8], place: &Place) -> Result<Option<Explanation>, ProtocolError> {
    // A line that begins like the binary protocol would be read as that.
    let text = text.trim_ascii();
    scanned(&[b" ", text, b"\n"].concat(), place)
}

fn scanned(bytes: &[u8], place: &Place) -> Result<Option<Explanation>, ProtocolError> {
    let mut scanner = RequestScanner::default();
    Ok(match scanner.scan(bytes)? {
        Scanned::Request { .. } => Some(request(&scanner.request(bytes), place)),
        Scanned::Empty { .. } | Scanned::Incomplete => None,
    })
}

/// Explains a request.
#[must_use]
pub fn request(request: &Request<'_>, place: &Place) -> Explanation {
    let name = request.arg(0);
    match commands::lookup(name, request.get(1)) {
        Lookup::Known(command) => known(command, request, place),
        Lookup::UnknownCommand if commands::is_cross_protocol(name) => Explanation {
            policy: UNKNOWN,
            reason: "it is how HTTP begins: a browser was made to talk to Valkey".to_owned(),
            reply: "none: the connection is closed, as Valkey does".to_owned(),
            connection: NO_CONNECTION,
            ..Explanation::default()
        },
        Lookup::UnknownCommand => refused(
            UNKNOWN,
            "neither Valkey 8.0, 8.1 nor 9.1 has such a command, so nobody knows which of its arguments are keys",
            &commands::unknown_command_error(request.args()),
        ),
        Lookup::UnknownSubcommand(_) => refused(
            UNKNOWN,
            "the command has no such subcommand",
            &commands::unknown_subcommand_error(name, request.arg(1)),
        ),
        Lookup::MissingSubcommand(command) => refused(
            UNKNOWN,
            "the command needs a subcommand",
            &commands::arity_error(command),
        ),
    }
}

const UNKNOWN: &str = "unknown";
const NO_CONNECTION: &str = "none";

fn refused(policy: &'static str, reason: &str, error: &[u8]) -> Explanation {
    Explanation {
        policy,
        reason: reason.to_owned(),
        reply: "the agent's own error".to_owned(),
        error: Some(error_text(error)),
        connection: NO_CONNECTION,
        connection_reason: "nothing is sent to Valkey".to_owned(),
        ..Explanation::default()
    }
}

fn known(command: &'static Command, request: &Request<'_>, place: &Place) -> Explanation {
    let policy = commands::policy(command, request);
    let explained = Explanation {
        command: name(command),
        policy: policy_name(policy),
        reason: reason(command, policy).to_owned(),
        ..Explanation::default()
    };
    if policy == Policy::Rewrite {
        return forwarded(command, request, place, explained);
    }
    if !command.accepts(request.argc()) {
        return Explanation {
            command: explained.command,
            ..refused(
                explained.policy,
                &explained.reason,
                &commands::arity_error(command),
            )
        };
    }
    match policy {
        Policy::Operator(why) => Explanation {
            command: explained.command,
            ..refused(explained.policy, why, &commands::refusal(command, why))
        },
        Policy::Scoped(scoped) => question::scoped(scoped, request, place, explained),
        Policy::Local(_) | Policy::Rewrite => Explanation {
            reply: "the agent's own".to_owned(),
            connection: NO_CONNECTION,
            connection_reason: "the agent answers from what it knows of the session".to_owned(),
            ..explained
        },
    }
}

/// `XGROUP CREATE` for `xgroup|create`.
#[must_use]
pub fn name(command: &Command) -> String {
    command.name.replace('|', " ").to_ascii_uppercase()
}

fn forwarded(
    command: &'static Command,
    request: &Request<'_>,
    place: &Place,
    explained: Explanation,
) -> Explanation {
    let namespace = place.prefix.namespace(place.database);
    let mut bytes = Vec::new();
    rewrite::rewrite(command, request, &namespace, &mut bytes);
    let sent = arguments(request, &bytes);
    let named = sent.iter().any(|argument| !argument.added.is_empty());
    let fits = command.accepts(request.argc());
    let (connection, connection_reason) = match commands::placement(command, request) {
        Placement::Shared => (
            "shared",
            "it leaves nothing behind on a connection, so other sessions of the store use it too",
        ),
        Placement::Dedicated(need) => ("own", reasons::need(need)),
    };
    let mut notes: Vec<String> = Vec::new();
    if !named && fits {
        notes.push("nothing in it is a name, so it goes as it is".to_owned());
    }
    if !fits {
        notes.push("the server counts the arguments itself and refuses it".to_owned());
    }
    if commands::streamable(command) {
        notes.push(
            "a request too large for the agent's buffer streams through, on a connection of its own meanwhile"
                .to_owned(),
        );
    }
    notes.extend(reasons::notes(command).map(str::to_owned));
    Explanation {
        sent,
        reply: reply_words(command.reply).to_owned(),
        example: if fits {
            reply::example(command, request, &namespace)
        } else {
            None
        },
        error: (!fits).then(|| error_text(&commands::arity_error(command))),
        connection,
        connection_reason: connection_reason.to_owned(),
        rights: rights(Target::Store, place, &explained.command),
        notes,
        ..explained
    }
}

/// What the server lets a connection do; the agent's users are made so, see `admin`.
fn rights(target: Target, place: &Place, command: &str) -> Vec<String> {
    let prefix = &place.prefix;
    match target {
        Target::Store | Target::App => vec![
            format!("user of this store alone: {command} is among its commands"),
            format!("keys ~{prefix}:* and ~{prefix}/*, channels &{prefix}:*, nothing else"),
        ],
        Target::Housekeeper => vec![
            "the agent's housekeeper: it may list names and statistics and read no value".to_owned(),
            format!("the agent keeps only what begins with {prefix}"),
        ],
        Target::Librarian => vec![
            "the agent's librarian: it may work on libraries of functions and do nothing else".to_owned(),
            format!("the agent keeps only what begins with {prefix}"),
        ],
        Target::Sorter => vec![
            "a user of this store that can do nothing but SORT: Valkey grants BY and GET only with read access to every key".to_owned(),
            "only rewritten requests reach it".to_owned(),
        ],
    }
}

/// The arguments of a rewritten request, each parted into what was added and what the app sent.
fn arguments(request: &Request<'_>, rewritten: &[u8]) -> Vec<Argument> {
    let mut scanner = RequestScanner::default();
    if !matches!(scanner.scan(rewritten), Ok(Scanned::Request { .. })) {
        return Vec::new();
    }
    let out = scanner.request(rewritten);
    out.args()
        .enumerate()
        .map(|(i, whole)| {
            // Past the app's own arguments everything is added.
            let own = request.get(i).unwrap_or_default();
            let (added, own) = match whole.strip_suffix(own) {
                Some(added) => (added, own),
                None => (whole, &b""[..]),
            };
            Argument {
                added: added.to_vec(),
                own: own.to_vec(),
            }
        })
        .collect()
}

/// An error reply as a client shows it.
fn error_text(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    text.trim_start_matches('-').trim_end().to_owned()
}

#[cfg(test)]
mod tests;
