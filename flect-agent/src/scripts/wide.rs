//! Which scripts ask for the names of all keys, as far as their text tells.
//!
//! The agent walks for the names, outside of the script. Where a script certainly asks before it changes
//! anything, it is begun without, says what it looks for, and begins anew with that. Any other script that
//! spells such a command gets all of the store's names beforehand.

use std::collections::HashSet;

use super::data;
use super::lexer::{Token, tokens};

/// Runs a command of its arguments' words: what the agent queues in a transaction for commands about all
/// keys, and SWAPDB.
pub const GENERIC: &[u8] = b"return redis.pcall(unpack(ARGV))";

/// Commands that need the names of all keys.
const WALKING: [&[u8]; 7] = [
    b"keys",
    b"scan",
    b"dbsize",
    b"randomkey",
    b"flushdb",
    b"flushall",
    b"swapdb",
];

/// When the agent walks for a script's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walks {
    /// It asks for none.
    No,
    /// When it asks.
    OnDemand,
    /// Before it begins.
    Beforehand,
}

impl Walks {
    /// How it is noted for other nodes.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::No => "",
            Self::OnDemand => "d",
            Self::Beforehand => "b",
        }
    }

    /// What another node has noted.
    #[must_use]
    pub fn of_letter(letter: &[u8]) -> Self {
        match letter {
            b"d" => Self::OnDemand,
            b"b" => Self::Beforehand,
            _ => Self::No,
        }
    }
}

/// Whether a word is the name of a command that needs the names of all keys.
#[must_use]
pub fn is_about_all_keys(word: &[u8]) -> bool {
    // Nine letters at most: arguments are often long.
    word.len() <= 9 && WALKING.iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// When to walk for a script.
pub(super) fn walks(script: &[u8]) -> Walks {
    let tokens = tokens(script);
    let words = words(script, &tokens);
    let strings = || words.iter().filter_map(|word| string(word));
    if !strings().any(is_about_all_keys) {
        return Walks::No;
    }
    if asks_first(&words) {
        Walks::OnDemand
    } else {
        Walks::Beforehand
    }
}

/// Whether a script may need the shim's part for all keys: it spells such a command, or SORT, or it
/// makes up names of commands.
pub(super) fn may_need(script: &[u8], tokens: &[Token]) -> bool {
    let words = words(script, tokens);
    let spells = |word: &&[u8]| {
        string(word).is_some_and(|word| {
            is_about_all_keys(word)
                || word.eq_ignore_ascii_case(b"sort")
                || word.eq_ignore_ascii_case(b"sort_ro")
        })
    };
    words.iter().any(spells) || makes_up_names(&words)
}

pub(super) fn words<'a>(script: &'a [u8], tokens: &[Token]) -> Vec<&'a [u8]> {
    let word = |token: &Token| &script[token.start..token.end];
    tokens.iter().map(word).collect()
}

/// What is between the quotes of a string.
pub(super) fn string(word: &[u8]) -> Option<&[u8]> {
    let (quote, rest) = word.split_first()?;
    let (_, inside) = rest.split_last()?;
    matches!(quote, b'\'' | b'"').then_some(inside)
}

/// Whether the first thing that could change anything comes after all that could ask for names: in the
/// main chunk each is reached in the order of the text, but for functions, loops and what catches errors.
pub(super) fn asks_first(words: &[&[u8]]) -> bool {
    let mut may_have_changed = makes_up_names(words);
    let mut before = None;
    for word in words {
        match *word {
            b"function" | b"do" | b"while" | b"repeat" => may_have_changed = true,
            // It would catch the question. `redis.pcall` does not.
            b"pcall" if before != Some(b".".as_slice()) => return false,
            b"xpcall" | b"loadstring" | b"load" | b"coroutine" => return false,
            _ => match string(word) {
                Some(word) if is_about_all_keys(word) => {
                    if may_have_changed {
                        return false;
                    }
                    may_have_changed = word.len() > 4 && word[0].eq_ignore_ascii_case(&b'f')
                        || word.eq_ignore_ascii_case(b"swapdb");
                }
                Some(word) => may_have_changed |= data::writes(word),
                None => {}
            },
        }
        before = Some(*word);
    }
    true
}

/// Whether a call's first argument is anything but a string, or the function is handed on. A function
/// that only gets a name of its own (`local rcall = redis.call`) is followed.
pub(super) fn makes_up_names(words: &[&[u8]]) -> bool {
    // Asked of every word of a text that may be made of names.
    let mut names: HashSet<&[u8]> = HashSet::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        if string(word).is_some_and(|word| word == b"call" || word == b"pcall") {
            return true;
        }
        let is_method = at > 0 && words[at - 1] == b"." && matches!(*word, b"call" | b"pcall");
        if !is_method && !names.contains(word) {
            continue;
        }
        if next == b"(" {
            if words.get(at + 2).is_none_or(|word| string(word).is_none()) {
                return true;
            }
        } else if string(next).is_none() {
            // `local name = redis.call`
            let named = at
                .checked_sub(5)
                .is_some_and(|from| words[from] == b"local" && words[from + 2] == b"=");
            let declared = at > 0 && words[at - 1] == b"local";
            if is_method && named {
                names.insert(words[at - 4]);
            } else if !declared {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expect: Walks) {
        assert_eq!(walks(script.as_bytes()), expect, "{script}");
    }

    #[test]
    fn scripts_that_ask_first_are_asked_what_for() {
        for script in [
            "return redis.call('KEYS', ARGV[1])",
            "local k = redis.call('keys', '*') for i = 1, #k do redis.call('DEL', k[i]) end",
            "return redis.call('DEL', unpack(redis.call('KEYS', ARGV[1])))",
            "for _, k in ipairs(redis.call('keys', ARGV[1])) do redis.call('del', k) end",
            "if redis.call('GET', 'a') then return redis.call('DBSIZE') end",
            "redis.call('FLUSHDB')",
        ] {
            let first = if script.contains("DEL'") && script.find("DEL") < script.find("KEYS") {
                Walks::Beforehand
            } else {
                Walks::OnDemand
            };
            check(script, first);
        }
        for script in [
            "redis.call('SET', 'a', 1) return redis.call('KEYS', '*')",
            "local function f() return redis.call('KEYS', '*') end redis.call('SET', 'a', 1) return f()",
            "repeat local r = redis.call('SCAN', c) redis.call('DEL', 'a') until r[1] == '0'",
            "redis.call('FLUSHDB') return redis.call('KEYS', '*')",
            "return pcall(function() return redis.call('KEYS', '*') end)",
            "redis.call(ARGV[1], 'a') return redis.call('KEYS', '*')",
        ] {
            check(script, Walks::Beforehand);
        }
        check("return redis.call('GET', 'keys:1')", Walks::No);
        check("-- 'KEYS'\nreturn 1", Walks::No);
    }

    #[test]
    fn made_up_names_are_seen() {
        let makes_up = |script: &str| {
            let tokens = tokens(script.as_bytes());
            makes_up_names(&words(script.as_bytes(), &tokens))
        };
        for script in [
            "return redis.call(unpack(ARGV))",
            "local f = {redis.call} return f[1]('KEYS', '*')",
            "return redis['call']('KEYS')",
            "local rcall = redis.call return rcall(ARGV[1])",
            "return pcall(redis.call, 'GET', 'a')",
        ] {
            assert!(makes_up(script), "{script}");
        }
        for script in [
            "return redis.call('GET', KEYS[1])",
            "local rcall = redis.call\nreturn rcall(\"GET\", KEYS[1])",
            "local rcall = redis.pcall; return rcall 'PING'",
            "return 1",
        ] {
            assert!(!makes_up(script), "{script}");
        }
    }
}
