//! Finding where replies end, without keeping them.
//!
//! Invariant: the same bytes give the same replies however they are split.

use anyhow::{Context, Result, bail};

/// A line holds a type, a number or an error: longer ones are no RESP.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// One whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its first byte.
    pub kind: u8,
    /// Bytes of all bulk strings in it.
    pub payload_bytes: usize,
}

/// Where the scanner is in the replies of one connection.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes of a bulk string, and its line end, that are still to come.
    skip: usize,
    /// Elements of the present reply that are still to come; 0 between replies.
    owed: usize,
    kind: u8,
    payload_bytes: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

impl Scanner {
    /// Takes bytes and tells each reply that they complete.
    ///
    /// # Errors
    /// When they are no RESP, are an error, or `tell` says so.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let length = self.skip.min(bytes.len());
                bytes = &bytes[length..];
                self.skip -= length;
                if self.skip > 0 {
                    return Ok(());
                }
                self.owed -= 1;
            } else {
                let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                    self.line.extend_from_slice(bytes);
                    if self.line.len() > LINE_BYTES_MAX {
                        bail!("a line without end");
                    }
                    return Ok(());
                };
                let (line, rest) = bytes.split_at(end + 1);
                bytes = rest;
                if self.line.is_empty() {
                    self.element(line)?;
                } else {
                    let mut whole = std::mem::take(&mut self.line);
                    whole.extend_from_slice(line);
                    self.element(&whole)?;
                    whole.clear();
                    self.line = whole;
                }
            }
            if self.owed == 0 {
                tell(Reply {
                    kind: self.kind,
                    payload_bytes: self.payload_bytes,
                })?;
            }
        }
        Ok(())
    }

    /// One line: an element, or the beginning of one.
    fn element(&mut self, line: &[u8]) -> Result<()> {
        let (&kind, rest) = line.split_first().context("an empty line")?;
        if self.owed == 0 {
            self.owed = 1;
            self.kind = kind;
            self.payload_bytes = 0;
        }
        match kind {
            b'-' => bail!("{}", String::from_utf8_lossy(rest).trim()),
            b'$' => match number(rest)? {
                Some(length) => {
                    self.payload_bytes += length;
                    self.skip = length + 2;
                }
                None => self.owed -= 1,
            },
            b'*' | b'~' | b'>' => self.owed = self.owed - 1 + number(rest)?.unwrap_or(0),
            b'%' => self.owed = self.owed - 1 + 2 * number(rest)?.unwrap_or(0),
            b'+' | b':' | b'_' | b',' | b'#' | b'(' => self.owed -= 1,
            _ => bail!("no RESP: {:?}", String::from_utf8_lossy(line)),
        }
        Ok(())
    }
}

/// A length; `None` for the -1 of RESP2's nil.
fn number(digits: &[u8]) -> Result<Option<usize>> {
    let text = std::str::from_utf8(digits).context("no number")?.trim_end();
    if text == "-1" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .with_context(|| format!("no number: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &[(char, usize)]) {
        for size in 1..=input.len() {
            let mut scanner = Scanner::default();
            let mut found = Vec::new();
            for part in input.as_bytes().chunks(size) {
                let tell = |reply: Reply| {
                    found.push((char::from(reply.kind), reply.payload_bytes));
                    Ok(())
                };
                scanner.feed(part, tell).unwrap();
            }
            assert_eq!(found, expect, "{input:?} in parts of {size}");
        }
    }

    #[test]
    fn replies_are_found_however_they_are_split() {
        check("+OK\r\n:5\r\n", &[('+', 0), (':', 0)]);
        check(
            "$5\r\nab\ncd\r\n$-1\r\n$0\r\n\r\n",
            &[('$', 5), ('$', 0), ('$', 0)],
        );
        check(
            "*2\r\n$1\r\na\r\n*2\r\n:1\r\n$2\r\nbb\r\n+x\r\n",
            &[('*', 3), ('+', 0)],
        );
        check(
            "*0\r\n*-1\r\n%1\r\n+a\r\n_\r\n",
            &[('*', 0), ('*', 0), ('%', 0)],
        );
    }

    #[test]
    fn errors_end_it() {
        for input in ["-ERR no\r\n", "*2\r\n:1\r\n-ERR no\r\n", "?\r\n", "$x\r\n"] {
            let fed = Scanner::default().feed(input.as_bytes(), |_| Ok(()));
            assert!(fed.is_err(), "{input:?}");
        }
    }
}
