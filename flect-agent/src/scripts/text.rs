//! The text that the server gets for an app's script.
//!
//! Invariant: the app's lines keep their numbers, so nothing that is put in holds a line break; what
//! the server takes from the first line (`#!lua flags=...`) stays the first line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::data::{COMMANDS, READS, code_of};
use super::lexer::{Token, tokens};
use super::{askers, tail_calls, wide};
use crate::store::Prefix;
use crate::weakened::{self, Weakness};

/// What stands in front of a store's scripts, around the table of a script's own commands.
#[derive(Debug)]
pub struct Shim {
    head: String,
    /// Without what answers commands about all keys, and with it.
    tails: [String; 2],
}

/// The shim's source.
static SOURCE: LazyLock<String> = LazyLock::new(|| one_line(include_str!("shim.lua")));

/// What differs between scripts and libraries.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    SOURCE
        .replace("GIVEN", "KEYS,ARGV")
        .replace("ENTER", "set(2,E)")
        .replace("COMMANDS", &format!("'{}'", *COMMANDS))
});

/// The same for libraries of functions, around the shim: what a library is bound to is told to it by
/// `bind`, and a run begins with `begin`.
static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let shim = SOURCE
        .replace("local redis,server,loadstring,load=(function()", "")
        .replace("GIVEN", "{},{STORE..':'}")
        .replace("ENTER", "env=E")
        .replace("user_script", "user_function")
        .replace("COMMANDS", &format!("'{}'", *COMMANDS));
    let shim = shim.trim_end().trim_end_matches("end)();");
    one_line(include_str!("library.lua")).replace("SHIM", shim)
});

/// What stands in the place of `WIDE` in scripts that may need it.
static WIDE: LazyLock<String> =
    LazyLock::new(|| one_line(include_str!("wide.lua")).replace("READS", &format!("'{}'", *READS)));

/// A source with its comments left out, on one line.
fn one_line(source: &str) -> String {
    source
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Commands that a script may spell out and have at hand; more are looked up as they are called.
const KNOWN_MAX: usize = 64;

impl Shim {
    /// For a store on a server with so many databases.
    #[must_use]
    pub fn new(prefix: &Prefix, databases: u32) -> Self {
        let fill = |text: &str| {
            text.replace("STORE", &format!("'{prefix}'"))
                .replace("DATABASES", &databases.to_string())
        };
        let text = fill(&SCRIPT);
        let (head, tail) = text.split_once("KNOWN").unwrap_or((&text, ""));
        Self {
            head: head.to_owned(),
            tails: [tail.replace("WIDE", ""), tail.replace("WIDE", &fill(&WIDE))],
        }
    }

    /// The text that the server runs for this one.
    #[must_use]
    pub fn transform(&self, script: &[u8]) -> Vec<u8> {
        if weakened::has(Weakness::Scripts) {
            return script.to_vec();
        }
        let (first_line, script) = script.split_at(body(script));
        let tokens = tokens(script);
        let known = known(script, &tokens);
        let tail = &self.tails[usize::from(wide::may_need(script, &tokens))];
        let bytes = first_line.len() + self.head.len() + tail.len() + script.len();
        let mut text = Vec::with_capacity(bytes + known.len() + tail_calls::ROOM_BYTES);
        text.extend_from_slice(first_line);
        text.extend_from_slice(self.head.as_bytes());
        text.extend_from_slice(known.as_bytes());
        text.extend_from_slice(tail.as_bytes());
        tail_calls::wrap(script, &tokens, &mut text);
        text
    }
}

/// What stands in front of a library's text, and the text: where the shim ends, and where bytes were put
/// into the text.
pub(super) struct LibraryText {
    pub(super) preface: String,
    pub(super) body: Vec<u8>,
}

/// The server's text of a library, behind its first line. `names` is what the store's functions begin with.
pub(super) fn library(body: &[u8], prefix: &Prefix, names: &str, databases: u32) -> LibraryText {
    let tokens = tokens(body);
    let needs_all = wide::may_need(body, &tokens);
    let shim = LIBRARY.replace("WIDE", if needs_all { WIDE.as_str() } else { "" });
    // At one go: the library's own words may be any of these.
    let preface = fill(
        &shim,
        &[
            ("STORE", &format!("'{prefix}'")),
            ("DATABASES", &databases.to_string()),
            ("NAMES", &format!("'{names}'")),
            ("WORDS", &words(body, &tokens)),
            ("KNOWN", &known(body, &tokens)),
            ("WALKS", &askers::table(body, &tokens)),
        ],
    );
    let mut text = Vec::with_capacity(body.len() + tail_calls::ROOM_BYTES);
    tail_calls::wrap(body, &tokens, &mut text);
    LibraryText {
        preface,
        body: text,
    }
}

/// Puts values in the places that bear these names.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    let next = |rest: &str| {
        let places = values
            .iter()
            .filter_map(|value| Some((rest.find(value.0)?, *value)));
        places.min_by_key(|(at, _)| *at)
    };
    while let Some((at, (name, value))) = next(rest) {
        out.push_str(&rest[..at]);
        out.push_str(value);
        rest = &rest[at + name.len()..];
    }
    out.push_str(rest);
    out
}

/// Fields of a table that a library may give to `register_function`: the server takes them in any case,
/// and refuses those that it does not know.
const FIELDS: [(&str, u8); 4] = [
    ("function_name", 1),
    ("callback", 2),
    ("flags", 0),
    ("description", 3),
];

/// The fields that a library's text spells out, as a list of a name and what it is in turn.
fn words(body: &[u8], tokens: &[Token]) -> String {
    let mut fields: BTreeMap<String, u8> = FIELDS
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), *kind))
        .collect();
    for pair in tokens.windows(2) {
        let word = &body[pair[0].start..pair[0].end];
        let word = match word {
            [b'\'' | b'"', inside @ .., _] => inside,
            word => word,
        };
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if word.is_empty() || !word.iter().all(is_word) {
            continue;
        }
        let word = String::from_utf8_lossy(word).into_owned();
        let known = FIELDS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&word));
        let next = &body[pair[1].start..pair[1].end];
        match known {
            Some((_, kind)) => fields.insert(word, *kind),
            None if (next == b"=" || next == b"]") && fields.len() < KNOWN_MAX => {
                fields.insert(word, 0)
            }
            None => None,
        };
    }
    let field = |(name, kind): (String, u8)| format!("'{name}',{kind},");
    fields.into_iter().map(field).collect()
}

/// Containers whose subcommands are looked for among a script's strings. Names in any case are the same
/// command, so a text could have hundreds, each against all of its strings.
const CONTAINERS_MAX: usize = 8;

/// The script's own strings that are names of commands, as fields of a Lua table.
fn known(script: &[u8], tokens: &[Token]) -> String {
    let words: BTreeSet<&str> = tokens
        .iter()
        .filter_map(|token| {
            let (quote, rest) = script[token.start..token.end].split_first()?;
            let (_, word) = rest.split_last()?;
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let is_word = matches!(quote, b'\'' | b'"') && word.iter().all(plain);
            std::str::from_utf8(word).ok().filter(|_| is_word)
        })
        .collect();
    let mut fields = Vec::new();
    let mut containers = 0;
    for word in &words {
        let Some(code) = code_of(word.as_bytes(), None) else {
            continue;
        };
        fields.push((word.to_string(), code));
        if code == "container" && containers < CONTAINERS_MAX {
            containers += 1;
            let subcommand = |sub: &&str| {
                Some((
                    format!("{word}|{sub}"),
                    code_of(word.as_bytes(), Some(sub.as_bytes()))?,
                ))
            };
            fields.extend(words.iter().filter_map(subcommand));
        }
    }
    fields.truncate(KNOWN_MAX);
    let field = |(name, code): (String, &str)| match code {
        "1" => format!("['{name}']=1,"),
        _ => format!("['{name}']='{code}',"),
    };
    fields.into_iter().map(field).collect()
}

/// Where Lua begins. After a `#!` line the server leaves the line break in the text it compiles.
fn body(script: &[u8]) -> usize {
    if !script.starts_with(b"#!") {
        return 0;
    }
    memchr::memchr(b'\n', script).map_or(script.len(), |end| end + 1)
}
