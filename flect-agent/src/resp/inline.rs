//! Inline requests: a line of words, for people with telnet.
//!
//! Invariant: the words are those of `sdssplitargs` (Valkey's `src/sds.c`), quotes and escapes
//! included, and are handed on as a multibulk request.

use super::number;
use super::request::{ArgRange, ProtocolError};

/// Splits `line` into words and encodes them as a multibulk request into `encoded`, with the range
/// of each in `args`. `words` is scratch space. An empty line gives no words and no bytes.
///
/// # Errors
/// When a quote is not closed, or its end is not followed by a blank.
pub(super) fn encode(
    line: &[u8],
    words: &mut Vec<u8>,
    args: &mut Vec<ArgRange>,
    encoded: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    words.clear();
    args.clear();
    encoded.clear();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&byte| is_space(byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            break;
        }
        let start = words.len();
        let used = word(rest, words)?;
        rest = &rest[used..];
        args.push(ArgRange::new(start, words.len()));
    }
    encode_multibulk(words, args, encoded);
    Ok(())
}

/// Writes a request of the arguments that `args` marks in `bytes`, and moves the marks to where the
/// arguments stand in `encoded`.
pub(super) fn encode_multibulk(bytes: &[u8], args: &mut [ArgRange], encoded: &mut Vec<u8>) {
    encoded.clear();
    if args.is_empty() {
        return;
    }
    encoded.push(b'*');
    number::append(args.len() as u64, encoded);
    encoded.extend_from_slice(b"\r\n");
    for range in args {
        let arg = &bytes[range.start as usize..range.end as usize];
        encoded.push(b'$');
        number::append(arg.len() as u64, encoded);
        encoded.extend_from_slice(b"\r\n");
        let start = encoded.len();
        encoded.extend_from_slice(arg);
        *range = ArgRange::new(start, encoded.len());
        encoded.extend_from_slice(b"\r\n");
    }
}

/// Appends one word to `words` and says how many bytes of `rest` it took. Quoting may begin and end
/// inside a word, but a closing quote ends the word.
fn word(rest: &[u8], words: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        match byte {
            // Vertical tab and form feed part words only outside of them.
            b' ' | b'\n' | b'\r' | b'\t' | 0 => break,
            b'"' => return double_quoted(rest, at, words),
            b'\'' => return single_quoted(rest, at, words),
            _ => words.push(byte),
        }
    }
    Ok(at)
}

/// What stands for a byte behind a backslash (`sdssplitargs` in sds.c).
pub(crate) fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn double_quoted(rest: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match rest[at..] {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                words.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                words.push(unescaped(escaped));
                at += 2;
            }
            [b'"', ..] => return closed(rest, at),
            [byte, ..] => {
                words.push(byte);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn single_quoted(rest: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match rest[at..] {
            [b'\\', b'\'', ..] => {
                words.push(b'\'');
                at += 2;
            }
            [b'\'', ..] => return closed(rest, at),
            [byte, ..] => {
                words.push(byte);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

/// The quote at `at` closes: a blank or nothing must follow.
fn closed(rest: &[u8], at: usize) -> Result<usize, ProtocolError> {
    match rest.get(at + 1) {
        Some(&next) if !is_space(next) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(at + 1),
    }
}

/// `isspace` of the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.to_ascii_uppercase() - b'A' + 10,
    }
}
