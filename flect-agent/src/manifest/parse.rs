//! From text to a manifest, or to every mistake in it.

use std::collections::HashSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::names::{AppName, BindingName};
use super::near::nearest;
use super::problem::{Problem, fit};
use super::{Kv, Manifest};
use crate::store::{SLUG_BYTES_MAX, Slug};

/// The keys of the file, as the schema has them (tested).
pub(super) const KEYS: [&str; 2] = ["app", "kv"];
/// The keys of `[[kv]]`, as the schema has them (tested).
pub(super) const KV_KEYS: [&str; 2] = ["binding", "name"];

pub(super) fn parse(text: &str) -> Result<Manifest, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        problems: Vec::new(),
        doubts: Vec::new(),
    };
    for error in &errors {
        reader.problem(error.span().unwrap_or(0..0), sentence(error.message()));
    }
    // What comes after a mistake in the writing may be misread.
    let manifest = if errors.is_empty() {
        reader.manifest(document.get_ref())
    } else {
        Manifest::default()
    };
    let in_order = |problems: &mut Vec<Problem>| problems.sort_by_key(|p| (p.line, p.column));
    in_order(&mut reader.problems);
    in_order(&mut reader.doubts);
    if reader.problems.is_empty() {
        let doubts = reader.doubts;
        Ok(Manifest { doubts, ..manifest })
    } else {
        Err(reader.problems)
    }
}

/// The TOML parser says what it expected in further lines, and repeats nothing of the text that it
/// could not read but single characters.
fn sentence(message: &str) -> String {
    let parts: Vec<String> = message.trim().lines().map(fit).collect();
    parts.join("; ")
}

/// Mistakes that are looked for: far more than are told, so that their number says something.
const FOUND_MAX: usize = 100;

struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    doubts: Vec<Problem>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        if self.problems.len() < FOUND_MAX {
            let problem = Problem::new(self.text, span.into(), message);
            self.problems.push(problem);
        }
    }

    fn doubt(&mut self, span: Range<usize>, message: impl Into<String>) {
        if self.doubts.len() < FOUND_MAX {
            let doubt = Problem::new(self.text, span.into(), message);
            self.doubts.push(doubt);
        }
    }

    fn manifest(&mut self, table: &DeTable<'_>) -> Manifest {
        self.known_keys(table, "flect.toml", &KEYS);
        let app = table.get("app").and_then(|value| {
            let text = self.string(value, "app")?;
            self.accept(value, AppName::parse(text))
        });
        let kv = match table.get("kv") {
            Some(value) => self.all_kv(value),
            None => {
                self.doubt(0..0, "no [[kv]]: the app gets no store");
                Vec::new()
            }
        };
        Manifest {
            app,
            kv,
            doubts: Vec::new(),
        }
    }

    fn all_kv(&mut self, value: &Value<'_>) -> Vec<Kv> {
        let entries = match value.get_ref() {
            DeValue::Array(entries) => entries,
            DeValue::Table(_) => {
                self.problem(
                    value.span(),
                    "kv is a list of stores: write [[kv]], with two brackets",
                );
                return Vec::new();
            }
            other => {
                let message = format!("kv is {}, expected [[kv]] tables", kind(other));
                self.problem(value.span(), message);
                return Vec::new();
            }
        };
        let mut all: Vec<Kv> = Vec::new();
        let mut bindings = HashSet::new();
        for entry in entries {
            let DeValue::Table(table) = entry.get_ref() else {
                let message = format!(
                    "an entry of kv is {}, expected a table with binding and name",
                    kind(entry.get_ref())
                );
                self.problem(entry.span(), message);
                continue;
            };
            let Some(kv) = self.one_kv(entry.span(), table) else {
                continue;
            };
            if !bindings.insert(kv.binding.clone()) {
                let span = table
                    .get("binding")
                    .map_or_else(|| entry.span(), Spanned::span);
                let message = format!(
                    "the binding {} is there twice; give each store its own",
                    kv.binding
                );
                self.problem(span, message);
            }
            all.push(kv);
        }
        all
    }

    fn one_kv(&mut self, span: Range<usize>, table: &DeTable<'_>) -> Option<Kv> {
        self.known_keys(table, "[[kv]]", &KV_KEYS);
        let binding = self.required(&span, table, "binding").and_then(|value| {
            let text = self.string(value, "binding")?;
            let binding = self.accept(value, BindingName::parse(text))?;
            if let Some(short) = binding.as_str().strip_suffix("_URL")
                && BindingName::parse(short).is_ok()
            {
                let message = format!(
                    "the variable will be {}; for {} write binding = \"{short}\"",
                    binding.variable(),
                    binding.as_str(),
                );
                self.doubt(value.span(), message);
            }
            Some(binding)
        });
        let name = self.required(&span, table, "name").and_then(|value| {
            let text = self.string(value, "name")?;
            let slug = self.accept(value, slug(text))?;
            Some((slug, value.span()))
        });
        let (binding, (name, place)) = (binding?, name?);
        Some(Kv {
            binding,
            name,
            place: place.into(),
        })
    }

    /// Complains about keys that mean nothing here.
    fn known_keys(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            let name: &DeString<'_> = key.get_ref();
            if known.contains(&name.as_ref()) {
                continue;
            }
            let hint = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("it knows {}", known.join(" and ")),
            };
            let message = format!("{place} has no key '{}'; {hint}", fit(name));
            self.problem(key.span(), message);
        }
    }

    fn required<'t, 'v>(
        &mut self,
        span: &Range<usize>,
        table: &'t DeTable<'v>,
        key: &str,
    ) -> Option<&'t Value<'v>> {
        let value = table.get(key);
        if value.is_none() {
            let example = if key == "name" {
                "the store's name, as `flect kv list` shows it"
            } else {
                "such as binding = \"CACHE\""
            };
            self.problem(
                span.clone(),
                format!("this [[kv]] has no {key}; add it: {example}"),
            );
        }
        value
    }

    fn string<'t>(&mut self, value: &'t Value<'_>, key: &str) -> Option<&'t str> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text);
        }
        let message = format!(
            "{key} is {}, expected text in quotes",
            kind(value.get_ref())
        );
        self.problem(value.span(), message);
        None
    }

    fn accept<T>(&mut self, value: &Value<'_>, result: Result<T, impl ToString>) -> Option<T> {
        match result {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                self.problem(value.span(), error.to_string());
                None
            }
        }
    }
}

/// A store's name; what is none is answered with the nearest that is.
fn slug(text: &str) -> Result<Slug, String> {
    Slug::try_from(text.to_owned()).map_err(|_| {
        let better: String = text
            .chars()
            .take(SLUG_BYTES_MAX)
            .filter_map(|c| match c {
                'a'..='z' | '0'..='9' => Some(c),
                'A'..='Z' => Some(c.to_ascii_lowercase()),
                '-' | '_' | '.' | ' ' | '/' | ':' => Some('-'),
                _ => None,
            })
            .collect();
        let better = better.trim_matches('-').to_owned();
        let hint = match Slug::try_from(better) {
            Ok(better) => format!("did you mean '{better}'?"),
            Err(_) => "such as my-cache".to_owned(),
        };
        format!(
            "'{}' is no store name: expected 1 to {SLUG_BYTES_MAX} of a-z, 0-9 and '-', beginning with a letter or digit; {hint}",
            fit(text)
        )
    })
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
