//! What may differ, and why: the lines of `exceptions.txt`.
//!
//! Invariant: an exception names a command and both replies, so that it hides nothing else; one that
//! never applies is told.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use crate::quoting;

/// The exceptions of the repository.
const LIST: &str = include_str!("exceptions.txt");

/// All exceptions, and how often each applied.
#[derive(Debug)]
pub struct Exceptions {
    all: Vec<Exception>,
}

#[derive(Debug)]
struct Exception {
    command: String,
    valkey: String,
    store: String,
    reason: String,
    applied: AtomicU64,
}

impl Exceptions {
    /// The list of the repository.
    ///
    /// # Errors
    /// When a line is not `command | Valkey's reply | the store's reply | reason`.
    pub fn known() -> Result<Self> {
        Self::parse(LIST)
    }

    /// No exceptions.
    #[must_use]
    pub fn none() -> Self {
        Self { all: Vec::new() }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<_> = line.split(" | ").map(str::trim).collect();
            let [command, valkey, store, reason] = parts.as_slice() else {
                Err(anyhow::anyhow!("not four parts"))
                    .with_context(|| format!("line {}", number + 1))?
            };
            ensure!(!reason.is_empty(), "line {}: no reason", number + 1);
            all.push(Exception {
                command: (*command).to_owned(),
                valkey: (*valkey).to_owned(),
                store: (*store).to_owned(),
                reason: (*reason).to_owned(),
                applied: AtomicU64::new(0),
            });
        }
        Ok(Self { all })
    }

    /// Whether these replies to a request may differ.
    pub fn apply(&self, args: &[Vec<u8>], valkey: &str, store: &str) -> bool {
        let words: Vec<_> = args.iter().map(|arg| quoting::quote(arg)).collect();
        let request = words.join(" ").to_ascii_uppercase();
        let found = self.all.iter().find(|exception| {
            matches(&exception.command, &request)
                && matches(&exception.valkey, valkey)
                && matches(&exception.store, store)
        });
        if let Some(exception) = found {
            exception.applied.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Those that have not applied.
    #[must_use]
    pub fn stale(&self) -> Vec<String> {
        let unused = |exception: &&Exception| exception.applied.load(Ordering::Relaxed) == 0;
        let stale = self.all.iter().filter(unused);
        stale
            .map(|exception| format!("{}: {}", exception.command, exception.reason))
            .collect()
    }
}

/// `*` is anything, everything else is itself.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches(rest, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        Exceptions::known().unwrap();
        assert!(Exceptions::parse("GET * | a | b").is_err());
        assert!(Exceptions::parse("GET * | a | b | ").is_err());
    }

    #[test]
    fn an_exception_hides_nothing_else() {
        let list = Exceptions::parse("GET * | \"1\" | -NO* | why").unwrap();
        let args = [b"get".to_vec(), b"k".to_vec()];
        assert!(!list.apply(&args, "\"2\"", "-NO x"));
        assert!(!list.apply(&args, "\"1\"", "-YES"));
        assert_eq!(list.stale().len(), 1);
        assert!(list.apply(&args, "\"1\"", "-NO x"));
        assert!(list.stale().is_empty());
    }
}
