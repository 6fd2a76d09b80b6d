//! Errors: the store's prefixes and the upstream user's name are taken out of their text.
//!
//! Invariant: the result depends on the text alone, not on how it was cut; a text of any length needs
//! a bounded look ahead.

use super::reply::{ScriptNames, store_prefix};
use crate::scripts::{FUNCTION_NAMES as NAMES, SHA_BYTES, Sha};
use crate::store::Namespace;

/// The longest name of an ACL user that is recognised; the agent's own are far shorter.
const USER_BYTES_MAX: usize = 128;

/// The longest database number.
const DATABASE_DIGITS_MAX: usize = 10;

const USER: &[u8] = b"User ";

/// What stands before a script's name (`luaCallFunction` in script_lua.c).
const SCRIPT: &[u8] = b"script: ";

/// The name of the user in a private Valkey where nobody ever said AUTH.
const DEFAULT_USER: &[u8] = b"default";

const NO_PERMISSIONS: &[u8] = b" has no permissions";

/// Copies `text` to `out` without names that are not the client's, and says how much of it is done;
/// all of it when `whole`, else a piece at the end may be left undecided.
pub(super) fn append(
    text: &[u8],
    whole: bool,
    namespace: &Namespace,
    scripts: &[ScriptNames],
    out: &mut Vec<u8>,
) -> usize {
    let prefix = store_prefix(namespace);
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b'{', USER[0], SCRIPT[0], &text[at..]) {
        let candidate = at + found;
        out.extend_from_slice(&text[at..candidate]);
        at = candidate;
        let rest = &text[at..];
        let found = match rest[0] {
            b'{' => store_name(rest, whole, prefix),
            byte if byte == USER[0] => user(rest, whole),
            _ => script(rest, whole, prefix, scripts),
        };
        match found {
            Found::Nothing => {
                out.push(rest[0]);
                at += 1;
            }
            // A line feed behind a name must not come to stand behind a carriage return before it: that ends the line.
            Found::Name { bytes } => match text.get(at + bytes) {
                None if !whole => return at,
                Some(b'\n') => {
                    out.push(b' ');
                    at += bytes + 1;
                }
                _ => at += bytes,
            },
            Found::User { bytes } => {
                out.extend_from_slice(USER);
                out.extend_from_slice(DEFAULT_USER);
                at += bytes;
            }
            Found::Script { app } => {
                out.extend_from_slice(SCRIPT);
                out.extend_from_slice(app.as_bytes());
                at += SCRIPT.len() + SHA_BYTES;
            }
            Found::Function { bytes } => {
                out.extend_from_slice(SCRIPT);
                at += SCRIPT.len() + bytes;
            }
            Found::Undecided => return at,
        }
    }
    out.extend_from_slice(&text[at..]);
    text.len()
}

enum Found {
    Nothing,
    /// A prefix of the store, with its database.
    Name {
        bytes: usize,
    },
    /// `User ` and a name.
    User {
        bytes: usize,
    },
    /// `script: ` and what the server calls it.
    Script {
        app: Sha,
    },
    /// `script: ` and what stands before a function's name.
    Function {
        bytes: usize,
    },
    Undecided,
}

/// Compares the beginning of `text` with `expect`; `None` when there is too little of it.
fn begins(text: &[u8], whole: bool, expect: &[u8]) -> Option<bool> {
    let common = text.len().min(expect.len());
    if text[..common] != expect[..common] {
        Some(false)
    } else if common == expect.len() {
        Some(true)
    } else if whole {
        Some(false)
    } else {
        None
    }
}

/// `{k7m2x}`, with `:` or `/3:` after it when there is one.
fn store_name(text: &[u8], whole: bool, prefix: &[u8]) -> Found {
    match begins(text, whole, prefix) {
        None => return Found::Undecided,
        Some(false) => return Found::Nothing,
        Some(true) => {}
    }
    let alone = Found::Name {
        bytes: prefix.len(),
    };
    let rest = &text[prefix.len()..];
    match rest.first() {
        Some(b':') => Found::Name {
            bytes: prefix.len() + 1,
        },
        Some(b'/') => {
            let digits = rest[1..]
                .iter()
                .take(DATABASE_DIGITS_MAX)
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            match rest.get(1 + digits) {
                Some(b':') if digits > 0 => Found::Name {
                    bytes: prefix.len() + digits + 2,
                },
                None if !whole => Found::Undecided,
                _ => alone,
            }
        }
        None if !whole => Found::Undecided,
        _ => alone,
    }
}

/// `User flect-k7m2x has no permissions`, in NOPERM errors and inside those of scripts.
fn user(text: &[u8], whole: bool) -> Found {
    match begins(text, whole, USER) {
        None => return Found::Undecided,
        Some(false) => return Found::Nothing,
        Some(true) => {}
    }
    let rest = &text[USER.len()..];
    let name = &rest[..rest.len().min(USER_BYTES_MAX)];
    let Some(end) = memchr::memchr(b' ', name) else {
        return if whole || name.len() == USER_BYTES_MAX {
            Found::Nothing
        } else {
            Found::Undecided
        };
    };
    match begins(&rest[end..], whole, NO_PERMISSIONS) {
        None => Found::Undecided,
        Some(false) => Found::Nothing,
        Some(true) => Found::User {
            bytes: USER.len() + end,
        },
    }
}

/// `script: 5bf9...` or `script: flect_k7m2x_name`, as the app calls it.
fn script(text: &[u8], whole: bool, prefix: &[u8], scripts: &[ScriptNames]) -> Found {
    match begins(text, whole, SCRIPT) {
        None => return Found::Undecided,
        Some(false) => return Found::Nothing,
        Some(true) => {}
    }
    match function(&text[SCRIPT.len()..], whole, prefix) {
        Some(0) => {}
        Some(bytes) => return Found::Function { bytes },
        None => return Found::Undecided,
    }
    if scripts.is_empty() {
        return Found::Nothing;
    }
    let Some(sha) = text.get(SCRIPT.len()..SCRIPT.len() + SHA_BYTES) else {
        return if whole {
            Found::Nothing
        } else {
            Found::Undecided
        };
    };
    scripts
        .iter()
        .find(|names| names.server.as_bytes() == sha)
        .map_or(Found::Nothing, |names| Found::Script { app: names.app })
}

/// How many bytes stand before a function's own name; `None` when there are too few to tell.
fn function(text: &[u8], whole: bool, prefix: &[u8]) -> Option<usize> {
    let id = prefix.get(1..prefix.len() - 1).unwrap_or_default();
    let mut bytes = 0;
    for part in [NAMES.as_bytes(), id, b"_"] {
        if !begins(&text[bytes..], whole, part)? {
            return Some(0);
        }
        bytes += part.len();
    }
    Some(bytes)
}
