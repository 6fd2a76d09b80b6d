//! Which functions of a library ask for the names of all keys, as far as its text tells.
//!
//! The library's top-level statements are looked at: one that spells such a command asks, and so does one
//! that uses what an asking one has defined. Too many are taken to ask rather than too few: those cost a
//! walk more, a function that is missed is refused its names and changes nothing by that.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::Token;
use super::wide::{asks_first, is_about_all_keys, makes_up_names, string, words};

/// When the agent walks for a function's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    /// When one of its arguments is the name of such a command.
    Told,
    /// When it asks, which it does before it changes anything.
    First,
    /// When it asks or wants to change something, whichever comes first.
    Careful,
    /// Before it begins.
    Beforehand,
}

/// What stands before the letter in a function's description on the server.
const NOTE: &str = "flect:";

impl Asks {
    const ALL: [(Self, u8); 4] = [
        (Self::Told, b't'),
        (Self::First, b'd'),
        (Self::Careful, b'c'),
        (Self::Beforehand, b'b'),
    ];

    fn letter(self) -> char {
        let known = Self::ALL.iter().find(|(asks, _)| *asks == self);
        char::from(known.map_or(b't', |(_, letter)| *letter))
    }
}

/// The app's own description in the server's, and what is noted behind it.
#[must_use]
pub fn described(description: &[u8]) -> (Option<&[u8]>, Option<Asks>) {
    let noted = description.split_last().and_then(|(letter, rest)| {
        let (asks, _) = Asks::ALL.iter().find(|(_, known)| known == letter)?;
        Some((*asks, rest.strip_suffix(NOTE.as_bytes())?))
    });
    match noted {
        None => (Some(description), None),
        Some((asks, b"")) => (None, Some(asks)),
        Some((asks, rest)) => match rest.strip_suffix(b"\n") {
            Some(own) => (Some(own), Some(asks)),
            None => (Some(description), None),
        },
    }
}

/// The fields of a Lua table from functions' names to letters; `1` stands for all that have none.
pub(super) fn table(body: &[u8], tokens: &[Token]) -> String {
    let (named, others) = askers(&words(body, tokens));
    let mut out: String = named
        .iter()
        .map(|(name, asks)| format!("['{name}']='{}',", asks.letter()))
        .collect();
    if let Some(asks) = others {
        out.insert_str(0, &format!("'{}',", asks.letter()));
    }
    out
}

/// Words that cannot be names.
const KEYWORDS: [&[u8]; 21] = [
    b"and",
    b"break",
    b"do",
    b"else",
    b"elseif",
    b"end",
    b"false",
    b"for",
    b"function",
    b"if",
    b"in",
    b"local",
    b"nil",
    b"not",
    b"or",
    b"repeat",
    b"return",
    b"then",
    b"true",
    b"until",
    b"while",
];

/// A statement at the top of a library.
struct Statement<'a> {
    words: Vec<&'a [u8]>,
    defines: BTreeSet<&'a [u8]>,
    asks: Option<Asks>,
}

fn askers(words: &[&[u8]]) -> (BTreeMap<String, Asks>, Option<Asks>) {
    let others = makes_up_names(words).then_some(Asks::Told);
    let mut statements = statements(words);
    let catches = words.iter().enumerate().any(|(at, word)| match *word {
        b"pcall" => at == 0 || words[at - 1] != b".",
        b"xpcall" | b"loadstring" | b"load" | b"coroutine" => true,
        _ => false,
    });
    let spells = |word: &&[u8]| string(word).is_some_and(is_about_all_keys);
    for statement in &mut statements {
        if statement.words.iter().any(spells) {
            statement.asks = Some(own_way(&statement.words));
        }
    }
    spread(&mut statements);
    let mut named = BTreeMap::new();
    let mut rest = others;
    for statement in &statements {
        let Some(mut asks) = statement.asks else {
            continue;
        };
        if catches {
            asks = Asks::Beforehand;
        }
        let (names, all) = registers(&statement.words);
        for name in names {
            named.insert(name, asks);
        }
        if !all {
            rest = rest.max(Some(asks));
        }
    }
    (named, rest)
}

/// How a statement asks that spells a command itself.
fn own_way(words: &[&[u8]]) -> Asks {
    let body = words.iter().position(|word| *word == b"function");
    match body {
        Some(at) if asks_first(&words[at + 1..]) => Asks::First,
        _ => Asks::Careful,
    }
}

/// What uses something that asks, asks.
fn spread(statements: &mut [Statement<'_>]) {
    loop {
        let mut ways: BTreeMap<&[u8], Asks> = BTreeMap::new();
        for statement in statements.iter() {
            for name in &statement.defines {
                if let Some(asks) = statement.asks {
                    let way = ways.entry(name).or_insert(asks);
                    *way = (*way).max(asks);
                }
            }
        }
        let mut changed = false;
        for statement in statements.iter_mut() {
            let uses = |word: &&&[u8]| !statement.defines.contains(**word);
            let used = statement.words.iter().filter(uses);
            let Some(most) = used.filter_map(|word| ways.get(word)).max() else {
                continue;
            };
            // One that only hands the function on leaves it as it is.
            let asks = if is_plain_registration(&statement.words) {
                *most
            } else {
                Asks::Careful
            };
            if statement.asks < Some(asks) {
                statement.asks = Some(asks);
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// `server.register_function('name', function_name)`, and nothing else.
fn is_plain_registration(words: &[&[u8]]) -> bool {
    matches!(words, [_, b".", b"register_function", b"(", name, b",", _, b")"] if string(name).is_some())
}

/// The names that are registered in a statement, and whether they are all.
fn registers(words: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut names, mut all) = (Vec::new(), true);
    for (at, word) in words.iter().enumerate() {
        if *word != b"register_function" {
            continue;
        }
        let rest = &words[at + 1..];
        let name = match rest {
            [b"(", name, b",", ..] => string(name),
            [b"{", ..] | [b"(", b"{", ..] => {
                let field = |three: &&[&[u8]]| {
                    three[0].eq_ignore_ascii_case(b"function_name") && three[1] == b"="
                };
                rest.windows(3)
                    .find(field)
                    .and_then(|three| string(three[2]))
            }
            _ => None,
        };
        let plain = |name: &&[u8]| {
            name.iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        match name.filter(plain) {
            Some(name) => names.push(String::from_utf8_lossy(name).into_owned()),
            None => all = false,
        }
    }
    (names, all)
}

fn statements<'a>(words: &[&'a [u8]]) -> Vec<Statement<'a>> {
    let mut all: Vec<Statement<'a>> = Vec::new();
    let mut depth = 0_usize;
    let mut before: &[u8] = b"";
    for word in words {
        let starts = depth == 0 && (before.is_empty() || begins(word, before));
        if starts || all.is_empty() {
            all.push(Statement {
                words: Vec::new(),
                defines: BTreeSet::new(),
                asks: None,
            });
        }
        match *word {
            b"function" | b"if" | b"do" | b"repeat" | b"(" | b"{" | b"[" => depth += 1,
            b"end" | b"until" | b")" | b"}" | b"]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.words.push(word);
        }
        before = word;
    }
    for statement in &mut all {
        statement.defines = defines(&statement.words);
    }
    all
}

fn is_name(word: &[u8]) -> bool {
    let first = word.first().copied().unwrap_or(b' ');
    (first.is_ascii_alphabetic() || first == b'_') && !KEYWORDS.contains(&word)
}

/// Whether a word at the top begins a statement behind this one.
fn begins(word: &[u8], before: &[u8]) -> bool {
    const STARTS: [&[u8]; 6] = [b"local", b"if", b"for", b"while", b"repeat", b"return"];
    if before == b";" || STARTS.contains(&word) {
        return true;
    }
    const ENDS: [&[u8]; 6] = [b")", b"]", b"}", b"end", b"nil", b"true"];
    let ended = ENDS.contains(&before)
        || before == b"false"
        || is_name(before)
        || string(before).is_some()
        || before.iter().all(u8::is_ascii_digit);
    ended && (is_name(word) || word == b"function")
}

/// The names that a statement gives to something.
fn defines<'a>(words: &[&'a [u8]]) -> BTreeSet<&'a [u8]> {
    let names = |words: &[&'a [u8]]| words.iter().copied().filter(|word| is_name(word)).collect();
    match words {
        [b"local", b"function", name, ..] => BTreeSet::from([*name]),
        [b"function", rest @ ..] => {
            let end = rest.iter().position(|word| *word == b"(");
            names(&rest[..end.unwrap_or(rest.len())])
        }
        [b"local", rest @ ..] => {
            let end = rest.iter().position(|word| *word == b"=");
            names(&rest[..end.unwrap_or(rest.len())])
        }
        _ => match words.iter().position(|word| *word == b"=" || *word == b"(") {
            Some(end) if words[end] == b"=" => names(&words[..end]),
            _ => BTreeSet::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn check(text: &str, expect: &str) {
        let text = text.as_bytes();
        assert_eq!(table(text, &tokens(text)), expect);
    }

    #[test]
    fn functions_that_ask_are_found() {
        check(
            "server.register_function('f', function(k) return server.call('GET', k[1]) end)",
            "",
        );
        check(
            "server.register_function('f', function() return server.call('KEYS', '*') end)\nserver.register_function('g', function() return server.call('SET', 'keys:1', 'v') end)",
            "['f']='d',",
        );
        check(
            "local function count() return server.call('DBSIZE') end\nlocal function put(k) server.call('SET', k[1], 1) return count() end\nserver.register_function('put', put)\nserver.register_function('count', count)\nserver.register_function('no', function() return 1 end)",
            "['count']='d',['put']='c',",
        );
        check(
            "server.register_function{function_name='f', callback=function() server.call('SET', 'a', 1) return server.call('KEYS', '*') end}",
            "['f']='c',",
        );
        check(
            "local function safe() return pcall(server.call, 'KEYS', '*') end server.register_function('f', safe)",
            "'t',['f']='b',",
        );
        check(
            "local M = {} function M.all() return server.call('KEYS', '*') end\nfunction M.one() return 1 end for n, f in pairs(M) do server.register_function(n, f) end",
            "'c',",
        );
        check(
            "local M = { all = function() return server.call('KEYS', '*') end } for n, f in pairs(M) do server.register_function(n, f) end",
            "'c',",
        );
        check(
            "server.register_function('f', function(k, a) return server.call(a[1], 'k') end)",
            "'t',",
        );
    }

    #[test]
    fn notes_come_out_of_descriptions() {
        assert_eq!(described(b"flect:c"), (None, Some(Asks::Careful)));
        assert_eq!(
            described(b"x\nflect:d"),
            (Some(&b"x"[..]), Some(Asks::First))
        );
        assert_eq!(
            described(b"\nflect:b"),
            (Some(&b""[..]), Some(Asks::Beforehand))
        );
        for own in [&b"x"[..], b"", b"xflect:c", b"flect:", b"flect:z"] {
            assert_eq!(described(own), (Some(own), None));
        }
    }
}
