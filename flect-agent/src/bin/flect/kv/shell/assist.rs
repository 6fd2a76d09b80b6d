//! Completion and hints at the prompt.

use std::borrow::Cow;
use std::sync::Arc;

use flect_agent::commands::{self, Command, Policy};
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::docs::Docs;
use crate::output::FAINT;

/// Words that the prompt itself understands.
const OWN_WORDS: [&str; 3] = ["exit", "help", "clear"];

/// Knows the commands of a store.
pub struct Assist {
    docs: Arc<Docs>,
    colors: bool,
}

impl Assist {
    /// With what the server says about its commands.
    pub fn new(docs: Arc<Docs>, colors: bool) -> Self {
        Self { docs, colors }
    }

    /// Words that can stand where the cursor is, and where they begin.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before.rfind(' ').map_or(0, |at| at + 1);
        let (earlier, partial) = before.split_at(start);
        let earlier: Vec<&str> = earlier.split_whitespace().collect();
        let words: Vec<String> = match earlier.as_slice() {
            [] | ["help"] => offered()
                .filter(|command| !command.name.contains('|'))
                .map(|command| command.name.to_owned())
                .chain(OWN_WORDS.map(str::to_owned))
                .collect(),
            [container] if subcommands(container).next().is_some() => {
                subcommands(container).map(str::to_owned).collect()
            }
            // The first argument is hardly ever an option.
            [_] => Vec::new(),
            words => self
                .doc_name(words)
                .and_then(|name| self.docs.get(&name))
                .map_or_else(Vec::new, |doc| doc.tokens.clone()),
        };
        let lower = partial.chars().all(|c| !c.is_uppercase());
        let mut words: Vec<String> = words
            .into_iter()
            .filter(|word| {
                word.len() >= partial.len()
                    && word.is_char_boundary(partial.len())
                    && word[..partial.len()].eq_ignore_ascii_case(partial)
            })
            .map(|word| match (lower, partial.is_empty()) {
                (true, false) => word.to_ascii_lowercase(),
                (false, _) => word.to_ascii_uppercase(),
                (true, true) => word,
            })
            .collect();
        words.sort();
        words.dedup();
        (start, words)
    }

    /// The command's name in the docs: of the subcommand, where there is one.
    fn doc_name(&self, words: &[&str]) -> Option<String> {
        let first = words.first()?;
        if let Some(second) = words.get(1) {
            let both = format!("{first}|{second}");
            if self.docs.get(&both).is_some() {
                return Some(both);
            }
        }
        Some((*first).to_owned())
    }

    /// The arguments that are still to come.
    fn synopsis(&self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = self.doc_name(&words)?;
        let doc = self.docs.get(&name)?;
        let command_words = name.split('|').count();
        if words.len() == command_words && !line.ends_with(' ') && doc.arguments.is_empty() {
            return None;
        }
        let mut typed = words.len().saturating_sub(command_words);
        let mut rest = doc.arguments.as_slice();
        while let [(_, true), others @ ..] = rest
            && typed > 0
        {
            typed -= 1;
            rest = others;
        }
        // A partly typed line cannot be matched to what may be left out; the beginning tells most.
        if typed > rest.len() || rest.is_empty() {
            return None;
        }
        let texts: Vec<&str> = rest.iter().map(|(text, _)| text.as_str()).collect();
        let blank = if line.ends_with(' ') { "" } else { " " };
        Some(format!("{blank}{}", texts.join(" ")))
    }

    /// What `help COMMAND` prints.
    pub fn help(&self, words: &[&str]) -> String {
        let Some(name) = self.doc_name(words) else {
            return "help COMMAND tells what a command does; Tab completes, exit leaves".to_owned();
        };
        match self.docs.get(&name) {
            None => format!("the server says nothing about {}", words.join(" ")),
            Some(doc) => {
                let arguments: Vec<&str> = doc.arguments.iter().map(|(t, _)| t.as_str()).collect();
                let title = format!("{} {}", name.replace('|', " "), arguments.join(" "));
                format!("{}\n{}", title.trim_end(), doc.summary)
            }
        }
    }
}

/// Commands that a store has.
fn offered() -> impl Iterator<Item = &'static Command> {
    commands::all()
        .iter()
        .filter(|command| !matches!(command.policy, Policy::Operator(_)) || command.container)
        .filter(|command| !command.container || subcommands(command.name).next().is_some())
}

fn subcommands(container: &str) -> impl Iterator<Item = &'static str> {
    commands::all()
        .iter()
        .filter(|command| !matches!(command.policy, Policy::Operator(_)))
        .filter_map(|command| command.name.split_once('|'))
        .filter(move |(name, _)| name.eq_ignore_ascii_case(container))
        .map(|(_, sub)| sub)
}

/// Shown behind the cursor, never typed.
pub struct Synopsis(String);

impl Hint for Synopsis {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assist {
    type Hint = Synopsis;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Synopsis> {
        if pos < line.len() || line.is_empty() {
            return None;
        }
        self.synopsis(line).map(Synopsis)
    }
}

impl Completer for Assist {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..pos]))
    }
}

impl Highlighter for Assist {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.colors {
            Cow::Owned(format!("{FAINT}{hint}{FAINT:#}"))
        } else {
            Cow::Borrowed(hint)
        }
    }
}

impl Validator for Assist {}

impl Helper for Assist {}

#[cfg(test)]
mod tests {
    use super::*;

    fn assist() -> Assist {
        Assist::new(Arc::new(super::super::docs::tests::docs()), false)
    }

    #[test]
    fn commands_subcommands_and_options_are_completed() {
        let check = |line: &str, expect: &[&str]| {
            assert_eq!(assist().candidates(line).1, expect, "{line}");
        };
        check("zrangest", &["zrangestore"]);
        check("ZRANGEST", &["ZRANGESTORE"]);
        check("xgroup cr", &["create", "createconsumer"]);
        check("set k v k", &["keepttl"]);
        check("set k v ", &["EX", "KEEPTTL"]);
        check("set k", &[]);
        // Nothing that a store refuses.
        check("shutdo", &[]);
        check("config g", &["get"]);
    }

    #[test]
    fn hints_are_what_is_still_to_come() {
        let check = |line: &str, expect: Option<&str>| {
            assert_eq!(assist().synopsis(line).as_deref(), expect, "{line}");
        };
        check("set", Some(" key value [EX seconds | KEEPTTL]"));
        check("SET ", Some("key value [EX seconds | KEEPTTL]"));
        check("set a ", Some("value [EX seconds | KEEPTTL]"));
        check("set a b", Some(" [EX seconds | KEEPTTL]"));
        check("nothing", None);
    }
}
