//! The first question that a store-wide command asks the server, from the task that asks it.

use super::{Explanation, Place, arguments, reply_words, rights};
use crate::commands::{self, Lookup, ReplyShape, Scoped};
use crate::resp::request::{Request, RequestScanner, Scanned};
use crate::resp::{Protocol, number};
use crate::rewrite;
use crate::scoped::{
    Context, Count, Flush, Info, Keys, Names, Page, RandomKey, Rename, Settings, Step, Target, Task,
};

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
    let Some(mut task) = task(scoped, request, place) else {
        if scoped == Scoped::PubsubNumpat {
            explained.connection = super::NO_CONNECTION;
            explained.connection_reason = "the agent counts what it knows".to_owned();
        } else {
            explained.notes.push(
                "its arguments make no sense: the agent refuses them in Valkey's words".to_owned(),
            );
        }
        return explained;
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
        Scoped::Info | Scoped::ConfigGet => "only what an app may know of the server",
        Scoped::DbSize | Scoped::PubsubNumpat => "the store's own number",
        Scoped::FlushDb | Scoped::FlushAll => "OK, once all is done",
        Scoped::Move | Scoped::CopyAcrossDatabases => "1 or 0, as Valkey has it",
        Scoped::SortWithPatterns => reply_words(ReplyShape::Verbatim),
    }
}

/// The task that the worker would begin; `None` where it answers without one.
fn task(scoped: Scoped, request: &Request<'_>, place: &Place) -> Option<Task> {
    let namespace = place.prefix.namespace(place.database);
    let rest = |from: usize| {
        request
            .args()
            .skip(from)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    Some(match scoped {
        Scoped::Keys => Task::Keys(Keys::new(request.arg(1), &namespace)),
        Scoped::Scan => Task::Page(page(request)?),
        Scoped::RandomKey => Task::RandomKey(RandomKey::new(&namespace)),
        Scoped::DbSize => Task::Count(Count::new(&namespace)),
        Scoped::FlushDb | Scoped::FlushAll => {
            let mode = request.get(1);
            let known = |mode: &[u8]| {
                mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync")
            };
            if request.argc() > 2 || !mode.is_none_or(known) {
                return None;
            }
            Task::Flush(match scoped {
                Scoped::FlushAll => Flush::all_databases(&place.prefix),
                _ => Flush::database(&namespace),
            })
        }
        Scoped::Info => Task::Info(Info::new(rest(1), 1, &place.prefix)),
        Scoped::ConfigGet => Task::Settings(Settings::new(rest(2))),
        Scoped::PubsubChannels if request.argc() <= 3 => {
            Task::Names(Names::new(b"CHANNELS", request.get(2)))
        }
        Scoped::PubsubShardChannels if request.argc() <= 3 => {
            Task::Names(Names::new(b"SHARDCHANNELS", request.get(2)))
        }
        Scoped::PubsubChannels | Scoped::PubsubShardChannels | Scoped::PubsubNumpat => return None,
        Scoped::Move => {
            let destination = place.prefix.namespace(database(request.arg(2))?);
            Task::Rename(Rename::move_key(
                &[namespace.keys(), request.arg(1)].concat(),
                &[destination.keys(), request.arg(1)].concat(),
            ))
        }
        Scoped::CopyAcrossDatabases => copy(request, place)?,
        Scoped::SortWithPatterns => {
            let Lookup::Known(command) = commands::lookup(request.arg(0), None) else {
                return None;
            };
            let mut bytes = Vec::new();
            rewrite::rewrite(command, request, &namespace, &mut bytes);
            Task::Forward(Target::Sorter, bytes)
        }
    })
}

/// A server has 16 databases unless it is configured otherwise; an explanation knows no server.
fn database(text: &[u8]) -> Option<u32> {
    u32::try_from(number::parse(text)?).ok()
}

fn page(request: &Request<'_>) -> Option<Page> {
    let cursor = std::str::from_utf8(request.arg(1)).ok()?;
    cursor.parse::<u64>().ok()?;
    let mut page = Page {
        cursor: cursor.as_bytes().to_vec(),
        pattern: None,
        count: None,
        kind: None,
        empty_pages: 0,
    };
    let mut at = 2;
    while let Some(option) = request.get(at) {
        let value = request.get(at + 1)?.to_vec();
        let slot = if option.eq_ignore_ascii_case(b"count") {
            number::parse(&value).filter(|count| *count > 0)?;
            &mut page.count
        } else if option.eq_ignore_ascii_case(b"match") {
            &mut page.pattern
        } else if option.eq_ignore_ascii_case(b"type") {
            &mut page.kind
        } else {
            return None;
        };
        *slot = Some(value);
        at += 2;
    }
    Some(page)
}

fn copy(request: &Request<'_>, place: &Place) -> Option<Task> {
    let (mut number, mut replace, mut at) = (place.database, false, 3);
    while let Some(option) = request.get(at) {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
            at += 1;
        } else if option.eq_ignore_ascii_case(b"db") {
            number = database(request.get(at + 1)?)?;
            at += 2;
        } else {
            return None;
        }
    }
    let name = |number, key| [place.prefix.namespace(number).keys(), key].concat();
    Some(Task::Rename(Rename::copy(
        &name(place.database, request.arg(1)),
        &name(number, request.arg(2)),
        replace,
    )))
}

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
