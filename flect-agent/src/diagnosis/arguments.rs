//! A request's arguments as Valkey's log keeps them: at most 32, of each at most 128 bytes.
//!
//! Invariant: what is secret in a login never gets here.

use crate::commands::Command;
use crate::resp::request::Request;
use crate::store::Prefix;

/// Arguments of an entry (`COMMANDLOG_ENTRY_MAX_ARGC` in commandlog.h).
const ARGUMENTS_MAX: usize = 32;

/// Bytes of an argument (`COMMANDLOG_ENTRY_MAX_STRING` in commandlog.h).
const ARGUMENT_BYTES_MAX: usize = 128;

const REDACTED: &[u8] = b"(redacted)";

/// A request's arguments, trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    /// Of a request as its app sent it.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let argc = request.argc();
        let mut arguments = Self::begin(argc);
        for at in 0..kept(argc) {
            arguments.push(request.arg(at), request.arg(at).len());
        }
        arguments.redact();
        arguments.end(argc)
    }

    /// Of a request on its way to the server, as far as its bytes are here: without the store's prefix.
    #[must_use]
    pub fn of_bytes(bytes: &[u8], prefix: Option<&Prefix>) -> Self {
        let mut rest = bytes;
        let Some(argc) = number(&mut rest, b'*') else {
            return Self::default();
        };
        let mut arguments = Self::begin(argc);
        let mut there = 0;
        while there < kept(argc) {
            let Some(length) = number(&mut rest, b'$') else {
                break;
            };
            let (here, behind) = rest.split_at(length.min(rest.len()));
            rest = behind.get(2..).unwrap_or_default();
            let own = prefix.map_or(here, |prefix| own_name(here, prefix));
            arguments.push(own, length - (here.len() - own.len()));
            there += 1;
        }
        arguments.redact();
        arguments.end(argc)
    }

    /// Where only the command is known.
    #[must_use]
    pub fn of_command(command: &Command) -> Self {
        let words = command.name.split('|');
        Self(words.map(|word| word.to_uppercase().into_bytes()).collect())
    }

    /// The arguments.
    #[must_use]
    pub fn get(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn begin(argc: usize) -> Self {
        Self(Vec::with_capacity(argc.min(ARGUMENTS_MAX)))
    }

    /// One more argument of so many bytes, of which these are there.
    fn push(&mut self, bytes: &[u8], length: usize) {
        let mut kept = bytes[..bytes.len().min(ARGUMENT_BYTES_MAX)].to_vec();
        if length > ARGUMENT_BYTES_MAX {
            let more = length - ARGUMENT_BYTES_MAX;
            kept.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
        }
        self.0.push(kept);
    }

    fn end(mut self, argc: usize) -> Self {
        let more = argc - self.0.len();
        if more > 0 {
            self.0
                .push(format!("... ({more} more arguments)").into_bytes());
        }
        self
    }

    /// Takes out the user and the password of AUTH and HELLO (`redactClientCommandArgument`).
    fn redact(&mut self) {
        let is = |at: usize, word: &[u8]| {
            let argument = self.0.get(at);
            argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word))
        };
        let secret = if is(0, b"auth") {
            1..self.0.len()
        } else if is(0, b"hello") {
            let auth = (2..self.0.len()).find(|at| is(*at, b"auth"));
            auth.map_or(0..0, |at| at + 1..self.0.len().min(at + 3))
        } else {
            0..0
        };
        for argument in &mut self.0[secret] {
            *argument = REDACTED.to_vec();
        }
    }
}

/// How many arguments are kept: all, or all but the place where the number of the others stands.
fn kept(argc: usize) -> usize {
    if argc > ARGUMENTS_MAX {
        ARGUMENTS_MAX - 1
    } else {
        argc
    }
}

/// A name as the app knows it: without the store's prefix and the number of its database.
fn own_name<'n>(name: &'n [u8], prefix: &Prefix) -> &'n [u8] {
    match name.strip_prefix(prefix.as_str().as_bytes()) {
        Some([b':', own @ ..]) => own,
        Some([b'/', rest @ ..]) => match rest.iter().position(|byte| *byte == b':') {
            Some(end) => &rest[end + 1..],
            None => name,
        },
        _ => name,
    }
}

/// The number of a header line, which is taken off the front.
fn number(bytes: &mut &[u8], kind: u8) -> Option<usize> {
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let digits = bytes[..line].strip_prefix(&[kind])?;
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    *bytes = &bytes[line + 1..];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    fn of<W: AsRef<[u8]>>(words: &[W]) -> Vec<String> {
        let mut bytes = Vec::new();
        encode::request(words, &mut bytes);
        let prefix = Prefix::parse("{abcde}").unwrap();
        let arguments = Arguments::of_bytes(&bytes, Some(&prefix));
        let text = |argument: &Vec<u8>| String::from_utf8(argument.clone()).unwrap();
        arguments.get().iter().map(text).collect()
    }

    #[test]
    fn names_are_the_apps() {
        assert_eq!(
            of(&["MGET", "{abcde}:a", "{abcde}/3:b:c", "{abcdf}:x", "{abcde}"]),
            ["MGET", "a", "b:c", "{abcdf}:x", "{abcde}"]
        );
    }

    #[test]
    fn much_is_trimmed_as_valkey_does() {
        let key = format!("{{abcde}}:{}", "k".repeat(130));
        let shown = of(&["SET", &key, &"v".repeat(128)]);
        assert_eq!(shown[1], format!("{}... (2 more bytes)", "k".repeat(128)));
        assert_eq!(shown[2], "v".repeat(128));
        let many: Vec<String> = (0..33).map(|at| at.to_string()).collect();
        let shown = of(&many);
        assert_eq!(shown.len(), 32);
        assert_eq!(shown[30..], ["30", "... (2 more arguments)"]);
        assert_eq!(of(&many[..32]).last().unwrap(), "31");
    }

    #[test]
    fn logins_are_taken_out() {
        assert_eq!(
            of(&["AUTH", "u", "p"]),
            ["AUTH", "(redacted)", "(redacted)"]
        );
        assert_eq!(
            of(&["hello", "3", "AUTH", "u", "p", "SETNAME", "n"]),
            [
                "hello",
                "3",
                "AUTH",
                "(redacted)",
                "(redacted)",
                "SETNAME",
                "n"
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_counted() {
        let bytes = b"*4\r\n$3\r\nSET\r\n$1\r\na\r\n$300\r\nabc";
        let arguments = Arguments::of_bytes(bytes, None);
        let expect: [&[u8]; 4] = [
            b"SET",
            b"a",
            b"abc... (172 more bytes)",
            b"... (1 more arguments)",
        ];
        assert_eq!(arguments.get(), expect);
        assert!(Arguments::of_bytes(b"", None).is_empty());
    }
}
