//! Arguments as text, quoted as in valkey-cli: `SET "a\r\n\x00" 'it\'s'`.
//!
//! One thing is ours: `"x"*70000` is the quoted part, so many times. Invariant: [`split`] undoes
//! [`quote`].

use anyhow::{Context, Result, bail, ensure};

/// A repeated part is longer than this; shorter ones are written out.
const WRITTEN_OUT_BYTES_MAX: usize = 64;
/// What a line may ask for with `*`: more than any trial sends.
const ARGUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Splits a line into arguments.
///
/// # Errors
/// When a quote is open, or a number after `*` is none.
pub fn split(line: &str) -> Result<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line.trim_start().as_bytes();
    while let Some(&first) = rest.first() {
        let end_of_word =
            |bytes: &[u8]| bytes.iter().position(|b| *b == b' ').unwrap_or(bytes.len());
        if first == b'"' || first == b'\'' {
            let (mut arg, length) = quoted(rest)?;
            rest = &rest[length..];
            if let Some(times) = rest.strip_prefix(b"*") {
                let end = end_of_word(times);
                let times: usize = std::str::from_utf8(&times[..end])?
                    .parse()
                    .context("the number after *")?;
                ensure!(
                    arg.len().saturating_mul(times) <= ARGUMENT_BYTES_MAX,
                    "too long an argument"
                );
                arg = arg.repeat(times);
                rest = &rest[1 + end..];
            }
            args.push(arg);
        } else {
            let end = end_of_word(rest);
            args.push(rest[..end].to_vec());
            rest = &rest[end..];
        }
        rest = rest.trim_ascii_start();
    }
    Ok(args)
}

/// The quoted argument at the beginning, and how many bytes it took.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, usize)> {
    let first = text[0];
    let mut arg = Vec::new();
    let mut at = 1;
    loop {
        match (first, text.get(at..).unwrap_or_default()) {
            (b'"', [b'\\', b'x', high, low, ..]) => {
                let digits = [*high, *low];
                arg.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
                at += 4;
            }
            (_, [b'\\', byte, ..]) => {
                arg.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                at += 2;
            }
            (quote, [byte, ..]) if *byte == quote => return Ok((arg, at + 1)),
            (_, [byte, ..]) => {
                arg.push(*byte);
                at += 1;
            }
            (_, []) => bail!("an open quote"),
        }
    }
}

/// An argument as [`split`] reads it.
#[must_use]
pub fn quote(arg: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !arg.is_empty() && arg.len() <= WRITTEN_OUT_BYTES_MAX && arg.iter().all(plain) {
        return String::from_utf8_lossy(arg).into_owned();
    }
    if arg.len() > WRITTEN_OUT_BYTES_MAX && arg.iter().all(|byte| *byte == arg[0]) {
        return format!("{}*{}", in_quotes(&arg[..1]), arg.len());
    }
    in_quotes(arg)
}

fn in_quotes(arg: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in arg {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_as_in_valkey_cli() {
        let args = split(r#"SET  "a \"b\r\x00" 'it\'s' "" c"d"#).unwrap();
        let expect: [&[u8]; 5] = [b"SET", b"a \"b\r\0", b"it's", b"", b"c\"d"];
        assert_eq!(args, expect);
        assert!(split("\"a").is_err());
        assert!(split("\"a\"*x").is_err());
    }

    #[test]
    fn what_is_quoted_is_split_again() {
        for arg in [
            &b""[..],
            b"plain",
            b"\"",
            b"a b\r\n\t\0\xff'\\x41",
            b"*3",
            b"\"x\"*3",
            &[b'x'; 70_000],
            &[0; 65],
        ] {
            let line = format!("GET {} {}", quote(arg), quote(arg));
            assert_eq!(split(&line).unwrap(), [b"GET", arg, arg], "{line}");
        }
    }
}
