//! `tests/valkey-suite.toml`: Valkey's tests that cannot pass against a store, each with its reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    difference: Vec<Difference>,
}

/// Tests of a unit that differ for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    unit: String,
    /// Names in full; a last `*` stands for any end.
    tests: Vec<String>,
    reason: String,
}

impl Differences {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or an entry has no reason.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let read: Self = toml::from_str(text)?;
        for entry in &read.difference {
            ensure!(
                !entry.reason.trim().is_empty() && !entry.tests.is_empty(),
                "an entry of {} has no reason or no tests",
                entry.unit
            );
        }
        Ok(read)
    }

    /// Why a test cannot pass, if it is known.
    pub fn reason(&self, unit: &str, test: &str) -> Option<&str> {
        self.difference
            .iter()
            .find(|entry| entry.unit == unit && entry.tests.iter().any(|name| fits(name, test)))
            .map(|entry| entry.reason.as_str())
    }
}

fn fits(name: &str, test: &str) -> bool {
    match name.strip_suffix('*') {
        Some(begin) => test.starts_with(begin),
        None => name == test,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_by_unit_and_name() {
        let text = "[[difference]]\nunit = \"unit/a\"\ntests = [\"one\", \"two *\"]\nreason = \"because\"\n";
        let read = Differences::parse(text).unwrap();
        assert_eq!(read.reason("unit/a", "one"), Some("because"));
        assert_eq!(read.reason("unit/a", "two words"), Some("because"));
        assert_eq!(read.reason("unit/a", "one more"), None);
        assert_eq!(read.reason("unit/b", "one"), None);
    }

    #[test]
    fn an_entry_without_a_reason_is_an_error() {
        let text = "[[difference]]\nunit = \"unit/a\"\ntests = [\"one\"]\nreason = \" \"\n";
        assert!(Differences::parse(text).is_err());
        let unknown = "[[difference]]\nunit = \"a\"\ntests = [\"b\"]\nreason = \"c\"\nd = 1\n";
        assert!(Differences::parse(unknown).is_err());
    }
}
