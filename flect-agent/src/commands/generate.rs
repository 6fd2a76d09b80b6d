//! Writing `commands/generated.rs` from what real servers answer to `COMMAND`.
//!
//! Invariant: the newest server's description of a command counts; a flag or key spec that has no
//! form in [`super`] is an error, not a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use redis_protocol::resp2::types::OwnedFrame;

use super::{Begin, Find, Flags, KeyFlags, Version};

/// A server's answer to `COMMAND`, in RESP2.
#[derive(Debug)]
pub struct CommandReply(Vec<Described>);

/// The answer cannot be understood, or cannot be expressed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GenerateError(String);

#[derive(Debug)]
struct Described {
    name: String,
    arity: i16,
    flags: Flags,
    keys: Vec<DescribedKeys>,
}

#[derive(Debug)]
pub(super) struct DescribedKeys {
    pub(super) flags: KeyFlags,
    pub(super) begin: Begin,
    pub(super) find: Find,
}

impl CommandReply {
    /// Reads the answer; `None` when it is not complete yet.
    ///
    /// # Errors
    /// When it is not the answer to `COMMAND`, or says something that the table cannot express.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, GenerateError> {
        let frame = redis_protocol::resp2::decode::decode(bytes)
            .map_err(|error| GenerateError(error.to_string()))?;
        let Some((frame, _)) = frame else {
            return Ok(None);
        };
        let mut described = Vec::new();
        for entry in array(&frame)? {
            describe(entry, &mut described)?;
        }
        Ok(Some(Self(described)))
    }
}

/// The source text of `commands/generated.rs`; servers may come in any order.
///
/// # Errors
/// When a newer server lacks a command that an older one has: the table knows only `since`.
pub fn generate(dumps: &[(Version, CommandReply)]) -> Result<String, GenerateError> {
    let mut dumps: Vec<_> = dumps.iter().collect();
    dumps.sort_by_key(|(version, _)| *version);
    let mut commands: BTreeMap<&str, (&Described, Version, Version)> = BTreeMap::new();
    for (version, reply) in &dumps {
        for described in &reply.0 {
            let since = commands
                .get(described.name.as_str())
                .map_or(*version, |(_, since, _)| *since);
            commands.insert(&described.name, (described, since, *version));
        }
    }
    let versions: Vec<String> = dumps
        .iter()
        .map(|(version, _)| format!("{}.{}", version.major, version.minor))
        .collect();
    let mut text = format!(
        "//! Written by the example `generate-commands` from the answers of Valkey {} to `COMMAND`.\n//!\n\
         //! Invariant: sorted by name, one line for each command and subcommand.\n\n{PREAMBLE}",
        versions.join(", ")
    );
    for (name, (described, since, last)) in &commands {
        if dumps.last().is_some_and(|(newest, _)| newest != last) {
            return Err(GenerateError(format!("newer servers lack '{name}'")));
        }
        let keys: Vec<String> = described.keys.iter().map(DescribedKeys::source).collect();
        let _ = writeln!(
            text,
            "    entry({name:?}, {}, {}, &[{}], {}, {}),",
            described.arity,
            constants(described.flags.constants(), "F"),
            keys.join(", "),
            since.major,
            since.minor,
        );
    }
    text.push_str("];\n");
    Ok(text)
}

const PREAMBLE: &str = "\
use super::entry::{Entry, entry, index, keynum, keyword, range, spec};
use super::{Flags as F, KeyFlags as K};

#[rustfmt::skip]
pub(super) const GENERATED: &[Entry] = &[
";

impl DescribedKeys {
    fn source(&self) -> String {
        let begin = match self.begin {
            Begin::Index(at) => format!("index({at})"),
            Begin::Keyword { word, from } => format!("keyword({word:?}, {from})"),
            Begin::Unknown => "super::Begin::Unknown".to_owned(),
        };
        let find = match self.find {
            Find::Range { last, step, limit } => format!("range({last}, {step}, {limit})"),
            Find::Keynum { at, first, step } => format!("keynum({at}, {first}, {step})"),
            Find::Unknown => "super::Find::Unknown".to_owned(),
        };
        let flags = constants(self.flags.constants(), "K");
        format!("spec({flags}, {begin}, {find})")
    }
}

/// `F::WRITE.with(F::FAST)`
fn constants<'a>(mut names: impl Iterator<Item = &'a str>, set: &str) -> String {
    let mut text = format!("{set}::{}", names.next().unwrap_or("NONE"));
    for name in names {
        let _ = write!(text, ".with({set}::{name})");
    }
    text
}

/// One element of the answer: name, arity, flags, first, last, step, categories, tips, key specs,
/// subcommands.
fn describe(entry: &OwnedFrame, described: &mut Vec<Described>) -> Result<(), GenerateError> {
    let [name, arity, flags, _, _, _, _, _, specs, subcommands] = array(entry)?.as_slice() else {
        return Err(GenerateError(
            "a command is not described by ten values".to_owned(),
        ));
    };
    let name = text(name)?.to_owned();
    let flags = Flags::from_words(words(flags)?)
        .map_err(|flag| GenerateError(format!("'{name}' has the unknown flag '{flag}'")))?;
    let keys = array(specs)?
        .iter()
        .map(|spec| key_spec(spec).map_err(|error| GenerateError(format!("'{name}': {error}"))))
        .collect::<Result<_, _>>()?;
    described.push(Described {
        arity: number(arity)?,
        name,
        flags,
        keys,
    });
    for subcommand in array(subcommands)? {
        describe(subcommand, described)?;
    }
    Ok(())
}

pub(super) fn key_spec(spec: &OwnedFrame) -> Result<DescribedKeys, GenerateError> {
    let flags = KeyFlags::from_words(words(field(spec, "flags")?)?)
        .map_err(|flag| GenerateError(format!("unknown key flag '{flag}'")))?;
    let begin = field(spec, "begin_search")?;
    let details = field(begin, "spec")?;
    let begin = match text(field(begin, "type")?)? {
        "index" => Begin::Index(number(field(details, "index")?)?),
        "keyword" => Begin::Keyword {
            word: word(text(field(details, "keyword")?)?),
            from: number(field(details, "startfrom")?)?,
        },
        "unknown" => Begin::Unknown,
        other => return Err(GenerateError(format!("unknown begin_search '{other}'"))),
    };
    let find = field(spec, "find_keys")?;
    let details = field(find, "spec")?;
    let find = match text(field(find, "type")?)? {
        "range" => Find::Range {
            last: number(field(details, "lastkey")?)?,
            step: number(field(details, "keystep")?)?,
            limit: number(field(details, "limit")?)?,
        },
        "keynum" => Find::Keynum {
            at: number(field(details, "keynumidx")?)?,
            first: number(field(details, "firstkey")?)?,
            step: number(field(details, "keystep")?)?,
        },
        "unknown" => Find::Unknown,
        other => return Err(GenerateError(format!("unknown find_keys '{other}'"))),
    };
    Ok(DescribedKeys { flags, begin, find })
}

/// A keyword for good. There are few different ones, and each is kept once.
fn word(text: &str) -> &'static str {
    static WORDS: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(word) = words.get(text) {
        return word;
    }
    let word: &'static str = text.to_owned().leak();
    words.insert(word);
    word
}

pub(super) fn array(frame: &OwnedFrame) -> Result<&Vec<OwnedFrame>, GenerateError> {
    match frame {
        OwnedFrame::Array(elements) => Ok(elements),
        other => Err(unexpected("an array", other)),
    }
}

/// The value of `name` in an array of names and values.
fn field<'a>(frame: &'a OwnedFrame, name: &str) -> Result<&'a OwnedFrame, GenerateError> {
    array(frame)?
        .chunks_exact(2)
        .find(|pair| text(&pair[0]).is_ok_and(|found| found == name))
        .map(|pair| &pair[1])
        .ok_or_else(|| GenerateError(format!("no field '{name}'")))
}

pub(super) fn text(frame: &OwnedFrame) -> Result<&str, GenerateError> {
    match frame {
        OwnedFrame::BulkString(bytes) | OwnedFrame::SimpleString(bytes) => {
            std::str::from_utf8(bytes).map_err(|error| GenerateError(error.to_string()))
        }
        other => Err(unexpected("a string", other)),
    }
}

pub(super) fn words(frame: &OwnedFrame) -> Result<Vec<&str>, GenerateError> {
    array(frame)?.iter().map(text).collect()
}

pub(super) fn number<T: TryFrom<i64>>(frame: &OwnedFrame) -> Result<T, GenerateError> {
    match frame {
        OwnedFrame::Integer(value) => T::try_from(*value).ok(),
        _ => None,
    }
    .ok_or_else(|| unexpected("a small integer", frame))
}

fn unexpected(what: &str, frame: &OwnedFrame) -> GenerateError {
    GenerateError(format!("expected {what}, got {frame:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two commands and a subcommand, in the form of a real answer.
    fn answer(names: &[&str]) -> CommandReply {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let spec = format!(
            "*6\r\n{}*2\r\n+RW\r\n+access\r\n{}*4\r\n{}{}{}*2\r\n{}:1\r\n{}*4\r\n{}{}{}*6\r\n{}:-1\r\n{}:2\r\n{}:0\r\n",
            bulk("flags"),
            bulk("begin_search"),
            bulk("type"),
            bulk("index"),
            bulk("spec"),
            bulk("index"),
            bulk("find_keys"),
            bulk("type"),
            bulk("range"),
            bulk("spec"),
            bulk("lastkey"),
            bulk("keystep"),
            bulk("limit"),
        );
        let mut bytes = format!("*{}\r\n", names.len());
        for name in names {
            let subcommand = bulk(&format!("{name}|sub"));
            bytes += &format!(
                "*10\r\n{}:-2\r\n*2\r\n+write\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*1\r\n{spec}*1\r\n*10\r\n{subcommand}:2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
                bulk(name)
            );
        }
        assert!(
            CommandReply::parse(&bytes.as_bytes()[..bytes.len() - 1])
                .unwrap()
                .is_none()
        );
        CommandReply::parse(bytes.as_bytes()).unwrap().unwrap()
    }

    const OLD: Version = Version { major: 8, minor: 0 };
    const NEW: Version = Version { major: 9, minor: 1 };

    #[test]
    fn a_line_says_what_the_server_said() {
        let text = generate(&[(NEW, answer(&["b", "a"])), (OLD, answer(&["b"]))]).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("entry("))
            .collect();
        assert_eq!(
            lines,
            [
                r#"    entry("a", -2, F::FAST.with(F::WRITE), &[spec(K::RW.with(K::ACCESS), index(1), range(-1, 2, 0))], 9, 1),"#,
                r#"    entry("a|sub", 2, F::NONE, &[], 9, 1),"#,
                r#"    entry("b", -2, F::FAST.with(F::WRITE), &[spec(K::RW.with(K::ACCESS), index(1), range(-1, 2, 0))], 8, 0),"#,
                r#"    entry("b|sub", 2, F::NONE, &[], 8, 0),"#,
            ]
        );
    }

    #[test]
    fn what_the_table_cannot_say_is_an_error() {
        assert!(generate(&[(OLD, answer(&["a"])), (NEW, answer(&["b"]))]).is_err());
        let unknown_flag = "*1\r\n*10\r\n$1\r\na\r\n:1\r\n*1\r\n+shiny\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n";
        let error = CommandReply::parse(unknown_flag.as_bytes())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "'a' has the unknown flag 'shiny'");
        assert!(CommandReply::parse(b"-ERR no\r\n").is_err());
    }
}
