//! A sequence of requests, as data and as text.
//!
//! | line | meaning |
//! | --- | --- |
//! | `a GET k` | client a sends a request and reads what comes of it |
//! | `a+ GET k` | the same, written together with a's next request |
//! | `a,3,17 GET k` | written in pieces, which end before these bytes |
//! | `a/` | the client closes; its next request is on a new connection |
//! | `# ...` | a comment |

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use crate::quoting::{quote, split};
use crate::wire::encode;

/// One step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose: `a`, `b`, `c` ...
    pub client: char,
    /// What the client does.
    pub act: Act,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends a request.
    Send(Request),
    /// Closes its connection.
    Close,
}

/// A request and how its bytes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command and its arguments.
    pub args: Vec<Vec<u8>>,
    /// Whether the next request of the same client goes out with it, before a reply is read.
    pub joined: bool,
    /// Where a piece of its bytes ends.
    pub cuts: Vec<usize>,
}

impl Request {
    /// A request that is written at once and waited for.
    #[must_use]
    pub fn new(args: Vec<Vec<u8>>) -> Self {
        Self {
            args,
            joined: false,
            cuts: Vec::new(),
        }
    }

    /// The command in upper case, such as `GET`.
    #[must_use]
    pub fn name(&self) -> String {
        self.word(0)
    }

    /// An argument in upper case, for comparing with words; empty when there is none.
    #[must_use]
    pub fn word(&self, at: usize) -> String {
        let arg = self.args.get(at).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(arg).to_ascii_uppercase()
    }

    /// The pieces in which its bytes are written.
    #[must_use]
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        let bytes = encode(&self.args);
        let mut pieces = Vec::new();
        let mut from = 0;
        for &cut in &self.cuts {
            if cut > from && cut < bytes.len() {
                pieces.push(bytes[from..cut].to_vec());
                from = cut;
            }
        }
        pieces.push(bytes[from..].to_vec());
        pieces
    }
}

impl Step {
    /// A step that sends.
    #[must_use]
    pub fn send(client: char, args: Vec<Vec<u8>>) -> Self {
        Self {
            client,
            act: Act::Send(Request::new(args)),
        }
    }

    /// The request, if it sends one.
    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        match &self.act {
            Act::Send(request) => Some(request),
            Act::Close => None,
        }
    }

    /// Reads the lines of a sequence.
    ///
    /// # Errors
    /// With the number of the line that is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let mut steps = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let step = Self::parse(line).with_context(|| format!("line {}", number + 1))?;
                steps.push(step);
            }
        }
        Ok(steps)
    }

    fn parse(line: &str) -> Result<Self> {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut letters = head.chars();
        let client = letters.next().context("no client")?;
        ensure!(
            client.is_ascii_lowercase(),
            "a client is a small letter, not {client:?}"
        );
        let mark = letters.as_str();
        if mark == "/" {
            return Ok(Self {
                client,
                act: Act::Close,
            });
        }
        let args = split(rest)?;
        ensure!(!args.is_empty(), "no request");
        let (joined, cuts) = match mark.strip_prefix('+') {
            Some(cuts) => (true, cuts),
            None => (false, mark),
        };
        let cuts = match cuts.strip_prefix(',') {
            Some(list) => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
            None if cuts.is_empty() => Vec::new(),
            None => bail!("no such step: {head}"),
        };
        let request = Request { args, joined, cuts };
        Ok(Self {
            client,
            act: Act::Send(request),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.client)?;
        match &self.act {
            Act::Close => f.write_str("/"),
            Act::Send(request) => {
                if request.joined {
                    f.write_str("+")?;
                }
                for cut in &request.cuts {
                    write!(f, ",{cut}")?;
                }
                for arg in &request.args {
                    write!(f, " {}", quote(arg))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_they_are_written() {
        let text = "a SET k \"a b\"\na+ GET k\nb,3,17 GET \"\"\nb+,2 PING\nc/\n";
        let steps = Step::parse_all(text).unwrap();
        let again: String = steps.iter().map(|step| format!("{step}\n")).collect();
        assert_eq!(again, text);
        for wrong in ["A GET", "a", "a- GET k", "a,x GET k"] {
            assert!(Step::parse_all(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pieces_are_the_whole_request() {
        let mut request = Request::new(vec![b"GET".to_vec(), b"k".to_vec()]);
        request.cuts = vec![0, 4, 4, 9, 1000];
        assert_eq!(request.pieces().len(), 3);
        assert_eq!(request.pieces().concat(), encode(&request.args));
    }
}
