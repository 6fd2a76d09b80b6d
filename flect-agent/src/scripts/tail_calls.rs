//! `return redis.call(...)` becomes `return (redis.call(...))`.
//!
//! Lua drops the frame of a function that ends by calling another, and with it the line that the server
//! shows in the error of that call. The server's own `redis.call` is no Lua function and keeps it; the
//! shim's is one. It returns one value, so the parentheses change nothing else.
//!
//! Invariant: only where the call is followed by the end of its block, so that a text which does not
//! compile is told so in the same words. What is not recognised works too, but for the line. Each word is
//! looked at a bounded number of times: a worker stands still meanwhile, for all of its stores.

use std::collections::{HashMap, HashSet};

use super::lexer::Token;

/// Room for the parentheses of most scripts.
pub(super) const ROOM_BYTES: usize = 64;

/// Appends `script` with its tail calls wrapped.
pub(super) fn wrap(script: &[u8], tokens: &[Token], out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = tokens
        .iter()
        .map(|token| &script[token.start..token.end])
        .collect();
    let aliases = aliases(&words);
    let closing = closing(&words);
    let mut copied = 0;
    for (at, word) in words.iter().enumerate() {
        if *word != b"return" {
            continue;
        }
        let Some(last) = tail_call(&words, at + 1, &aliases, &closing) else {
            continue;
        };
        let (open, close) = (tokens[at].end, tokens[last].end);
        if open < copied {
            // It stands inside the arguments of one that is wrapped already.
            continue;
        }
        out.extend_from_slice(&script[copied..open]);
        out.push(b'(');
        out.extend_from_slice(&script[open..close]);
        out.push(b')');
        copied = close;
    }
    out.extend_from_slice(&script[copied..]);
}

/// Where each opening parenthesis is closed.
fn closing(words: &[&[u8]]) -> HashMap<usize, usize> {
    let mut open = Vec::new();
    let mut closing = HashMap::new();
    for (at, word) in words.iter().enumerate() {
        match *word {
            b"(" => open.push(at),
            b")" => closing.extend(open.pop().map(|opened| (opened, at))),
            _ => {}
        }
    }
    closing
}

/// The closing parenthesis of a call at `at` that ends its block.
fn tail_call(
    words: &[&[u8]],
    at: usize,
    aliases: &HashSet<&[u8]>,
    closing: &HashMap<usize, usize>,
) -> Option<usize> {
    let open = match words.get(at..at + 3) {
        Some([object, b".", b"call"]) if is_api(object) => at + 3,
        _ if aliases.contains(words.get(at)?) => at + 1,
        _ => return None,
    };
    let close = *closing.get(&open)?;
    let ends = words.get(close + 1).is_none_or(|next| {
        let ends: [&[u8]; 5] = [b"end", b"else", b"elseif", b"until", b";"];
        ends.contains(next)
    });
    ends.then_some(close)
}

fn is_api(word: &[u8]) -> bool {
    word == b"redis" || word == b"server"
}

/// Names that are nothing but `redis.call` wherever they stand: `local rcall = redis.call`.
fn aliases<'a>(words: &[&'a [u8]]) -> HashSet<&'a [u8]> {
    let candidates: HashSet<&[u8]> = words
        .windows(6)
        .filter_map(|window| match window {
            [b"local", name, b"=", object, b".", b"call"] if is_api(object) => Some(*name),
            _ => None,
        })
        .collect();
    if candidates.is_empty() {
        return candidates;
    }
    let mut bound: HashMap<&[u8], usize> = HashMap::new();
    let mut at = 0;
    while at < words.len() {
        let listed = match words[at] {
            b"local" => words.get(at + 1) != Some(&b"function".as_slice()),
            b"for" => true,
            b"function" => {
                // Its name, then its parameters.
                while at + 1 < words.len() && words[at + 1] != b"(" {
                    at += 1;
                    *bound.entry(words[at]).or_default() += 1;
                }
                at += 1;
                true
            }
            _ => false,
        };
        if listed {
            while let Some(name) = words.get(at + 1) {
                *bound.entry(name).or_default() += 1;
                at += 2;
                if words.get(at) != Some(&b",".as_slice()) {
                    break;
                }
            }
        } else {
            if words.get(at + 1) == Some(&b"=".as_slice()) {
                *bound.entry(words[at]).or_default() += 1;
            }
            at += 1;
        }
    }
    candidates
        .into_iter()
        .filter(|name| bound.get(name) == Some(&1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::lexer::tokens;

    fn check(script: &str, expect: &str) {
        let mut out = Vec::new();
        wrap(script.as_bytes(), &tokens(script.as_bytes()), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn calls_at_the_end_of_a_block_are_wrapped() {
        check(
            "return redis.call('GET', k)",
            "return( redis.call('GET', k))",
        );
        check(
            "if x then return server.call('a', (1)) end return 1",
            "if x then return( server.call('a', (1))) end return 1",
        );
        check(
            "return redis.call('a') -- done\n",
            "return( redis.call('a')) -- done\n",
        );
        check(
            "local rcall = redis.call\nlocal f = function(k) return rcall('GET', k) end",
            "local rcall = redis.call\nlocal f = function(k) return( rcall('GET', k)) end",
        );
        check("return\nredis.call('a');", "return(\nredis.call('a'));");
    }

    #[test]
    fn everything_else_stays() {
        for script in [
            "",
            "return 1",
            "return redis.call('a') + 1",
            "return redis.call('a') or {}",
            "return redis.call('a').x",
            "return redis.call('a'), 2",
            "return redis.call('a'",
            "return redis.call 'a'",
            "return redis.pcall('a')",
            "return other.call('a')",
            "x = 'return redis.call(1)'",
            "-- return redis.call(1)\n",
            "--[[ return redis.call(1) ]]",
            "x = [==[ return redis.call(1) ]==]",
            "x = 'it\\'s return redis.call(1)'",
            "return redis.call('a') foo",
            // Another function of that name may return more.
            "local call = redis.call function f(call) return call(1) end",
            "local a, call = 1, f local call = redis.call return call(1)",
            "local call = redis.call call = f return call(1)",
            "local call = redis.call local function call() end return call(1)",
            "\"unfinished return redis.call(1)",
        ] {
            check(script, script);
        }
    }

    /// Were each call's end looked for anew, these would take minutes.
    #[test]
    fn calls_without_an_end_and_many_names_are_read_once() {
        let open = "return redis.call(".repeat(40_000);
        check(&open, &open);
        let names: String = (0..40_000)
            .map(|number| format!("local a{number}=redis.call return b{number}(1)"))
            .collect();
        check(&names, &names);
    }

    #[test]
    fn a_call_inside_the_arguments_of_another_stays() {
        check(
            "return redis.call(f(function() return redis.call('a') end))",
            "return( redis.call(f(function() return redis.call('a') end)))",
        );
    }
}
