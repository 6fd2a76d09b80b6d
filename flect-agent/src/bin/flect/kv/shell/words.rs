//! Splitting a line into arguments, as valkey-cli does it (`sdssplitargs` in sds.c).

/// The arguments of a line; `None` when quotes are not closed, or closed in the middle of a word.
pub fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut rest = line.as_bytes();
    let mut words = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, used) = word(rest)?;
        words.push(word);
        rest = &rest[used..];
    }
}

/// The word at the beginning of `input` and its length there.
fn word(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = input.get(at) {
        match byte {
            byte if byte.is_ascii_whitespace() => break,
            b'"' => {
                at = double_quoted(input, at + 1, &mut out)?;
                return ends(input, at).then_some((out, at));
            }
            b'\'' => {
                at = single_quoted(input, at + 1, &mut out)?;
                return ends(input, at).then_some((out, at));
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Some((out, at))
}

/// A closing quote ends the word.
fn ends(input: &[u8], at: usize) -> bool {
    input.get(at).is_none_or(u8::is_ascii_whitespace)
}

fn double_quoted(input: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match input.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
                // Two hexadecimal digits fit a byte.
                out.push((digit(*high) * 16 + digit(*low)) as u8);
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn single_quoted(input: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match input.get(at..)? {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<&[&[u8]]>) {
        let words = split(line);
        let words: Option<Vec<&[u8]>> = words
            .as_ref()
            .map(|words| words.iter().map(Vec::as_slice).collect());
        assert_eq!(words.as_deref(), expect, "{line}");
    }

    #[test]
    fn words_are_those_of_valkey_cli() {
        check("", Some(&[]));
        check("  get   a\t", Some(&[b"get", b"a"]));
        check(
            r#"set k "a b\n\x00\xFf\"""#,
            Some(&[b"set", b"k", b"a b\n\x00\xff\""]),
        );
        check(r"set k 'a \n \' b'", Some(&[b"set", b"k", br"a \n ' b"]));
        check(r#""" ''"#, Some(&[b"", b""]));
        check(r#"a"b""#, Some(&[b"ab"]));
        check(r#""\x4" k"#, Some(&[b"x4", b"k"]));
        for open in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\"] {
            check(open, None);
        }
    }
}
