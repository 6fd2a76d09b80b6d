//! How replies look: as valkey-cli shows them on a terminal and in a pipe, and as JSON.

use flect_agent::resp::value::Value;
use serde_json::{Map, json};

/// Which way replies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// With types and numbers, for a terminal.
    Terminal,
    /// Bytes as they are, one value a line, for a pipe.
    Raw,
    /// One JSON document a reply.
    Json,
}

/// The bytes to print for a reply, with the end of the line.
pub fn show(value: &Value, look: Look) -> Vec<u8> {
    let mut out = Vec::new();
    match look {
        Look::Terminal => {
            let mut text = String::new();
            terminal(value, "", &mut text);
            out = text.into_bytes();
        }
        Look::Raw => {
            raw(value, &mut out);
            out.push(b'\n');
        }
        Look::Json => {
            out = as_json(value).to_string().into_bytes();
            out.push(b'\n');
        }
    }
    out
}

/// `cliFormatReplyTTY` of valkey-cli.c.
fn terminal(value: &Value, indent: &str, out: &mut String) {
    match value {
        Value::Error(text) => {
            out.push_str("(error) ");
            out.push_str(&String::from_utf8_lossy(text));
        }
        Value::Simple(text) => out.push_str(&String::from_utf8_lossy(text)),
        Value::Verbatim(text) => out.push_str(String::from_utf8_lossy(text).trim_end_matches('\n')),
        Value::Integer(number) => out.push_str(&format!("(integer) {number}")),
        Value::Double(text) => out.push_str(&format!("(double) {}", String::from_utf8_lossy(text))),
        Value::BigNumber(text) => out.push_str(&String::from_utf8_lossy(text)),
        Value::Bulk(bytes) => quote(bytes, out),
        Value::Null => out.push_str("(nil)"),
        Value::Boolean(true) => out.push_str("(true)"),
        Value::Boolean(false) => out.push_str("(false)"),
        Value::Array(all) => return list(all, ')', "(empty array)", indent, out),
        Value::Set(all) => return list(all, '~', "(empty set)", indent, out),
        Value::Push(all) => return list(all, '>', "(empty push)", indent, out),
        Value::Map(pairs) => return map(pairs, indent, out),
    }
    out.push('\n');
}

fn list(all: &[Value], mark: char, empty: &str, indent: &str, out: &mut String) {
    if all.is_empty() {
        out.push_str(empty);
        out.push('\n');
    }
    let width = all.len().to_string().len();
    let deeper = format!("{indent}{:1$}", "", width + 2);
    for (at, value) in all.iter().enumerate() {
        // The first number follows the one of the list that holds this one.
        let before = if at == 0 { "" } else { indent };
        out.push_str(&format!("{before}{:>width$}{mark} ", at + 1));
        terminal(value, &deeper, out);
    }
}

fn map(pairs: &[(Value, Value)], indent: &str, out: &mut String) {
    if pairs.is_empty() {
        out.push_str("(empty hash)\n");
    }
    let width = pairs.len().to_string().len();
    let deeper = format!("{indent}{:1$}", "", width + 2);
    for (at, (key, value)) in pairs.iter().enumerate() {
        let before = if at == 0 { "" } else { indent };
        out.push_str(&format!("{before}{:>width$}# ", at + 1));
        terminal(key, &deeper, out);
        out.truncate(out.trim_end_matches('\n').len());
        out.push_str(" => ");
        terminal(value, &deeper, out);
    }
}

/// `sdscatrepr`: printable ASCII as it is, the rest escaped, so that it can be typed again.
fn quote(bytes: &[u8], out: &mut String) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
}

/// `cliFormatReplyRaw` of valkey-cli.c.
fn raw(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Error(bytes)
        | Value::Simple(bytes)
        | Value::Bulk(bytes)
        | Value::Double(bytes)
        | Value::BigNumber(bytes)
        | Value::Verbatim(bytes) => out.extend_from_slice(bytes),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Boolean(yes) => out.extend_from_slice(if *yes { b"(true)" } else { b"(false)" }),
        Value::Array(all) | Value::Set(all) | Value::Push(all) => {
            for (at, value) in all.iter().enumerate() {
                if at > 0 {
                    out.push(b'\n');
                }
                raw(value, out);
            }
        }
        Value::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.push(b'\n');
                }
                raw(key, out);
                out.push(b'\n');
                raw(value, out);
            }
        }
    }
}

/// Text becomes a string; bytes that are no text become `{"hex": "..."}`.
fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Error(text) => json!({ "error": String::from_utf8_lossy(text) }),
        Value::Simple(bytes)
        | Value::Bulk(bytes)
        | Value::Verbatim(bytes)
        | Value::BigNumber(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "hex": hex })
            }
        },
        Value::Integer(number) => json!(number),
        Value::Double(text) => {
            let text = String::from_utf8_lossy(text);
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => json!(number),
                _ => json!(text),
            }
        }
        Value::Boolean(yes) => json!(yes),
        Value::Array(all) | Value::Set(all) | Value::Push(all) => all.iter().map(as_json).collect(),
        Value::Map(pairs) => {
            let names: Option<Map<_, _>> = pairs
                .iter()
                .map(|(key, value)| match as_json(key) {
                    serde_json::Value::String(name) => Some((name, as_json(value))),
                    _ => None,
                })
                .collect();
            names.map_or_else(
                || {
                    let pairs = pairs.iter();
                    pairs
                        .map(|(key, value)| json!([as_json(key), as_json(value)]))
                        .collect()
                },
                serde_json::Value::Object,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flect_agent::resp::value::Reader;

    fn check(look: Look, reply: &str, expect: &str) {
        let mut reader = Reader::default();
        reader.push(reply.as_bytes());
        let value = reader.take().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&show(&value, look)), expect);
    }

    #[test]
    fn replies_look_as_in_valkey_cli() {
        let check = |reply, expect| check(Look::Terminal, reply, expect);
        check("+OK\r\n", "OK\n");
        check("-ERR no\r\n", "(error) ERR no\n");
        check("$4\r\na\"\r\x01\r\n", "\"a\\\"\\r\\x01\"\n");
        check("*0\r\n", "(empty array)\n");
        check(
            "*2\r\n*2\r\n:1\r\n$1\r\na\r\n*1\r\n_\r\n",
            "1) 1) (integer) 1\n   2) \"a\"\n2) 1) (nil)\n",
        );
        check(
            "%2\r\n$1\r\na\r\n,1.5\r\n$1\r\nb\r\n~1\r\n#t\r\n",
            "1# \"a\" => (double) 1.5\n2# \"b\" => 1~ (true)\n",
        );
        let ten = format!("*10\r\n{}", ":7\r\n".repeat(10));
        assert!(ten.len() > 10);
        check(
            &ten,
            &(1..=10)
                .map(|n| format!("{n:>2}) (integer) 7\n"))
                .collect::<String>(),
        );
    }

    #[test]
    fn pipes_get_bytes_and_json_keeps_them() {
        check(Look::Raw, "*2\r\n$2\r\na\n\r\n:5\r\n", "a\n\n5\n");
        check(Look::Raw, "$-1\r\n", "\n");
        check(
            Look::Json,
            "%1\r\n$1\r\na\r\n*2\r\n:1\r\n,inf\r\n",
            "{\"a\":[1,\"inf\"]}\n",
        );
        check(Look::Json, "-ERR x\r\n", "{\"error\":\"ERR x\"}\n");
    }
}
