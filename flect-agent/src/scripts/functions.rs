//! Libraries of functions: the server has one registry for all stores, so a store's libraries and functions
//! bear its id in front of their names there, and each text the agent's shim behind its first line.
//!
//! Invariant: what is needed to give an app its own text back stands in the server's text, so the server
//! alone says what libraries there are. No store's names begin as another's do: ids hold no underscore.

use super::text;
use crate::store::Prefix;

/// What a store's libraries and functions are called on the server: `flect_{id}_{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionNames(String);

/// What stands before a store's id in the names of its functions.
pub const NAMES: &str = "flect_";

/// What the agent's note in a server's text begins with; the number is that of the note's form.
const NOTE: &str = "--[[flect 1 ";

/// An app's library as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its text, whole.
    pub text: Vec<u8>,
}

/// The server's words for names that it does not take (`functionsVerifyName` in functions.c).
const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

impl FunctionNames {
    /// Those of a store.
    #[must_use]
    pub fn of(prefix: &Prefix) -> Self {
        Self(format!(
            "{NAMES}{}_",
            prefix.as_str().trim_matches(['{', '}'])
        ))
    }

    /// What they begin with.
    #[must_use]
    pub fn beginning(&self) -> &str {
        &self.0
    }

    /// The server's name for the app's.
    #[must_use]
    pub fn of_server(&self, name: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), name].concat()
    }

    /// The app's name for the server's; `None` for another store's.
    #[must_use]
    pub fn of_app<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        name.strip_prefix(self.0.as_bytes())
    }

    /// A text of the server's with the app's names in it.
    #[must_use]
    pub fn strip(&self, text: &str) -> String {
        text.replace(&self.0, "")
    }
}

impl Library {
    /// Reads a text's first line as the server does (`functionExtractLibMetaData` in functions.c).
    ///
    /// # Errors
    /// The server's words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if !text.starts_with(b"#!") {
            return Err("Missing library metadata".to_owned());
        }
        let invalid = || "Invalid library metadata".to_owned();
        // The server looks for the end of a C string.
        let end = memchr::memchr2(b'\n', 0, text).ok_or_else(invalid)?;
        if text[end] != b'\n' {
            return Err(invalid());
        }
        let parts = split_arguments(&text[..end]).ok_or_else(invalid)?;
        let (first, rest) = parts.split_first().ok_or_else(invalid)?;
        let engine = first.get(2..).unwrap_or_default();
        let mut name: Option<&[u8]> = None;
        for part in rest {
            let is_name = part
                .get(..5)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"name="));
            if !is_name {
                let part = String::from_utf8_lossy(part);
                return Err(format!("Invalid metadata value given: {part}"));
            }
            if name.is_some() {
                return Err(
                    "Invalid metadata value, name argument was given multiple times".to_owned(),
                );
            }
            name = Some(&part[5..]);
        }
        let name = name.ok_or("Library name was not given")?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name.is_empty() || !name.iter().all(plain) {
            return Err(BAD_NAME.to_owned());
        }
        if !engine.eq_ignore_ascii_case(b"lua") {
            let engine = String::from_utf8_lossy(engine);
            return Err(format!("Engine '{engine}' not found"));
        }
        Ok(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            text: text.to_vec(),
        })
    }

    /// The text that the server gets.
    #[must_use]
    pub fn server_text(&self, prefix: &Prefix, databases: u32) -> Vec<u8> {
        let names = FunctionNames::of(prefix);
        let end = memchr::memchr(b'\n', &self.text).unwrap_or(self.text.len());
        let (first_line, body) = self.text.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let shimmed = text::library(body, prefix, names.beginning(), databases);
        let hex: String = first_line
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let added: Vec<String> = added(body, &shimmed.body)
            .iter()
            .map(ToString::to_string)
            .collect();
        let head = format!(
            "#!lua name={}{}\n{NOTE}{hex} {} {}]]",
            names.beginning(),
            self.name,
            shimmed.preface.len(),
            added.join(","),
        );
        [head.as_bytes(), shimmed.preface.as_bytes(), &shimmed.body].concat()
    }

    /// The app's text of a server's; `None` when the agent has not made it.
    #[must_use]
    pub fn app_text(server_text: &[u8]) -> Option<Vec<u8>> {
        let line = memchr::memchr(b'\n', server_text)? + 1;
        let note = server_text[line..].strip_prefix(NOTE.as_bytes())?;
        let end = memchr::memmem::find(note, b"]]")?;
        let rest = &note[end + 2..];
        let words = std::str::from_utf8(&note[..end]).ok()?;
        let mut words = words.split(' ');
        let first_line = from_hex(words.next()?)?;
        let body = rest.get(words.next()?.parse::<usize>().ok()?..)?;
        let mut text = first_line;
        text.push(b'\n');
        let mut from = 0;
        for at in words.next()?.split(',').filter(|at| !at.is_empty()) {
            let at: usize = at.parse().ok()?;
            text.extend_from_slice(body.get(from..at)?);
            from = at + 1;
        }
        text.extend_from_slice(body.get(from..)?);
        Some(text)
    }
}

/// Where `longer` has a byte that `text` has not, when that is the only difference.
fn added(text: &[u8], longer: &[u8]) -> Vec<usize> {
    let mut text = text.iter().peekable();
    let mut added = Vec::new();
    for (at, byte) in longer.iter().enumerate() {
        if text.next_if(|next| *next == byte).is_none() {
            added.push(at);
        }
    }
    added
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Words of a line, in quotes or not, as the server reads them (`sdssplitargs` in sds.c).
fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at == line.len() {
            return Some(all);
        }
        let mut word = Vec::new();
        while let Some(&byte) = line.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' | b'\'' => {
                    at = quoted(line, at + 1, byte, &mut word)?;
                    // A closing quote ends a word.
                    if line.get(at).is_some_and(|byte| !is_space(*byte)) {
                        return None;
                    }
                    break;
                }
                byte => word.push(byte),
            }
            at += 1;
        }
        all.push(word);
    }
}

/// The inside of quotes; answers what is behind them.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *line.get(at)?;
        let next = line.get(at + 1).copied();
        match (byte, next) {
            (b'\\', Some(b'\'')) if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            (b'\\', Some(next)) if quote == b'"' => {
                let hex = (next == b'x')
                    .then(|| line.get(at + 2..at + 4))
                    .flatten()
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                if let Some(byte) = hex {
                    word.push(byte);
                    at += 4;
                    continue;
                }
                word.push(crate::resp::unescaped(next));
                at += 2;
            }
            _ if byte == quote => return Some(at + 1),
            _ => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// What an error of FUNCTION LOAD says, in the words that the server has for the app's own text: types
/// cannot be asked for while a library is loaded, so the shim fails over them in its own ways.
#[must_use]
pub fn load_error(text: &str, names: &FunctionNames) -> String {
    const MUST: [(&str, &str); 6] = [
        (
            "attempt to concatenate local 'first_argument'",
            "first argument to server.register_function must be a string",
        ),
        (
            "bad argument #1 to 'second_argument'",
            "second argument to server.register_function must be a function",
        ),
        (
            "attempt to index local 'named_arguments'",
            "calling server.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        ),
        (
            "attempt to concatenate local 'function_name'",
            "function_name argument given to server.register_function must be a string",
        ),
        (
            "attempt to concatenate local 'description'",
            "description argument given to server.register_function must be a string",
        ),
        (
            "bad argument #1 to 'callback'",
            "callback argument given to server.register_function must be a function",
        ),
    ];
    let text = names.strip(text);
    let Some((head, message)) = text.split_once("user_function:2: ") else {
        return call_of_nothing(&text);
    };
    match MUST.iter().find(|(ours, _)| message.starts_with(ours)) {
        Some((_, servers)) => format!("{head}{servers}"),
        None => call_of_nothing(&text),
    }
}

/// `redis.call()` is no function yet while a library is loaded; the server has a text for that.
fn call_of_nothing(text: &str) -> String {
    let nothing = || {
        let (head, rest) = text.split_once("attempt to call ")?;
        let (kind, rest) = rest.split_once(" '")?;
        let (name, rest) = rest.split_once('\'')?;
        let is_ours = rest == " (a nil value)"
            && head.starts_with("ERR Error registering functions: ")
            && (kind == "field" || ["loadstring", "load", "getfenv", "setfenv"].contains(&name));
        is_ours.then(|| {
            format!("{head}Script attempted to access nonexistent global variable '{name}'")
        })
    };
    nothing().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests;
