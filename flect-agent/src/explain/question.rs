//! The first question that a store-wide command asks the server, from the task that asks it.

use super::{Explanation, Place, arguments, reply_words, rights};
use crate::commands::{ReplyShape, Scoped};
use crate::resp::Protocol;
use crate::resp::request::{Request, RequestScanner, Scanned};
use crate::scoped::{Asker, Context, Own, Step, Task, View};

pub(super) fn scoped(
    scoped: Scoped,
    request: &Request<'_>,
    place: &Place,
    explained: Explanation,
) -> Explanation {
    let namespace = place.prefix.namespace(place.database);
    let context = Context {
        prefix: place.prefix.clone(),
        namespace: namespace.clone(),
        protocol: Protocol::Resp2,
    };
    let mut explained = Explanation {
        reply: reply(scoped).to_owned(),
        connection: "agent",
        connection_reason:
            "the agent's own; the session waits until it is done, other sessions do not".to_owned(),
        notes: vec!["refused inside MULTI: it takes several steps".to_owned()],
        ..explained
    };
    let asker = Asker {
        prefix: &place.prefix,
        namespace: &namespace,
        database: place.database,
        databases: DATABASES_DEFAULT,
        own: &Own::default,
        patterns: &|| 0,
        view: &View::default,
    };
    let mut task = match Task::for_request(scoped, request, &asker) {
        Ok(task) => task,
        Err(reply) => {
            explained.connection = super::NO_CONNECTION;
            explained.connection_reason = "nothing is sent to Valkey".to_owned();
            if reply.starts_with(b"-") {
                explained.error = Some(super::error_text(&reply));
            }
            if matches!(scoped, Scoped::Move | Scoped::CopyAcrossDatabases) {
                explained.notes.push(format!(
                    "a server has {DATABASES_DEFAULT} databases unless it is configured otherwise"
                ));
            }
            return explained;
        }
    };
    if let Step::Ask {
        target,
        request: question,
    } = task.begin(&context)
    {
        explained.rights = rights(target, place, &explained.command);
        explained.sent = match scoped {
            // The app's own arguments, with what was put in front.
            Scoped::SortWithPatterns => arguments(request, &question),
            _ => question_arguments(
                &question,
                &[
                    namespace.keys(),
                    namespace.channels(),
                    place.prefix.as_str().as_bytes(),
                ],
            ),
        };
        let more = match scoped {
            Scoped::FlushDb | Scoped::FlushAll => {
                "SCAN goes on until the cursor is 0, and UNLINK removes what each page brings; it is not one instant"
            }
            Scoped::Keys | Scoped::DbSize => "SCAN goes on until the cursor is 0",
            Scoped::Scan => {
                "the agent asks on while pages hold none of the store's keys, up to 16 times"
            }
            _ => "",
        };
        if !more.is_empty() {
            explained.notes.push(more.to_owned());
        }
    }
    explained
}

fn reply(scoped: Scoped) -> &'static str {
    match scoped {
        Scoped::Keys => reply_words(ReplyShape::Names),
        Scoped::Scan => reply_words(ReplyShape::Cursor),
        Scoped::RandomKey => reply_words(ReplyShape::Name),
        Scoped::PubsubChannels | Scoped::PubsubShardChannels => reply_words(ReplyShape::Channels),
        Scoped::Info | Scoped::ConfigGet | Scoped::MemoryStats => {
            "only what an app may know of the server"
        }
        Scoped::DbSize | Scoped::PubsubNumpat => "the store's own number",
        Scoped::ConfigSet => "OK, once every agent's part of it is kept",
        Scoped::FlushDb | Scoped::FlushAll => "OK, once all is done",
        Scoped::Move | Scoped::CopyAcrossDatabases => "1 or 0, as Valkey has it",
        Scoped::SortWithPatterns => reply_words(ReplyShape::Verbatim),
    }
}

/// Valkey's default; an explanation knows no server.
const DATABASES_DEFAULT: u32 = 16;

/// A question of the agent's: names are parted behind the longest of these beginnings.
fn question_arguments(question: &[u8], beginnings: &[&[u8]]) -> Vec<super::Argument> {
    let mut scanner = RequestScanner::default();
    if !matches!(scanner.scan(question), Ok(Scanned::Request { .. })) {
        return Vec::new();
    }
    let part = |whole: &[u8]| {
        let beginning = beginnings
            .iter()
            .find(|beginning| whole.starts_with(beginning));
        let at = beginning.map_or(0, |beginning| beginning.len());
        super::Argument {
            added: whole[..at].to_vec(),
            own: whole[at..].to_vec(),
        }
    };
    scanner.request(question).args().map(part).collect()
}
