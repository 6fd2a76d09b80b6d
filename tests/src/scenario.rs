//! Conversations as text, held with a store and with a private Valkey, in RESP2 and in RESP3.
//!
//! A `#` begins a scenario, `//` a comment. Any other line is a step of one connection, which is made
//! when it is first named. Both sides begin empty, and every reply must be the same, byte for byte.
//!
//! | step | meaning |
//! | --- | --- |
//! | `a GET k` | send, and read one reply |
//! | `a: GET k` | send only |
//! | `a<` `a< 3` | read one reply, or three |
//! | `a<?` `a<? 3` | the same, with every number taken as equal |
//! | `a<*` | everything until nothing comes any more |
//! | `a?<` | read one reply, with every number taken as equal |
//! | `a? CLIENT ID` | one reply, with every number taken as equal |
//! | `a@ SMEMBERS s` | one reply, in any order |
//! | `a~ TIME` | one reply, of which only the type counts |
//! | `a!` | nothing has come |
//! | `a|` | the client closes its sending half |
//! | `a/` | the client closes |
//! | `a.` | the server closes |
//! | `blocked 2` | wait until so many clients are blocked |
//! | `paused a 2` | wait until INFO tells a of so many blocked clients |
//! | `info a FIELD ...` | these fields of INFO, as a is told |
//! | `sleep 20` | wait so many milliseconds |
//! | `id a` | from here on `$a` is its CLIENT ID, and `@a` its address |
//! | `resp2` `resp3` | at the beginning: only in this protocol |
//!
//! Arguments are quoted as in valkey-cli: `"a\r\n\x00"`, `'it\'s'`. `$b` is the CLIENT ID of connection b.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bed::agent::wait_until;
use crate::pair::{Pair, Side, shown};
use crate::quoting::split;
use crate::wire::{Value, Wire, without_numbers};

/// How long a client waits for what must not come.
const SILENCE: Duration = Duration::from_millis(40);
/// How long a reply may take: a difference that shows as a missing reply should not take a minute.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a busy machine takes to notice that a client has closed.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// How long clients may take to block.
const BLOCKED_SECONDS_MAX: u64 = 10;
/// A report beyond this is not read.
const DIFFERENCES_MAX: usize = 60;

struct Scenario<'a> {
    name: &'a str,
    protocols: &'static [u8],
    steps: Vec<(usize, Step<'a>)>,
}

impl Scenario<'_> {
    /// What stands for a connection's id in its steps, unless a step of its own asks for it.
    fn wanted(&self) -> BTreeSet<String> {
        let steps = || self.steps.iter().map(|(_, step)| step);
        let asked: BTreeSet<String> = steps()
            .filter_map(|step| match step {
                Step::Id(name) => Some(format!("${name}")),
                _ => None,
            })
            .collect();
        steps()
            .filter_map(|step| match step {
                Step::Command(_, args, _) | Step::Send(_, args) => Some(args),
                _ => None,
            })
            .flatten()
            .filter_map(|arg| String::from_utf8(arg.clone()).ok())
            .filter(|arg| arg.starts_with('$') && !asked.contains(arg))
            .collect()
    }
}

enum Step<'a> {
    Command(&'a str, Vec<Vec<u8>>, Compare),
    Send(&'a str, Vec<Vec<u8>>),
    Read(&'a str, usize, Compare),
    Id(&'a str),
    All(&'a str),
    Silent(&'a str),
    ShutDown(&'a str),
    Close(&'a str),
    Closed(&'a str),
    Blocked(String),
    Paused(&'a str, &'a str),
    Info(&'a str, Vec<&'a str>),
    Sleep(u64),
}

#[derive(Clone, Copy)]
enum Compare {
    Bytes,
    Numbers,
    Sorted,
    Type,
}

/// What one side said, by line.
type Transcript = Vec<(usize, String)>;

/// Holds every conversation of `text` with both sides.
///
/// # Errors
/// When they differ anywhere; the message says where.
pub fn check(pair: &Pair, text: &str) -> Result<()> {
    let lines: Vec<&str> = text.lines().collect();
    let mut differences = Vec::new();
    for scenario in parse(text)? {
        for &protocol in scenario.protocols {
            let (valkey, store) = thread::scope(|scope| {
                let store = scope.spawn(|| play(pair, Side::Store, protocol, &scenario));
                let valkey = play(pair, Side::Private, protocol, &scenario);
                (valkey, store.join().expect("no panic"))
            });
            let (valkey, store) = (valkey?, store?);
            let rest = (valkey.len() != store.len()).then_some("one of them said more");
            for (valkey, store) in valkey.iter().zip(&store) {
                if valkey != store {
                    differences.push(format!(
                        "{} (RESP{protocol}), line {}: {}\n   Valkey: {}\n   store:  {}",
                        scenario.name,
                        valkey.0 + 1,
                        lines[valkey.0].trim(),
                        valkey.1,
                        store.1,
                    ));
                }
            }
            differences.extend(rest.map(|rest| format!("{}: {rest}", scenario.name)));
        }
    }
    let count = differences.len();
    differences.truncate(DIFFERENCES_MAX);
    ensure!(
        count == 0,
        "{count} differences\n{}",
        differences.join("\n")
    );
    Ok(())
}

fn play(pair: &Pair, side: Side, protocol: u8, scenario: &Scenario<'_>) -> Result<Transcript> {
    pair.empty(side)?;
    wait_for_subscribers_to_leave(pair, side)?;
    let mut player = Player {
        pair,
        side,
        protocol,
        connections: BTreeMap::new(),
        known: BTreeMap::new(),
        wanted: scenario.wanted(),
        ids: BTreeMap::new(),
    };
    let mut transcript = Vec::new();
    for (line, step) in &scenario.steps {
        match player.step(step) {
            Ok(said) => transcript.extend(said.into_iter().map(|said| (*line, said))),
            Err(error) if side == Side::Private => {
                let name = scenario.name;
                return Err(error.context(format!("{name} (RESP{protocol}), line {}", line + 1)));
            }
            Err(error) => {
                transcript.push((*line, format!("({error:#})")));
                break;
            }
        }
    }
    Ok(transcript)
}

/// The server counts subscribers of the scenario before until it has noticed that they have gone.
fn wait_for_subscribers_to_leave(pair: &Pair, side: Side) -> Result<()> {
    let mut operator = pair.operator(side)?;
    let user = format!(" user=flect.{} ", String::from_utf8_lossy(pair.secret()));
    let is_one = |line: &str| {
        let own = side == Side::Private || line.contains(&user);
        own && !(line.contains(" sub=0 ") && line.contains(" ssub=0 "))
    };
    let deadline = Instant::now() + GONE_WITHIN;
    // Whoever holds one on purpose goes on with it.
    while Instant::now() < deadline {
        let list = operator.command(&["CLIENT", "LIST", "TYPE", "PUBSUB"])?;
        if !list.text().lines().any(is_one) {
            break;
        }
    }
    Ok(())
}

struct Player<'a> {
    pair: &'a Pair,
    side: Side,
    protocol: u8,
    connections: BTreeMap<String, Wire>,
    /// What stands for `$a` and `@a`.
    known: BTreeMap<String, String>,
    /// Names of connections, as `$a`, whose ids steps are given.
    wanted: BTreeSet<String>,
    /// What each has for a CLIENT ID.
    ids: BTreeMap<String, String>,
}

impl Player<'_> {
    fn step(&mut self, step: &Step<'_>) -> Result<Vec<String>> {
        Ok(match step {
            Step::Command(name, args, compare) => {
                let args = self.with_ids(&self.with_known(args))?;
                let wire = self.connection(name)?;
                wire.send(&args)?;
                let said = read(wire, *compare)?;
                vec![self.checked(said)]
            }
            Step::Send(name, args) => {
                let args = self.with_ids(&self.with_known(args))?;
                self.connection(name)?.send(&args)?;
                Vec::new()
            }
            Step::Id(name) => {
                let wire = self.connection(name)?;
                let id = wire.command(&["CLIENT", "ID"])?.text();
                let address = wire.stream().local_addr()?.to_string();
                self.known.insert(format!("${name}"), id);
                self.known.insert(format!("@{name}"), address);
                Vec::new()
            }
            Step::Read(name, count, compare) => {
                let mut all = Vec::new();
                for _ in 0..*count {
                    let said = read(self.connection(name)?, *compare)?;
                    all.push(self.checked(said));
                }
                all
            }
            Step::All(name) => {
                let (bytes, _) = self.connection(name)?.read_until_silent(SILENCE * 4)?;
                vec![match self.side == Side::Store && self.pair.leaks(&bytes) {
                    true => format!("LEAK: {}", bytes.escape_ascii()),
                    false => bytes.escape_ascii().to_string(),
                }]
            }
            Step::Silent(name) => {
                let silent = self.connection(name)?.is_silent_for(SILENCE)?;
                vec![if silent { "silent" } else { "not silent" }.to_owned()]
            }
            Step::ShutDown(name) => {
                self.connection(name)?.stream().shutdown(Shutdown::Write)?;
                Vec::new()
            }
            Step::Close(name) => {
                self.connections.remove(*name);
                Vec::new()
            }
            Step::Closed(name) => {
                let rest = self.connection(name)?.read_to_end()?;
                vec![format!("closed after {}", shown(&rest))]
            }
            Step::Blocked(count) => {
                self.wait_blocked(count)?;
                Vec::new()
            }
            Step::Paused(name, count) => {
                let field = format!("blocked_clients:{count}\r\n");
                let wire = self.connection(name)?;
                wait_until(Duration::from_secs(BLOCKED_SECONDS_MAX), || {
                    Ok(wire.command(&["INFO", "clients"])?.text().contains(&field))
                })?;
                Vec::new()
            }
            Step::Info(name, fields) => {
                let info = self.connection(name)?.command(&["INFO"])?.text();
                let is_asked = |line: &&str| {
                    let field = line.split_once(':').map(|(field, _)| field);
                    field.is_some_and(|field| fields.contains(&field))
                };
                info.lines().filter(is_asked).map(str::to_owned).collect()
            }
            Step::Sleep(milliseconds) => {
                thread::sleep(Duration::from_millis(*milliseconds));
                Vec::new()
            }
        })
    }

    fn with_known(&self, args: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let known = |arg: &Vec<u8>| self.known.get(std::str::from_utf8(arg).ok()?);
        let meant = |arg: &Vec<u8>| {
            known(arg).map_or_else(|| arg.clone(), |text| text.clone().into_bytes())
        };
        args.iter().map(meant).collect()
    }

    fn connection(&mut self, name: &str) -> Result<&mut Wire> {
        if !self.connections.contains_key(name) {
            let mut wire = self.pair.connect(self.side)?;
            wire.set_patience(PATIENCE)?;
            if self.protocol == 3 {
                wire.command(&["HELLO", "3"])?;
            }
            // Asked for at once, since a subscriber cannot tell it in RESP2; and only where a step wants it,
            // since MONITOR shows the asking.
            if self.wanted.contains(&format!("${name}")) {
                let id = wire.command(&["CLIENT", "ID"])?.text();
                self.ids.insert(name.to_owned(), id);
            }
            self.connections.insert(name.to_owned(), wire);
        }
        self.connections.get_mut(name).context("just made")
    }

    /// The arguments with ids in place of the connections' names.
    fn with_ids(&mut self, args: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let mut all = args.to_vec();
        for arg in &mut all {
            if let [b'$', name] = arg.as_slice() {
                let name = char::from(*name).to_string();
                self.connection(&name)?;
                let id = self.ids.get(&name).context("a connection's id")?;
                *arg = id.clone().into_bytes();
            }
        }
        Ok(all)
    }

    /// No reply may hold the store's name on the server.
    fn checked(&self, said: Vec<u8>) -> String {
        if self.side == Side::Store && self.pair.leaks(&said) {
            return format!("LEAK: {}", shown(&said));
        }
        shown(&said)
    }

    fn wait_blocked(&self, count: &str) -> Result<()> {
        let mut operator = self.pair.operator(self.side)?;
        let field = format!("blocked_clients:{count}\r\n");
        wait_until(Duration::from_secs(BLOCKED_SECONDS_MAX), || {
            let info = operator.command(&["INFO", "clients"])?.text();
            Ok(info.contains(&field))
        })
    }
}

fn read(wire: &mut Wire, compare: Compare) -> Result<Vec<u8>> {
    Ok(match compare {
        Compare::Bytes => wire.read_bytes()?,
        Compare::Numbers => without_numbers(&wire.read_bytes()?),
        Compare::Sorted => sorted(wire.read()?).into_bytes(),
        Compare::Type => wire.read_bytes()?[..1].to_vec(),
    })
}

fn sorted(value: Value) -> String {
    let mut texts: Vec<String> = match &value {
        Value::Map(pairs) => pairs.iter().map(|(k, v)| format!("{k}: {v}")).collect(),
        other => other.items().iter().map(ToString::to_string).collect(),
    };
    if texts.is_empty() {
        return format!("{value:?}");
    }
    texts.sort();
    let kind = std::mem::discriminant(&value);
    format!("{kind:?} {}", texts.join(", "))
}

fn parse(text: &str) -> Result<Vec<Scenario<'_>>> {
    let mut all: Vec<Scenario<'_>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if let Some(name) = line.strip_prefix('#') {
            all.push(Scenario {
                name: name.trim(),
                protocols: &[2, 3],
                steps: Vec::new(),
            });
            continue;
        }
        let scenario = all.last_mut().context("a step before the first scenario")?;
        match line {
            "resp2" => scenario.protocols = &[2],
            "resp3" => scenario.protocols = &[3],
            _ => {
                let step = parse_step(line).with_context(|| format!("line {}", number + 1))?;
                scenario.steps.push((number, step));
            }
        }
    }
    Ok(all)
}

fn parse_step(line: &str) -> Result<Step<'_>> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "id" => return Ok(Step::Id(rest)),
        "blocked" => return Ok(Step::Blocked(rest.to_owned())),
        "paused" => {
            let (name, count) = rest.split_once(' ').context("paused NAME COUNT")?;
            return Ok(Step::Paused(name, count));
        }
        "info" => {
            let mut words = rest.split(' ');
            let name = words.next().context("info NAME FIELD ...")?;
            return Ok(Step::Info(name, words.collect()));
        }
        "sleep" => return Ok(Step::Sleep(rest.parse()?)),
        _ => {}
    }
    let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
    Ok(match &word[name.len()..] {
        "" => Step::Command(name, split(rest)?, Compare::Bytes),
        "?" => Step::Command(name, split(rest)?, Compare::Numbers),
        "@" => Step::Command(name, split(rest)?, Compare::Sorted),
        "~" => Step::Command(name, split(rest)?, Compare::Type),
        ":" => Step::Send(name, split(rest)?),
        "<" => Step::Read(name, count(rest)?, Compare::Bytes),
        "<*" => Step::All(name),
        "<?" => Step::Read(name, count(rest)?, Compare::Numbers),
        "?<" => Step::Read(name, 1, Compare::Numbers),
        "!" => Step::Silent(name),
        "|" => Step::ShutDown(name),
        "/" => Step::Close(name),
        "." => Step::Closed(name),
        other => bail!("no such step: {other}"),
    })
}

fn count(text: &str) -> Result<usize> {
    Ok(if text.is_empty() { 1 } else { text.parse()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_equal() {
        assert_eq!(without_numbers(b"id=12 age=345\r\n"), b"id=N age=N\r\n");
    }
}
