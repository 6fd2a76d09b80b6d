//! Lua's words, as far as it takes to find a call and its end.
//!
//! Invariant: what is in a string or a comment is no token; a text that ends inside one has no tokens
//! behind its beginning.

/// A word, a string, a number or a single character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The tokens of a script. `==` and the like are one token each, so that `=` is an assignment.
pub(super) fn tokens(script: &[u8]) -> Vec<Token> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(&byte) = script.get(at) {
        let rest = &script[at..];
        let (bytes, is_token) = match byte {
            _ if byte.is_ascii_whitespace() || byte == 0x0b => (1, false),
            b'-' if rest.starts_with(b"--") => match comment(rest) {
                Some(bytes) => (bytes, false),
                None => return all,
            },
            b'\'' | b'"' => match quoted(rest) {
                Some(bytes) => (bytes, true),
                None => return all,
            },
            b'[' => match long_bracket(rest) {
                Long::Closed(bytes) => (bytes, true),
                Long::Open => return all,
                Long::No => (1, true),
            },
            b'=' | b'~' | b'<' | b'>' if rest.get(1) == Some(&b'=') => (2, true),
            _ if is_word(byte) => (rest.iter().take_while(|byte| is_word(**byte)).count(), true),
            _ => (1, true),
        };
        if is_token {
            all.push(Token {
                start: at,
                end: at + bytes,
            });
        }
        at += bytes;
    }
    all
}

/// Letters of other alphabets are letters to the server's Lua or wrong; either way no keyword ends
/// before them.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a comment.
fn comment(text: &[u8]) -> Option<usize> {
    match long_bracket(&text[2..]) {
        Long::Closed(bytes) => Some(bytes + 2),
        Long::Open => None,
        Long::No => Some(memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())),
    }
}

/// The length of a string in quotes; a line break must be escaped.
fn quoted(text: &[u8]) -> Option<usize> {
    let quote = text[0];
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            b'\n' => return None,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

enum Long {
    /// None begins here.
    No,
    /// It has no end.
    Open,
    /// So many bytes.
    Closed(usize),
}

/// `[[ ... ]]`, `[==[ ... ]==]`.
fn long_bracket(text: &[u8]) -> Long {
    if text.first() != Some(&b'[') {
        return Long::No;
    }
    let level = text[1..].iter().take_while(|byte| **byte == b'=').count();
    if text.get(1 + level) != Some(&b'[') {
        return Long::No;
    }
    let mut close = vec![b'='; level + 2];
    close[0] = b']';
    close[level + 1] = b']';
    let inside = &text[level + 2..];
    match memchr::memmem::find(inside, &close) {
        Some(at) => Long::Closed(at + 2 * (level + 2)),
        None => Long::Open,
    }
}
