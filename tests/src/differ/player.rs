//! One side of a duel: its clients, what they send, and everything that comes of it.
//!
//! Invariant: a turn ends when all that it causes has arrived. Replies are counted; a client that
//! may get messages asks for an echo and reads up to it; blocked clients are counted by the server.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::client::{Client, PATIENCE, Replies, Said};
use super::compare::{self, Compare};
use super::frame::Frame;
use super::step::Request;
use super::unasked;
use crate::wire::Wire;

/// What the clients of a side connect to.
pub trait Target: Sync {
    /// A new connection.
    ///
    /// # Errors
    /// Whatever connect says.
    fn connect(&self) -> io::Result<TcpStream>;

    /// A connection to the server behind it, with operator rights.
    ///
    /// # Errors
    /// Whatever connect says.
    fn operator(&self) -> io::Result<Wire>;
}

/// The echo behind which nothing more can come. No value of the vocabulary is like it.
const MARK: &[u8] = b"differ-mark";
/// Between two looks at how many clients are blocked.
const LOOK_PAUSE: Duration = Duration::from_micros(300);
/// What nobody replies to has been done after so long, on an idle server.
const UNHEARD_PAUSE: Duration = Duration::from_millis(3);
/// Pages of one iteration: far more than keys in a run.
const PAGES_MAX: usize = 10_000;

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the client itself got, with the rule of each.
    pub own: Vec<(Compare, Said)>,
    /// What others got.
    pub others: BTreeMap<char, Vec<Frame>>,
}

/// A side and its clients.
pub struct Player<'a> {
    target: &'a dyn Target,
    operator: Wire,
    clients: BTreeMap<char, Client>,
}

impl<'a> Player<'a> {
    /// A side without clients; they connect when first used.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn new(target: &'a dyn Target) -> Result<Self> {
        Ok(Self {
            target,
            operator: target.operator().context("connecting as operator")?,
            clients: BTreeMap::new(),
        })
    }

    /// The state of a client, connected when there is none.
    ///
    /// # Errors
    /// When it cannot connect.
    pub fn client(&mut self, name: char) -> Result<&mut Client> {
        if self.clients.get(&name).is_none_or(|client| client.closed) {
            let client = Client::new(self.target.connect()?)?;
            self.clients.insert(name, client);
        }
        self.clients.get_mut(&name).context("just connected")
    }

    /// The state of a client that has sent something.
    fn known(&mut self, name: char) -> Result<&mut Client> {
        self.clients.get_mut(&name).context("no such client")
    }

    /// The client goes away.
    pub fn close(&mut self, name: char) {
        self.clients.remove(&name);
    }

    /// Reads what comes of the requests that the client has just written.
    ///
    /// # Errors
    /// When the server behind the side cannot be asked.
    pub fn collect(&mut self, name: char, requests: &[&Request]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let waiting = self.clients.values().filter(|c| c.blocked).count();
        let client = self.known(name)?;
        if requests.iter().any(|request| is_subscription(request)) {
            client.listens = true;
        }
        let executes = requests.iter().any(|request| request.name() == "EXEC");
        // Inside a transaction the mark would be queued, behind what waits it would wait.
        let holds = |request: &&Request| request.name() == "MULTI" || waits_forever(request);
        let held = requests.iter().any(holds);
        let unhurried = !held && (client.queued.is_none() || executes);
        let subscribes = executes || requests.iter().any(|request| is_subscription(request));
        let tracks = requests.iter().any(|request| is_tracking(request));
        client.tracks |= tracks;
        if client.listens
            && unhurried
            && client.replies == Replies::On
            && (subscribes || client.protocol == 2)
        {
            read_to_mark(client, requests, &mut outcome.own);
            if client.tracks {
                // Invalidations come when the server has read all that there is, the mark perhaps included.
                read_to_mark(client, &[], &mut outcome.own);
            }
        } else {
            for &request in requests {
                let client = self.known(name)?;
                if is_unheard(client, request) {
                    continue;
                }
                if waits_forever(request) && client.queued.is_none() {
                    if self.read_or_block(name, request, waiting, &mut outcome.own)? {
                        break;
                    }
                } else {
                    read_reply(client, request, &mut outcome.own);
                }
                if outcome.own.last().is_some_and(|(_, said)| !is_frame(said)) {
                    break;
                }
                self.follow_cursor(name, requests, &mut outcome.own)?;
            }
            let client = self.known(name)?;
            if client.replies == Replies::Off {
                thread::sleep(UNHEARD_PAUSE);
            }
            // What belongs to this turn shall not come with the next.
            let said = outcome.own.last().is_none_or(|(_, said)| is_frame(said));
            let more = (client.listens || client.tracks) && client.queued.is_none();
            if more && said && !client.blocked && client.replies == Replies::On {
                read_to_mark(client, &[], &mut outcome.own);
            }
        }
        if requests.len() > 1 {
            for (rule, _) in &mut outcome.own {
                *rule = rule.queued().clone();
            }
        }
        if requests.iter().any(|request| request.args.len() == 1) {
            sort_confirmations(&mut outcome.own);
        }
        outcome.own = unasked::ordered_among(outcome.own);
        self.read_others(name, &mut outcome)?;
        self.read_unblocked(&mut outcome)?;
        Ok(outcome)
    }

    /// Reads the reply of a request that may block; true when it did.
    fn read_or_block(
        &mut self,
        name: char,
        request: &Request,
        waiting: usize,
        own: &mut Vec<(Compare, Said)>,
    ) -> Result<bool> {
        let start = Instant::now();
        loop {
            let client = self.known(name)?;
            match client.read_now()? {
                Some(Said::Frame(frame)) if frame.is_push() => {
                    own.push((Compare::Bytes, Said::Frame(frame)));
                }
                Some(said) => {
                    if let Said::Frame(frame) = &said {
                        client.note(request, frame);
                    }
                    own.push((compare::of(request), said));
                    return Ok(false);
                }
                None if start.elapsed() > PATIENCE => {
                    own.push((Compare::Bytes, Said::Nothing));
                    return Ok(false);
                }
                None => {
                    if self.blocked_clients()? > waiting {
                        self.known(name)?.blocked = true;
                        return Ok(true);
                    }
                    thread::sleep(LOOK_PAUSE);
                }
            }
        }
    }

    /// Takes an iteration to its end, and puts all that it gave in the place of its first page.
    fn follow_cursor(
        &mut self,
        name: char,
        requests: &[&Request],
        own: &mut [(Compare, Said)],
    ) -> Result<()> {
        let ([request], Some((Compare::Scan(pairs), Said::Frame(page)))) =
            (requests, own.last_mut())
        else {
            return Ok(());
        };
        let client = self.known(name)?;
        let each = 1 + usize::from(*pairs);
        let at = if request.name() == "SCAN" { 1 } else { 2 };
        let mut items: Vec<Vec<Frame>> = Vec::new();
        for _ in 0..PAGES_MAX {
            let [Frame::Blob(b'$', cursor), found] = page.items() else {
                return Ok(());
            };
            // A name may come twice; that is in the contract.
            for item in found.items().chunks(each) {
                if !items.iter().any(|known| known == item) {
                    items.push(item.to_vec());
                }
            }
            if cursor == b"0" {
                *page = Frame::Many(found.kind(), items.concat());
                return Ok(());
            }
            let mut next = Request::new(request.args.clone());
            next.args[at].clone_from(cursor);
            client.write(&[&next]);
            match client.read() {
                Said::Frame(frame) => *page = frame,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Messages that others have got.
    fn read_others(&mut self, name: char, outcome: &mut Outcome) -> Result<()> {
        for (&other, client) in &mut self.clients {
            let can_be_asked = (client.listens || client.tracks)
                && !client.blocked
                && !client.closed
                && client.queued.is_none()
                && client.replies == Replies::On;
            if other == name || !can_be_asked {
                continue;
            }
            let mut said = Vec::new();
            read_to_mark(client, &[], &mut said);
            let frames = said.into_iter().map(|(_, said)| match said {
                Said::Frame(frame) => frame,
                other => Frame::Line(b'?', format!("{other:?}").into_bytes()),
            });
            outcome.others.entry(other).or_default().extend(frames);
        }
        outcome.others.retain(|_, frames| !frames.is_empty());
        Ok(())
    }

    /// Replies to clients that were blocked until now.
    fn read_unblocked(&mut self, outcome: &mut Outcome) -> Result<()> {
        let start = Instant::now();
        loop {
            let believed = self.clients.values().filter(|c| c.blocked).count();
            if believed == 0 || self.blocked_clients()? >= believed || start.elapsed() > PATIENCE {
                return Ok(());
            }
            for (&name, client) in &mut self.clients {
                if !client.blocked {
                    continue;
                }
                while let Some(said) = client.read_now()? {
                    let frame = match said {
                        Said::Frame(frame) => frame,
                        other => Frame::Line(b'?', format!("{other:?}").into_bytes()),
                    };
                    client.blocked = frame.is_push();
                    outcome.others.entry(name).or_default().push(frame);
                    if !client.blocked {
                        break;
                    }
                }
            }
        }
    }

    /// How many clients the server says are blocked.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn blocked_clients(&mut self) -> Result<usize> {
        let info = self.operator.command(&["INFO", "clients"])?.text();
        let count = info
            .lines()
            .find_map(|line| line.strip_prefix("blocked_clients:"));
        Ok(count.context("no blocked_clients")?.trim().parse()?)
    }
}

fn sort_confirmations(own: &mut [(Compare, Said)]) {
    let frames = own.iter().filter_map(|(_, said)| match said {
        Said::Frame(frame) => Some(frame.clone()),
        _ => None,
    });
    let mut frames: Vec<_> = frames.collect();
    compare::sort_confirmations(&mut frames);
    let places = own.iter_mut().filter(|(_, said)| is_frame(said));
    for ((_, said), frame) in places.zip(frames) {
        *said = Said::Frame(frame);
    }
}

/// Reads frames up to one that belongs to the request.
fn read_reply(client: &mut Client, request: &Request, own: &mut Vec<(Compare, Said)>) {
    loop {
        match client.read() {
            Said::Frame(frame) if frame.is_push() => {
                own.push((Compare::Bytes, Said::Frame(frame)));
            }
            Said::Frame(frame) => {
                let rule = rule(client, request, &frame);
                client.note(request, &frame);
                own.push((rule, Said::Frame(frame)));
                return;
            }
            other => {
                own.push((Compare::Bytes, other));
                return;
            }
        }
    }
}

fn rule(client: &Client, request: &Request, frame: &Frame) -> Compare {
    let is_queued = matches!(frame, Frame::Line(b'+', text) if text == b"QUEUED");
    match &client.queued {
        Some(_) if is_queued => Compare::Bytes,
        Some(queued) if request.name() == "EXEC" => Compare::Exec(queued.clone()),
        _ => compare::of(request),
    }
}

/// Asks for the mark, and reads everything up to it.
fn read_to_mark(client: &mut Client, requests: &[&Request], own: &mut Vec<(Compare, Said)>) {
    let mark = Request::new(vec![b"PING".to_vec(), MARK.to_vec()]);
    client.write(&[&mark]);
    let mut replies = 0;
    loop {
        match client.read() {
            Said::Frame(frame) if is_mark(&frame) => return,
            Said::Frame(frame) => {
                let request = requests.get(replies);
                let rule = match request {
                    Some(request) if !frame.is_push() => {
                        replies += 1;
                        let rule = rule(client, request, &frame);
                        client.note(request, &frame);
                        rule
                    }
                    _ => Compare::Bytes,
                };
                own.push((rule, Said::Frame(frame)));
            }
            other => {
                own.push((Compare::Bytes, other));
                return;
            }
        }
    }
}

fn is_mark(frame: &Frame) -> bool {
    frame.text() == MARK || frame.items().get(1).is_some_and(|item| item.text() == MARK)
}

fn is_frame(said: &Said) -> bool {
    matches!(said, Said::Frame(_))
}

fn is_subscription(request: &Request) -> bool {
    matches!(
        request.name().as_str(),
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE"
    )
}

fn is_tracking(request: &Request) -> bool {
    request.name() == "CLIENT" && request.word(1) == "TRACKING"
}

/// Whether the server says nothing to this request, by what CLIENT REPLY told it.
fn is_unheard(client: &mut Client, request: &Request) -> bool {
    let told =
        (request.name() == "CLIENT" && request.word(1) == "REPLY" && request.args.len() == 3)
            .then(|| request.word(2));
    let before = client.replies;
    client.replies = match (told.as_deref(), before) {
        (Some("ON"), _) => Replies::On,
        (Some("OFF"), _) => Replies::Off,
        (Some("SKIP"), Replies::On) => Replies::SkipNext,
        (_, Replies::SkipNext) => Replies::On,
        (_, before) => before,
    };
    match told.as_deref() {
        Some("OFF" | "SKIP") => true,
        Some("ON") => false,
        _ => before != Replies::On,
    }
}

/// Whether a request that blocks does so until somebody ends it.
#[must_use]
pub fn waits_forever(request: &Request) -> bool {
    let args = &request.args;
    let timeout = match request.name().as_str() {
        "BLPOP" | "BRPOP" | "BZPOPMIN" | "BZPOPMAX" | "BRPOPLPUSH" | "BLMOVE" => args.last(),
        "BLMPOP" | "BZMPOP" => args.get(1),
        "WAIT" => args.get(2),
        "WAITAOF" => args.get(3),
        "XREAD" | "XREADGROUP" => {
            let block = (1..args.len()).find(|at| request.word(*at) == "BLOCK");
            block.and_then(|at| args.get(at + 1))
        }
        _ => None,
    };
    timeout.is_some_and(|timeout| {
        let timeout = std::str::from_utf8(timeout).unwrap_or_default();
        timeout.parse() == Ok(0.0)
    })
}
