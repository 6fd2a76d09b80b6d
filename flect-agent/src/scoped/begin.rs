//! From a request to the task that carries it out, or to the reply where none is needed.
//!
//! Invariant: arguments are read as Valkey reads them, and refused in its words.

use super::{
    ConfigSet, Count, Flush, Functions, Info, Keys, MemoryStats, Names, Own, Page, RandomKey,
    Rename, Settings, Target, Task, View,
};
use crate::commands::{self, Lookup, Scoped};
use crate::resp::number;
use crate::resp::request::Request;
use crate::rewrite::{self, words::is};
use crate::store::{Namespace, Prefix};

/// Valkey's texts for arguments that make no sense.
pub const SYNTAX_ERROR: &[u8] = b"-ERR syntax error\r\n";
const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
const NOT_AN_INT: &[u8] =
    b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n";
const OUT_OF_RANGE: &[u8] = b"-ERR DB index is out of range\r\n";
const SAME_OBJECT: &[u8] = b"-ERR source and destination objects are the same\r\n";

/// What a task needs to know of whoever asks.
pub struct Asker<'a> {
    /// The store's prefix.
    pub prefix: &'a Prefix,
    /// The selected database's names.
    pub namespace: &'a Namespace,
    /// The selected database.
    pub database: u32,
    /// How many databases the server has.
    pub databases: u32,
    /// What INFO tells of the store.
    pub own: &'a dyn Fn() -> Own,
    /// Whether a script of the store's is under way on this node.
    pub scripts_run: bool,
    /// How many distinct patterns they subscribe to.
    pub patterns: &'a dyn Fn() -> usize,
    /// What the store has otherwise than its server.
    pub view: &'a dyn Fn() -> View,
}

impl Task {
    /// The task for a request, whose number of arguments is right.
    ///
    /// # Errors
    /// The reply, where none is needed: Valkey's words for arguments that make no sense, or what is
    /// known already.
    pub fn for_request(
        scoped: Scoped,
        request: &Request<'_>,
        asker: &Asker<'_>,
    ) -> Result<Self, Vec<u8>> {
        let own = asker.namespace;
        let lists_channels = matches!(scoped, Scoped::PubsubChannels | Scoped::PubsubShardChannels);
        if lists_channels && request.argc() > 3 {
            return Err(commands::subcommand_syntax_error(request));
        }
        match scoped {
            Scoped::Keys => Ok(Task::Keys(Keys::new(request.arg(1), own))),
            Scoped::Scan => page(request).map(Task::Page),
            Scoped::RandomKey => Ok(Task::RandomKey(RandomKey::new(own))),
            Scoped::DbSize => Ok(Task::Count(Count::new(own))),
            Scoped::FlushDb | Scoped::FlushAll => {
                let mode = request.get(1);
                let known = |mode: &[u8]| is(mode, b"async") || is(mode, b"sync");
                if request.argc() > 2 || !mode.is_none_or(known) {
                    return Err(SYNTAX_ERROR.to_vec());
                }
                Ok(Task::Flush(match scoped {
                    Scoped::FlushAll => Flush::all_databases(asker.prefix),
                    _ => Flush::database(own),
                }))
            }
            Scoped::Info => {
                let sections = request.args().skip(1).map(<[u8]>::to_vec).collect();
                Ok(Task::Info(Info::new(sections, (asker.own)(), asker.prefix)))
            }
            Scoped::MemoryStats => {
                let bytes = (asker.own)().dataset_bytes();
                Ok(Task::MemoryStats(MemoryStats::new(bytes, asker.prefix)))
            }
            Scoped::PubsubChannels => Ok(Task::Names(Names::new(b"CHANNELS", request.get(2)))),
            Scoped::PubsubShardChannels => {
                Ok(Task::Names(Names::new(b"SHARDCHANNELS", request.get(2))))
            }
            Scoped::PubsubNumpat => {
                let patterns = (asker.patterns)();
                Err(format!(":{patterns}\r\n").into_bytes())
            }
            Scoped::ConfigGet => {
                let patterns = request.args().skip(2).map(<[u8]>::to_vec).collect();
                Ok(Task::Settings(Settings::new(patterns, (asker.view)())))
            }
            Scoped::ConfigSet => config_set(asker, request).map(Task::ConfigSet),
            Scoped::Move => move_key(asker, request).map(Task::Rename),
            Scoped::CopyAcrossDatabases => copy(asker, request).map(Task::Rename),
            // A script's: the worker makes it.
            Scoped::SwapDb => Err(SYNTAX_ERROR.to_vec()),
            Scoped::Function => {
                Functions::for_request(request, asker).map(|task| Task::Functions(Box::new(task)))
            }
            Scoped::ScriptKill => Ok(Task::Functions(Box::new(Functions::kill_script(asker)))),
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

/// A cursor as `string2ull` in util.c reads it: as an integer, or else as strtoull does.
fn cursor(text: &[u8]) -> Option<u64> {
    if let Some(number) = number::parse(text) {
        return u64::try_from(number).ok();
    }
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let blanks = text.iter().take_while(|byte| blank(byte)).count();
    let (negative, digits) = match &text[blanks..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

/// Options of SCAN, the last of each counts (`scanGenericCommand` in db.c).
fn page(request: &Request<'_>) -> Result<Page, Vec<u8>> {
    let Some(cursor) = cursor(request.arg(1)) else {
        return Err(b"-ERR invalid cursor\r\n".to_vec());
    };
    let mut page = Page::at(cursor.to_string().as_bytes());
    let read = options(request, &mut page);
    match page.kind.as_deref() {
        // What follows an unknown type is not looked at.
        Some(kind) if read.is_err() && !is_type(kind) => Err(commands::type_error(kind)),
        _ => read.map(|()| page),
    }
}

/// Types that every server has. Those of modules it knows itself: it is asked.
fn is_type(name: &[u8]) -> bool {
    const TYPES: [&[u8]; 6] = [b"string", b"list", b"set", b"zset", b"hash", b"stream"];
    TYPES.iter().any(|known| is(name, known))
}

fn options(request: &Request<'_>, page: &mut Page) -> Result<(), Vec<u8>> {
    let mut at = 2;
    while let Some(option) = request.get(at) {
        if is(option, b"novalues") {
            return Err(b"-ERR NOVALUES option can only be used in HSCAN\r\n".to_vec());
        }
        if is(option, b"noscores") {
            return Err(b"-ERR NOSCORES option can only be used in ZSCAN\r\n".to_vec());
        }
        let Some(value) = request.get(at + 1) else {
            return Err(SYNTAX_ERROR.to_vec());
        };
        if is(option, b"count") {
            match number::parse(value) {
                None => return Err(NOT_AN_INTEGER.to_vec()),
                Some(count) => match u64::try_from(count) {
                    Ok(count) if count > 0 => page.count = count,
                    _ => return Err(SYNTAX_ERROR.to_vec()),
                },
            }
        } else if is(option, b"match") {
            page.pattern = Some(value.to_vec());
        } else if is(option, b"type") {
            // The server complains of the first that it does not know.
            if page.kind.as_deref().is_none_or(is_type) {
                page.kind = Some(value.to_vec());
            }
        } else {
            return Err(SYNTAX_ERROR.to_vec());
        }
        at += 2;
    }
    Ok(())
}

fn config_set(asker: &Asker<'_>, request: &Request<'_>) -> Result<ConfigSet, Vec<u8>> {
    if !request.argc().is_multiple_of(2) {
        return Err(SYNTAX_ERROR.to_vec());
    }
    let word = |at| request.arg(at).to_vec();
    let names = (2..request.argc()).step_by(2);
    let pairs = names.map(|at| (word(at), word(at + 1))).collect();
    Ok(ConfigSet::new(pairs, (asker.view)()))
}

fn move_key(asker: &Asker<'_>, request: &Request<'_>) -> Result<Rename, Vec<u8>> {
    let number = database(request.arg(2), asker.databases).map_err(<[u8]>::to_vec)?;
    if number == asker.database {
        return Err(SAME_OBJECT.to_vec());
    }
    let destination = asker.prefix.namespace(number);
    Ok(Rename::move_key(
        &[asker.namespace.keys(), request.arg(1)].concat(),
        &[destination.keys(), request.arg(1)].concat(),
    ))
}

/// Options of COPY (`copyCommand` in db.c).
fn copy(asker: &Asker<'_>, request: &Request<'_>) -> Result<Rename, Vec<u8>> {
    let mut number = asker.database;
    let mut replace = false;
    let mut at = 3;
    while let Some(option) = request.get(at) {
        if is(option, b"replace") {
            replace = true;
            at += 1;
        } else if is(option, b"db") && at + 1 < request.argc() {
            number = database(request.arg(at + 1), asker.databases).map_err(<[u8]>::to_vec)?;
            at += 2;
        } else {
            return Err(SYNTAX_ERROR.to_vec());
        }
    }
    if number == asker.database && request.arg(1) == request.arg(2) {
        return Err(SAME_OBJECT.to_vec());
    }
    let destination = asker.prefix.namespace(number);
    Ok(Rename::copy(
        &[asker.namespace.keys(), request.arg(1)].concat(),
        &[destination.keys(), request.arg(2)].concat(),
        replace,
    ))
}
