//! A store's libraries as FUNCTION LIST and STATS tell of them: read from the server's replies, shown to the app.
//!
//! Invariant: what does not bear the store's id is left out.

use std::collections::HashMap;

use super::answer::Reply;
use super::error;
use crate::resp::{Protocol, encode, number};
use crate::scripts::{Asks, Declared, FunctionNames, Library, described};

/// Libraries that one store may keep on the server, each with some 20 KiB of the agent's shim: the server's
/// memory for Lua is no store's.
const LIBRARIES_MAX: usize = 64;

/// What their texts may have together: some ten times the largest collections that are published.
const TEXTS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A library on the server.
#[derive(Debug)]
pub(super) struct Held {
    /// The app's name.
    pub(super) name: Vec<u8>,
    pub(super) functions: Vec<Function>,
    /// Empty where it was not asked for.
    pub(super) server_text: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Function {
    name: Vec<u8>,
    description: Option<Vec<u8>>,
    /// What the agent has noted behind the description.
    asks: Option<Asks>,
    flags: Vec<Vec<u8>>,
}

/// A function of the store's that is running.
#[derive(Debug)]
pub(super) struct Running {
    name: Vec<u8>,
    command: Vec<Vec<u8>>,
    duration_ms: i64,
}

impl Held {
    /// The app's own text; the server's where the agent has not made it.
    pub(super) fn app_text(&self) -> Vec<u8> {
        Library::app_text(&self.server_text).unwrap_or_else(|| self.server_text.clone())
    }
}

/// The store's own libraries in FUNCTION LIST's reply.
pub(super) fn held(reply: &Reply, names: &FunctionNames) -> Option<Vec<Held>> {
    let Reply::Array(libraries) = reply else {
        return None;
    };
    let own = |library: &Reply| {
        let name = field(library, "library_name")?.bytes()?;
        Some(names.of_app(name)?.to_vec())
    };
    let mut all = Vec::new();
    for library in libraries {
        let Some(name) = own(library) else {
            continue;
        };
        let Reply::Array(functions) = field(library, "functions")? else {
            return None;
        };
        let functions = functions.iter().map(|one| function(one, names));
        all.push(Held {
            name,
            functions: functions.collect::<Option<_>>()?,
            server_text: field(library, "library_code")
                .and_then(Reply::bytes)
                .unwrap_or_default()
                .to_vec(),
        });
    }
    Some(all)
}

fn function(reply: &Reply, names: &FunctionNames) -> Option<Function> {
    let Reply::Array(flags) = field(reply, "flags")? else {
        return None;
    };
    let (description, asks) = field(reply, "description")?
        .bytes()
        .map_or((None, None), described);
    Some(Function {
        name: names.of_app(field(reply, "name")?.bytes()?)?.to_vec(),
        description: description.map(<[u8]>::to_vec),
        asks,
        flags: flags
            .iter()
            .filter_map(|flag| Some(flag.bytes()?.to_vec()))
            .collect(),
    })
}

/// How functions ask for the names of all keys, and what they declare.
pub(super) fn known(held: &[Held]) -> HashMap<Vec<u8>, (Option<Asks>, Declared)> {
    let functions = held.iter().flat_map(|library| &library.functions);
    let known = functions.map(|function| {
        let declared = Declared::of_flags(function.flags.iter().map(Vec::as_slice));
        (function.name.clone(), (function.asks, declared))
    });
    known
        .filter(|(_, known)| *known != (None, Declared::default()))
        .collect()
}

/// A field of a map, which in RESP2 is names and values in turn.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    let Reply::Array(fields) = reply else {
        return None;
    };
    let pair = fields
        .chunks_exact(2)
        .find(|pair| pair[0].bytes() == Some(name.as_bytes()))?;
    Some(&pair[1])
}

/// FUNCTION LIST's reply to the app.
pub(super) fn show(held: &[Held], code: bool, protocol: Protocol) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array(held.len(), &mut out);
    for library in held {
        encode::map(protocol, if code { 4 } else { 3 }, &mut out);
        encode::bulk("library_name", &mut out);
        encode::bulk(&library.name, &mut out);
        encode::bulk("engine", &mut out);
        encode::bulk("LUA", &mut out);
        encode::bulk("functions", &mut out);
        encode::array(library.functions.len(), &mut out);
        for function in &library.functions {
            encode::map(protocol, 3, &mut out);
            encode::bulk("name", &mut out);
            encode::bulk(&function.name, &mut out);
            encode::bulk("description", &mut out);
            match &function.description {
                Some(text) => encode::bulk(text, &mut out),
                None => encode::null(protocol, &mut out),
            }
            encode::bulk("flags", &mut out);
            encode::set(protocol, function.flags.len(), &mut out);
            for flag in &function.flags {
                encode::simple(&String::from_utf8_lossy(flag), &mut out);
            }
        }
        if code {
            encode::bulk("library_code", &mut out);
            encode::bulk(library.app_text(), &mut out);
        }
    }
    out
}

/// The store's function that is running, in FUNCTION STATS' reply.
pub(super) fn running(reply: &Reply, names: &FunctionNames) -> Option<Running> {
    let script = field(reply, "running_script")?;
    let name = names.of_app(field(script, "name")?.bytes()?)?.to_vec();
    let duration_ms = match field(script, "duration_ms")? {
        Reply::Integer(duration) => *duration,
        _ => 0,
    };
    let Reply::Array(words) = field(script, "command")? else {
        return None;
    };
    let words = words.iter().map(|word| Some(word.bytes()?.to_vec()));
    let mut command: Vec<Vec<u8>> = words.collect::<Option<_>>()?;
    // The agent's last argument is the prefix of the keys.
    let prefix = command.pop()?;
    *command.get_mut(1)? = name.clone();
    let keys = number::parse(command.get(2)?).and_then(|keys| usize::try_from(keys).ok());
    for key in command.iter_mut().skip(3).take(keys.unwrap_or(0)) {
        if let Some(own) = key.strip_prefix(prefix.as_slice()) {
            *key = own.to_vec();
        }
    }
    Some(Running {
        name,
        command,
        duration_ms,
    })
}

/// FUNCTION STATS' reply to the app.
pub(super) fn stats(
    running: Option<&Running>,
    libraries: usize,
    functions: usize,
    protocol: Protocol,
) -> Vec<u8> {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut out = Vec::new();
    encode::map(protocol, 2, &mut out);
    encode::bulk("running_script", &mut out);
    match running {
        None => encode::null(protocol, &mut out),
        Some(running) => {
            encode::map(protocol, 3, &mut out);
            encode::bulk("name", &mut out);
            encode::bulk(&running.name, &mut out);
            encode::bulk("command", &mut out);
            encode::array(running.command.len(), &mut out);
            for word in &running.command {
                encode::bulk(word, &mut out);
            }
            encode::bulk("duration_ms", &mut out);
            encode::integer(running.duration_ms, &mut out);
        }
    }
    encode::bulk("engines", &mut out);
    encode::map(protocol, 1, &mut out);
    encode::bulk("LUA", &mut out);
    encode::map(protocol, 2, &mut out);
    encode::bulk("libraries_count", &mut out);
    encode::integer(count(libraries), &mut out);
    encode::bulk("functions_count", &mut out);
    encode::integer(count(functions), &mut out);
    out
}

/// Refuses what would make a store's libraries too many or too long.
pub(super) fn bounded<'a>(
    kept: impl Iterator<Item = &'a Held>,
    new: &[Library],
) -> Result<(), Vec<u8>> {
    let (mut libraries, mut bytes) = (new.len(), 0);
    for library in new {
        bytes += library.text.len();
    }
    for library in kept {
        libraries += 1;
        bytes += library.app_text().len();
    }
    if libraries > LIBRARIES_MAX {
        return Err(error(&format!(
            "ERR too many libraries: a store may have {LIBRARIES_MAX} of functions"
        )));
    }
    if bytes > TEXTS_BYTES_MAX {
        return Err(error(&format!(
            "ERR the libraries are too long: those of a store may have {} MiB together",
            TEXTS_BYTES_MAX / (1024 * 1024)
        )));
    }
    Ok(())
}
