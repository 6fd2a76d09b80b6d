//! A sequence, played on a private Valkey and on a store at once, and the first difference.
//!
//! Invariant: both sides begin empty, take the same turns, and no side begins a turn before the
//! other has ended the one before.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Said;
use super::compare::Compare;
use super::exceptions::Exceptions;
use super::frame::Frame;
use super::player::{Outcome, Player, Target};
use super::step::{Act, Request, Step};
use super::unasked;
use crate::pair::shown;
use crate::wire::{Value, Wire};

/// How long the connections of the last sequence may take to be gone.
const CALM_SECONDS_MAX: u64 = 10;
const CALM_PAUSE: Duration = Duration::from_millis(1);
/// Databases that the vocabulary chooses from.
const DATABASES: usize = 4;
/// What a sequence may have switched on.
const EVENTS_SETTING: &str = "notify-keyspace-events";
/// The client that looks at what a sequence left; no sequence has it.
const INSPECTOR: char = 'z';

/// Two sides, and what is known to differ.
pub struct Duel<'a> {
    /// What is right.
    pub valkey: &'a dyn Target,
    /// What is judged.
    pub store: &'a dyn Target,
    /// What no reply of the store may hold.
    pub secret: Vec<u8>,
    /// What may differ.
    pub exceptions: &'a Exceptions,
}

/// Something that the store did otherwise.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The number of the step; after the last one, of the look at the data.
    pub step: usize,
    /// What was sent, as text.
    pub request: String,
    /// The kind of request: what differs in the same kind is the same to the minimiser.
    pub kind: String,
    /// What Valkey said.
    pub valkey: String,
    /// What the store said.
    pub store: String,
}

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Replies compared.
    pub replies: u64,
    /// Those of them that were errors.
    pub errors: u64,
    /// Requests by command, and how many of them were errors.
    pub commands: BTreeMap<String, (u64, u64)>,
}

/// Both players of one run.
struct Board<'a> {
    valkey: Player<'a>,
    store: Player<'a>,
    /// Asks the private Valkey what a random reply may hold.
    witness: Wire,
}

impl Duel<'_> {
    /// Plays the steps on empty sides; the first difference, if there is one.
    ///
    /// # Errors
    /// When a side cannot be used at all.
    pub fn run(&self, steps: &[Step], tally: &mut Tally) -> Result<Option<Difference>> {
        let mut board = self.prepare()?;
        let mut at = 0;
        while at < steps.len() {
            let name = steps[at].client;
            let mut end = at + 1;
            while end < steps.len()
                && steps[end].client == name
                && steps[end - 1]
                    .request()
                    .is_some_and(|request| request.joined)
                && steps[end].request().is_some()
            {
                end += 1;
            }
            if steps[at].act == Act::Close {
                board.valkey.close(name);
                board.store.close(name);
            } else {
                let requests: Vec<_> = steps[at..end].iter().filter_map(Step::request).collect();
                let found = self.turn(&mut board, name, &requests, tally)?.found;
                if let Some(difference) = found {
                    return Ok(Some(Difference {
                        step: at,
                        ..difference
                    }));
                }
            }
            at = end;
        }
        self.inspect(&mut board, steps.len(), tally)
    }

    fn prepare(&self) -> Result<Board<'_>> {
        for target in [self.valkey, self.store] {
            empty(target)?;
        }
        let mut board = Board {
            valkey: Player::new(self.valkey)?,
            store: Player::new(self.store)?,
            witness: self.valkey.operator()?,
        };
        let start = Instant::now();
        while board.valkey.blocked_clients()? + board.store.blocked_clients()? > 0 {
            check_calm(start, "clients are still blocked")?;
        }
        Ok(board)
    }

    fn turn(
        &self,
        board: &mut Board<'_>,
        name: char,
        requests: &[&Request],
        tally: &mut Tally,
    ) -> Result<Turn> {
        if board.valkey.client(name)?.blocked {
            return Ok(Turn::default());
        }
        board.valkey.client(name)?.write(requests);
        board.store.client(name)?.write(requests);
        let valkey = board.valkey.collect(name, requests)?;
        let store = board.store.collect(name, requests)?;
        count(requests, &valkey, tally);
        let found = self.judge(board, name, requests, &valkey, &store)?;
        Ok(Turn {
            found,
            own: valkey.own.into_iter().map(|(_, said)| said).collect(),
        })
    }

    fn judge(
        &self,
        board: &mut Board<'_>,
        name: char,
        requests: &[&Request],
        valkey: &Outcome,
        store: &Outcome,
    ) -> Result<Option<Difference>> {
        let text = |said: Option<&Said>| match said {
            Some(Said::Frame(frame)) => frame.to_string(),
            Some(Said::Closed) => "(closed the connection)".to_owned(),
            Some(Said::Nothing) | None => "(said nothing)".to_owned(),
            Some(Said::Garbage(bytes)) => format!("(no RESP) {}", shown(bytes)),
        };
        let difference = |at: usize, valkey: String, store: String| {
            let request = requests.get(at).or(requests.last());
            let kind = request.map(|request| request.name()).unwrap_or_default();
            let request = request.map(|request| Step::send(name, request.args.clone()));
            Difference {
                step: 0,
                request: request.map(|step| step.to_string()).unwrap_or_default(),
                kind,
                valkey,
                store,
            }
        };
        for at in 0..valkey.own.len().max(store.own.len()) {
            let (valkey, store) = (valkey.own.get(at), store.own.get(at));
            let said = (valkey.map(|(_, said)| said), store.map(|(_, said)| said));
            if let Some(Said::Frame(frame)) = said.1
                && self.leaks(frame)
            {
                let store = format!("(LEAK) {frame}");
                return Ok(Some(difference(at, text(said.0), store)));
            }
            let is_equal = match (valkey, said.1) {
                (Some((rule, Said::Frame(valkey))), Some(Said::Frame(store))) => {
                    rule.holds(valkey, store) && is_member(board, name, rule, store)?
                }
                (Some((_, valkey)), Some(store)) => valkey == store,
                _ => false,
            };
            let request = requests.get(at).or(requests.last());
            let (valkey, store) = (text(said.0), text(said.1));
            if !is_equal
                && !request.is_some_and(|r| self.exceptions.apply(&r.args, &valkey, &store))
            {
                return Ok(Some(difference(at, valkey, store)));
            }
        }
        let names = valkey.others.keys().chain(store.others.keys());
        for other in names {
            let of = |outcome: &Outcome| {
                let frames = outcome.others.get(other).cloned().unwrap_or_default();
                Frame::Many(b'*', unasked::ordered(frames))
            };
            let (valkey, store) = (of(valkey), of(store));
            if valkey != store || self.leaks(&store) {
                let said = |frame: &Frame| format!("({other} got) {frame}");
                return Ok(Some(difference(usize::MAX, said(&valkey), said(&store))));
            }
        }
        Ok(None)
    }

    /// Compares what is left: all names, and of each its type, its encoding, its time and its value.
    fn inspect(
        &self,
        board: &mut Board<'_>,
        step: usize,
        tally: &mut Tally,
    ) -> Result<Option<Difference>> {
        let ask = |board: &mut Board<'_>, args: &[&[u8]], tally: &mut Tally| {
            let request = Request::new(args.iter().map(|arg| arg.to_vec()).collect());
            self.turn(board, INSPECTOR, &[&request], tally)
        };
        for db in 0..DATABASES {
            ask(board, &[b"SELECT", db.to_string().as_bytes()], tally)?;
            let names = ask(board, &[b"KEYS", b"*"], tally)?;
            let mut found = names.found;
            let Some(Said::Frame(names)) = names.own.first() else {
                bail!("KEYS was not answered");
            };
            for name in names.items().iter().map(Frame::text) {
                if found.is_some() {
                    break;
                }
                let kind = ask(board, &[b"TYPE", name], tally)?;
                found = kind.found.clone();
                let kind = match kind.own.first() {
                    Some(Said::Frame(frame)) => frame.text().to_vec(),
                    _ => Vec::new(),
                };
                let value: &[&[u8]] = match kind.as_slice() {
                    b"string" => &[b"GET", name],
                    b"hash" => &[b"HGETALL", name],
                    b"list" => &[b"LRANGE", name, b"0", b"-1"],
                    b"set" => &[b"SMEMBERS", name],
                    b"zset" => &[b"ZRANGE", name, b"0", b"-1", b"WITHSCORES"],
                    _ => &[b"XINFO", b"STREAM", name, b"FULL"],
                };
                let looks: [&[&[u8]]; 3] =
                    [&[b"OBJECT", b"ENCODING", name], &[b"PTTL", name], value];
                for look in looks {
                    if found.is_none() {
                        found = ask(board, look, tally)?.found;
                    }
                }
            }
            if let Some(mut difference) = found {
                difference.step = step;
                difference.request = format!("(database {db}, at the end) {}", difference.request);
                difference.kind = format!("at the end: {}", difference.kind);
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn leaks(&self, frame: &Frame) -> bool {
        let secret = self.secret.as_slice();
        !secret.is_empty()
            && frame
                .bytes()
                .windows(secret.len())
                .any(|window| window == secret)
    }
}

/// A turn's difference, and what Valkey said to the client.
#[derive(Default)]
struct Turn {
    found: Option<Difference>,
    own: Vec<Said>,
}

/// Takes away all data and scripts of a side, and waits until the last subscriber is gone.
fn empty(target: &dyn Target) -> Result<()> {
    let mut wire = Wire::new(target.connect()?)?;
    let start = Instant::now();
    loop {
        let mut left = 0;
        for what in ["CHANNELS", "SHARDCHANNELS"] {
            left += wire.command(&["PUBSUB", what])?.items().len();
        }
        if left == 0 && wire.command(&["PUBSUB", "NUMPAT"])? == Value::Int(0) {
            break;
        }
        check_calm(start, "subscribers are still there")?;
    }
    let events = wire.command(&["CONFIG", "GET", EVENTS_SETTING])?;
    let events = events.items().get(1).map(Value::text);
    let silent = events.is_none_or(|flags| flags.is_empty());
    let off: &[&str] = &["CONFIG", "SET", EVENTS_SETTING, ""];
    let off = (!silent).then_some(off);
    let clear: [&[&str]; 2] = [&["FLUSHALL"], &["SCRIPT", "FLUSH"]];
    // A store's settings may be changed only so often.
    for command in off.into_iter().chain(clear) {
        let reply = wire.command(command)?;
        if let Value::Error(text) = reply {
            bail!("{}: {text}", command.join(" "));
        }
    }
    Ok(())
}

fn check_calm(start: Instant, why: &str) -> Result<()> {
    if start.elapsed() > Duration::from_secs(CALM_SECONDS_MAX) {
        bail!("{why} {CALM_SECONDS_MAX} s after the last sequence");
    }
    thread::sleep(CALM_PAUSE);
    Ok(())
}

/// Whether every string of a random reply is one that the private Valkey has.
fn is_member(board: &mut Board<'_>, name: char, rule: &Compare, store: &Frame) -> Result<bool> {
    let Compare::Member(args) = rule else {
        return Ok(true);
    };
    let db = board.valkey.client(name)?.db.clone();
    board.witness.command(&[b"SELECT".as_slice(), &db])?;
    board.witness.send(args)?;
    let all = board.witness.read_bytes()?;
    let (all, _) = Frame::parse(&all)
        .ok()
        .flatten()
        .context("the private Valkey sent no RESP")?;
    Ok(strings(store).iter().all(|one| strings(&all).contains(one)))
}

fn strings(frame: &Frame) -> Vec<&[u8]> {
    match frame {
        Frame::Blob(_, bytes) => vec![bytes],
        frame => frame.items().iter().flat_map(strings).collect(),
    }
}

fn count(requests: &[&Request], outcome: &Outcome, tally: &mut Tally) {
    let replies = outcome.own.iter().filter_map(|(_, said)| match said {
        Said::Frame(frame) if !frame.is_push() => Some(frame),
        _ => None,
    });
    for (at, frame) in replies.enumerate() {
        tally.replies += 1;
        tally.errors += u64::from(frame.is_error());
        if let Some(request) = requests.get(at) {
            let (all, errors) = tally.commands.entry(request.name()).or_default();
            *all += 1;
            *errors += u64::from(frame.is_error());
        }
    }
}
