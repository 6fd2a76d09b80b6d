//! Store-wide commands, fed with what a server might answer.
//!
//! Holds: each ends or asks on, whatever it hears; what it asks the store's own user for names keys of the
//! store alone, what it asks the housekeeper to walk begins with the store's prefix; what the app gets is
//! one whole reply, in which each name of KEYS and SCAN was told by the server with the store's prefix.

use std::collections::HashSet;

use flect_agent::commands::{self, Lookup, Policy};
use flect_agent::resp::request::{RequestScanner, Scanned};
use flect_agent::resp::{Protocol, encode};
use flect_agent::scoped::{Asker, Context, Own, Step, Target, Task, View};

use crate::naive::{self, Value};
use crate::{input, model};

/// Requests that become tasks; the first byte chooses one.
const REQUESTS: &[&str] = &[
    "KEYS *",
    "KEYS u*",
    "SCAN 0",
    "SCAN 7 MATCH a* COUNT 3000 TYPE string",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHDB",
    "FLUSHALL ASYNC",
    "INFO",
    "INFO everything",
    "INFO keyspace commandstats",
    "MEMORY STATS",
    "PUBSUB CHANNELS",
    "PUBSUB CHANNELS n*",
    "PUBSUB SHARDCHANNELS",
    "CONFIG GET *",
    "CONFIG GET maxmemory save",
    "CONFIG SET slowlog-max-len 5",
    "MOVE k 1",
    "COPY k l DB 2 REPLACE",
    "FUNCTION LIST",
    "FUNCTION LIST WITHCODE",
    "FUNCTION STATS",
    "FUNCTION DELETE lib",
    "FUNCTION DUMP",
    "FUNCTION FLUSH",
    "FUNCTION KILL",
    "SCRIPT KILL",
    "SORT k BY w_* GET #",
];

/// A task that still asks then is one that the server keeps going.
const QUESTIONS_MAX: usize = 300;

/// The first byte chooses the command, the second the database, the third what the session speaks; the
/// others are a server's answers in pieces. When they run out, the last is given again.
///
/// # Panics
/// When something does not hold.
pub fn run(mut data: &[u8]) {
    let request = REQUESTS[usize::from(input::byte(&mut data)) % REQUESTS.len()];
    let namespace = input::namespace(input::byte(&mut data));
    let protocol = match input::byte(&mut data) & 1 {
        0 => Protocol::Resp2,
        _ => Protocol::Resp3,
    };
    let context = Context {
        prefix: input::prefix(),
        namespace,
        protocol,
    };
    let Some(mut task) = begin(request, &context) else {
        return;
    };
    let answers: Vec<&[u8]> = input::pieces(data).collect();
    let mut told = HashSet::new();
    let mut step = task.begin(&context);
    for number in 0..QUESTIONS_MAX {
        let answer = answers[number.min(answers.len() - 1)];
        match &step {
            Step::Ask { target, request } => asks(*target, request, &context),
            Step::AskBoth { aside, request } => {
                asks(Target::Store, aside, &context);
                asks(Target::Housekeeper, request, &context);
            }
            Step::Keep(_) => {}
            Step::Done(reply) => return done(request, reply, &told, answers.as_slice()),
            Step::Again => return,
        }
        if let Some((value, _)) = naive::value(answer) {
            remember(&value, context.namespace.keys(), &mut told);
        }
        step = task.resume(answer, &context);
    }
}

fn begin(text: &str, context: &Context) -> Option<Task> {
    let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    let mut bytes = Vec::new();
    encode::request(&words, &mut bytes);
    let mut scanner = RequestScanner::default();
    assert!(matches!(scanner.scan(&bytes), Ok(Scanned::Request { .. })));
    let request = scanner.request(&bytes);
    let Lookup::Known(command) = commands::lookup(request.arg(0), request.get(1)) else {
        panic!("{text} is no command");
    };
    let Policy::Scoped(scoped) = commands::policy(command, &request) else {
        panic!("{text} is no store-wide command");
    };
    let asker = Asker {
        prefix: &context.prefix,
        namespace: &context.namespace,
        database: 0,
        databases: 16,
        own: &Own::default,
        scripts_run: true,
        patterns: &|| 0,
        view: &View::default,
    };
    Task::for_request(scoped, &request, &asker).ok()
}

/// A question to the server.
fn asks(target: Target, request: &[u8], context: &Context) {
    let args = naive::request(request).expect("exactly one request");
    let prefix = context.prefix.as_str().as_bytes();
    let word = args[0].to_ascii_lowercase();
    if word == b"scan" {
        assert!(
            args[3].starts_with(prefix),
            "walks beyond the store: {args:?}"
        );
    }
    let Lookup::Known(command) = commands::lookup(&args[0], args.get(1).map(Vec::as_slice)) else {
        panic!("asks for what is no command: {args:?}");
    };
    if matches!(target, Target::Store | Target::App | Target::Sorter) {
        for at in model::names(command, &args).keys {
            assert!(args[at].starts_with(prefix), "another's key: {args:?}");
        }
    }
}

/// Names with the store's prefix anywhere in an answer, without it.
fn remember(value: &Value, prefix: &[u8], told: &mut HashSet<Vec<u8>>) {
    match value {
        Value::Bulk(_, text) | Value::Line(_, text) => {
            told.extend(text.strip_prefix(prefix).map(<[u8]>::to_vec));
            // The reader of answers takes a line's end off.
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            told.extend(text.strip_prefix(prefix).map(<[u8]>::to_vec));
        }
        Value::Many(_, all) => all.iter().for_each(|value| remember(value, prefix, told)),
        Value::Null => {}
    }
}

fn done(request: &str, reply: &[u8], told: &HashSet<Vec<u8>>, answers: &[&[u8]]) {
    // What is passed on as it is was read by the reply rewriter.
    if request.starts_with("SORT") {
        return;
    }
    let (value, used) = naive::value(reply).expect("one whole reply");
    assert_eq!(used, reply.len(), "more than one reply");
    let names = match (&value, request.split(' ').next()) {
        (Value::Many(_, names), Some("KEYS")) => names,
        (Value::Many(_, page), Some("SCAN")) => match page.as_slice() {
            [_, Value::Many(_, names)] => names,
            other => panic!("no page: {other:?}"),
        },
        _ => return,
    };
    // Where a reader is more generous than the naive one, it is not known what was told.
    if answers.iter().any(|answer| naive::value(answer).is_none()) {
        return;
    }
    for name in names {
        let Value::Bulk(b'$', name) = name else {
            panic!("no name: {name:?}");
        };
        assert!(told.contains(name), "nobody told of {name:?}");
    }
}
