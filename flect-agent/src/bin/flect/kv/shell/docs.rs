//! What the server says about its commands (`COMMAND DOCS`), for hints and help.

use std::collections::BTreeMap;

use flect_agent::reach::Link;
use redis::Value;

/// Arguments inside arguments; the server's own have four levels.
const DEPTH_MAX: usize = 8;

/// Commands by their names: lower case, a subcommand after its container, as `config|get`.
#[derive(Default)]
pub struct Docs(BTreeMap<String, Doc>);

/// One command.
#[derive(Debug, Default)]
pub struct Doc {
    /// What it does.
    pub summary: String,
    /// Its arguments as texts, in order, and whether each must be there exactly once.
    pub arguments: Vec<(String, bool)>,
    /// Words that stand for themselves, such as `EX`.
    pub tokens: Vec<String>,
}

impl Docs {
    /// Asks the server; empty when it is too old to tell.
    pub async fn of_server(connection: &mut Link) -> Self {
        let reply = redis::cmd("COMMAND")
            .arg("DOCS")
            .query_async::<Value>(connection)
            .await;
        let mut docs = Self::default();
        for (name, fields) in pairs(&reply.unwrap_or_default()) {
            docs.add(&name, fields);
        }
        docs
    }

    /// One command's.
    pub fn get(&self, name: &str) -> Option<&Doc> {
        self.0.get(&name.to_ascii_lowercase())
    }

    fn add(&mut self, name: &str, fields: &Value) {
        let mut doc = Doc::default();
        for (field, value) in pairs(fields) {
            match field.as_str() {
                "summary" => doc.summary = text(value),
                "arguments" => {
                    for argument in items(value) {
                        let argument = Argument::of(argument, 0);
                        let once = !argument.optional && !argument.multiple;
                        argument.tokens(&mut doc.tokens);
                        doc.arguments.push((argument.shown(), once));
                    }
                }
                "subcommands" => {
                    for (name, fields) in pairs(value) {
                        self.add(&name, fields);
                    }
                }
                _ => {}
            }
        }
        self.0.insert(name.to_ascii_lowercase(), doc);
    }
}

#[derive(Default)]
struct Argument {
    kind: String,
    shown: String,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    multiple_token: bool,
    inner: Vec<Argument>,
}

impl Argument {
    fn of(value: &Value, depth: usize) -> Self {
        let mut argument = Self::default();
        let mut name = String::new();
        for (field, value) in pairs(value) {
            match field.as_str() {
                "name" => name = text(value),
                "type" => argument.kind = text(value),
                "display_text" => argument.shown = text(value),
                "token" => argument.token = Some(text(value)).filter(|token| !token.is_empty()),
                "flags" => {
                    let flags: Vec<String> = items(value).iter().map(text).collect();
                    let has = |flag: &str| flags.iter().any(|other| other == flag);
                    argument.optional = has("optional");
                    argument.multiple = has("multiple");
                    argument.multiple_token = has("multiple_token");
                }
                "arguments" if depth < DEPTH_MAX => {
                    let inner = items(value).iter();
                    argument.inner = inner.map(|inner| Self::of(inner, depth + 1)).collect();
                }
                _ => {}
            }
        }
        if argument.shown.is_empty() {
            argument.shown = name;
        }
        argument
    }

    /// As in the server's documentation: `[EX seconds | PX milliseconds]`, `key [key ...]`.
    fn shown(&self) -> String {
        let join = |by: &str| {
            let inner: Vec<String> = self.inner.iter().map(Self::shown).collect();
            inner.join(by)
        };
        let body = match self.kind.as_str() {
            "pure-token" => String::new(),
            "oneof" if self.optional => join(" | "),
            "oneof" => format!("<{}>", join(" | ")),
            "block" => join(" "),
            _ => self.shown.clone(),
        };
        let token = self.token.as_deref().unwrap_or_default();
        let mut out = format!("{token} {body}").trim().to_owned();
        if self.multiple_token {
            out = format!("{out} [{out} ...]");
        } else if self.multiple {
            out = format!("{out} [{body} ...]");
        }
        if self.optional {
            out = format!("[{out}]");
        }
        out
    }

    fn tokens(&self, all: &mut Vec<String>) {
        all.extend(self.token.clone());
        for inner in &self.inner {
            inner.tokens(all);
        }
    }
}

/// A map, or an array in which names and values take turns.
fn pairs(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| (text(key), value))
            .collect(),
        Value::Array(all) => all
            .chunks_exact(2)
            .map(|pair| (text(&pair[0]), &pair[1]))
            .collect(),
        _ => Vec::new(),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) | Value::Set(all) => all,
        _ => &[],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn argument(fields: &[(&str, Value)]) -> Value {
        let fields = fields.iter();
        Value::Array(
            fields
                .flat_map(|(name, value)| [bulk(name), value.clone()])
                .collect(),
        )
    }

    /// SET, about as the server describes it.
    pub fn docs() -> Docs {
        let flags = |flag: &str| Value::Array(vec![Value::SimpleString(flag.to_owned())]);
        let seconds = argument(&[
            ("name", bulk("seconds")),
            ("type", bulk("integer")),
            ("token", bulk("EX")),
        ]);
        let keep = argument(&[("type", bulk("pure-token")), ("token", bulk("KEEPTTL"))]);
        let arguments = vec![
            argument(&[("name", bulk("key")), ("type", bulk("key"))]),
            argument(&[("name", bulk("value")), ("type", bulk("string"))]),
            argument(&[
                ("type", bulk("oneof")),
                ("flags", flags("optional")),
                ("arguments", Value::Array(vec![seconds, keep])),
            ]),
        ];
        let fields = argument(&[
            ("summary", bulk("Sets a key.")),
            ("arguments", Value::Array(arguments)),
        ]);
        let mut docs = Docs::default();
        docs.add("set", &fields);
        docs
    }

    #[test]
    fn arguments_read_as_in_the_documentation() {
        let docs = docs();
        let doc = docs.get("SET").unwrap();
        let shown: Vec<&str> = doc
            .arguments
            .iter()
            .map(|(text, _)| text.as_str())
            .collect();
        assert_eq!(shown, ["key", "value", "[EX seconds | KEEPTTL]"]);
        assert_eq!(doc.tokens, ["EX", "KEEPTTL"]);
    }
}
