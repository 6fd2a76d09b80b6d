//! The names that a manifest gives: apps and bindings.

use std::fmt;

/// What a store is called in an app's code: `CACHE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingName(Box<str>);

/// An app's name on the node, as `agent.toml` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(Box<str>);

/// Longer than anybody wants to type, and short enough for every table and log.
pub(super) const BINDING_BYTES_MAX: usize = 64;
/// As in `agent.toml`, where the name also names a cgroup: as long as a DNS label.
pub(super) const APP_BYTES_MAX: usize = 63;

/// The text is no binding.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{text}' is no binding: expected A-Z, 0-9 and '_', beginning with a letter, at most {BINDING_BYTES_MAX}; {}",
    match suggestion { Some(better) => format!("did you mean '{better}'?"), None => "such as CACHE".to_owned() }
)]
pub struct InvalidBinding {
    /// What was given, fit for a terminal.
    pub text: String,
    /// The nearest text that is one.
    pub suggestion: Option<String>,
}

/// The text is no app name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no app name: expected 1 to {APP_BYTES_MAX} letters, digits, '-' and '_', as in agent.toml"
)]
pub struct InvalidAppName(String);

impl BindingName {
    /// Reads a binding.
    ///
    /// # Errors
    /// When it is not made as bindings are.
    pub fn parse(text: &str) -> Result<Self, InvalidBinding> {
        if is_binding(text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidBinding {
            text: super::problem::fit(text),
            suggestion: suggestion(text),
        })
    }

    /// The binding as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The variable that holds the store's URL: `CACHE_URL`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}_URL", self.0)
    }
}

fn is_binding(text: &str) -> bool {
    (1..=BINDING_BYTES_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The text in the form of a binding, where it has one: `my-cache` becomes `MY_CACHE`.
fn suggestion(text: &str) -> Option<String> {
    let mut better = String::new();
    let mut lower_before = false;
    for c in text.chars().take(BINDING_BYTES_MAX * 2) {
        match c {
            'a'..='z' | '0'..='9' => better.push(c.to_ascii_uppercase()),
            // sessionStore is SESSION_STORE.
            'A'..='Z' if lower_before => better.extend(['_', c]),
            'A'..='Z' | '_' => better.push(c),
            '-' | '.' | ' ' | ':' | '/' => better.push('_'),
            _ => {}
        }
        lower_before = c.is_ascii_lowercase();
    }
    let better = better.trim_start_matches(|c: char| !c.is_ascii_uppercase());
    let better = better.trim_end_matches('_');
    is_binding(better).then(|| better.to_owned())
}

impl AppName {
    /// Reads an app's name.
    ///
    /// # Errors
    /// When no app can be called so.
    pub fn parse(text: &str) -> Result<Self, InvalidAppName> {
        let valid = (1..=APP_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAppName(super::problem::fit(text)))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_upper_case_words() {
        for good in ["A", "CACHE", "SESSION_STORE", "CACHE2", "A_"] {
            assert_eq!(BindingName::parse(good).unwrap().as_str(), good);
        }
        assert!(BindingName::parse(&"A".repeat(64)).is_ok());
        for (bad, suggestion) in [
            ("cache", Some("CACHE")),
            ("my-cache", Some("MY_CACHE")),
            ("sessionStore", Some("SESSION_STORE")),
            ("_CACHE", Some("CACHE")),
            ("2CACHE", Some("CACHE")),
            ("CACHE ", Some("CACHE")),
            ("CACHÉ", Some("CACH")),
            ("", None),
            ("1", None),
            ("é", None),
            ("$(reboot)", Some("REBOOT")),
            ("A\0B", Some("AB")),
        ] {
            let error = BindingName::parse(bad).unwrap_err();
            assert_eq!(error.suggestion.as_deref(), suggestion, "{bad}");
        }
        assert!(BindingName::parse(&"A".repeat(65)).is_err());
    }

    #[test]
    fn apps_are_plain_words() {
        for good in ["shop", "Shop_2", "a-b"] {
            assert!(AppName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a b", "läden", "\u{1b}[31m", &"a".repeat(64)] {
            assert!(AppName::parse(bad).is_err(), "{bad}");
        }
    }
}
