//! Clients at work, each in an app's cgroup, and what they count.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::wire::{Value, Wire, encode};

/// Clients that wait for each answer.
const COUNTERS: usize = 4;
/// Requests in a pipeline.
const PIPELINE: usize = 20;
/// Everybody is served again within this, on a busy machine.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// Between two connections of the client that makes one for each request, and two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// What clients have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered.
    pub requests: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Connects that were refused, or failed otherwise.
    pub refused: u64,
    /// Connections that ended, of clients without state on the server.
    pub ended: u64,
    /// The same with a transaction or a subscription.
    pub ended_with_state: u64,
    /// Requests that were not answered and not carried out, and were sent again.
    pub tried_again: u64,
    /// Requests that were carried out and not answered, answered in part, or answered wrongly.
    pub failed: u64,
    /// The first of these, in words.
    pub first_failure: Option<String>,
}

/// What clients share.
struct Shared {
    bed: Arc<Bed>,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    longest_us: AtomicU64,
    /// Answers by client.
    progress: Vec<AtomicU64>,
}

/// Running clients.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

type Body = fn(&mut Client);

impl Load {
    /// Starts them.
    #[must_use]
    pub fn start(bed: &Arc<Bed>) -> Self {
        let mut bodies: Vec<Body> = vec![pipeline, transaction, come_and_go, listen];
        bodies.extend([count as Body; COUNTERS]);
        let shared = Arc::new(Shared {
            bed: bed.clone(),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            longest_us: AtomicU64::new(0),
            progress: bodies.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let clients = bodies.into_iter().enumerate().map(|(number, body)| {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut client = Client::new(shared, number);
                while !client.shared.stop.load(Ordering::Relaxed) {
                    body(&mut client);
                }
            })
        });
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// Waits until each has had two more answers: one may be on its way already.
    ///
    /// # Errors
    /// When one has not, in time.
    pub fn wait_served(&self) -> Result<()> {
        let answers = || -> Vec<u64> {
            let progress = self.shared.progress.iter();
            progress.map(|it| it.load(Ordering::Relaxed)).collect()
        };
        let before = answers();
        wait_until(SERVED_WITHIN, || {
            Ok(answers()
                .iter()
                .zip(&before)
                .all(|(now, old)| *now >= old + 2))
        })
        .with_context(|| format!("clients are not served: {:?} of {before:?}", answers()))
    }

    /// Ends them; what they have seen, and the longest that one waited for an answer.
    ///
    /// # Errors
    /// When one has panicked.
    pub fn stop(self) -> Result<(Tally, Duration)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        let longest = self.shared.longest_us.load(Ordering::Relaxed);
        let tally = self.shared.tally.lock();
        let tally = tally.unwrap_or_else(PoisonError::into_inner).clone();
        Ok((tally, Duration::from_micros(longest)))
    }
}

/// One client.
struct Client {
    shared: Arc<Shared>,
    number: usize,
    wire: Option<Wire>,
    /// What its counter must be.
    counted: i64,
    has_state: bool,
}

impl Client {
    fn new(shared: Arc<Shared>, number: usize) -> Self {
        Self {
            shared,
            number,
            wire: None,
            counted: 0,
            has_state: false,
        }
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        let tally = self.shared.tally.lock();
        change(&mut tally.unwrap_or_else(PoisonError::into_inner));
    }

    fn fail(&self, why: impl FnOnce() -> String) {
        let number = self.number;
        self.note(|tally| {
            tally.failed += 1;
            tally
                .first_failure
                .get_or_insert_with(|| format!("client {number}: {}", why()));
        });
    }

    fn answered(&self, count: usize) {
        self.shared.progress[self.number].fetch_add(1, Ordering::Relaxed);
        self.note(|tally| tally.requests += count as u64);
    }

    fn connect(&mut self) -> Option<Wire> {
        if let Some(wire) = self.wire.take() {
            return Some(wire);
        }
        match self.shared.bed.connect(APP1) {
            Ok(wire) => {
                self.note(|tally| tally.connections += 1);
                Some(wire)
            }
            Err(_) => {
                self.note(|tally| tally.refused += 1);
                thread::sleep(PAUSE);
                None
            }
        }
    }

    /// Sends requests at once and reads as many answers. `None` where the connection ended before the first byte
    /// of them; an answer in part is a failure.
    fn ask(&mut self, requests: &[&[&str]]) -> Option<Vec<Value>> {
        let mut wire = self.connect()?;
        let bytes: Vec<u8> = requests.iter().flat_map(|words| encode(words)).collect();
        let began = Instant::now();
        let answers = talk(&mut wire, &bytes, requests.len());
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.longest_us.fetch_max(took_us, Ordering::Relaxed);
        match answers {
            Ok(answers) => {
                self.wire = Some(wire);
                self.answered(requests.len());
                Some(answers)
            }
            Err((answers, error)) => {
                let has_state = self.has_state;
                self.note(|tally| match has_state {
                    true => tally.ended_with_state += 1,
                    false => tally.ended += 1,
                });
                if answers > 0 {
                    self.fail(|| format!("{answers} answers of {}: {error}", requests.len()));
                }
                None
            }
        }
    }

    /// What the server says of this client's counter, on a connection of its own.
    fn truth(&mut self) -> i64 {
        let key = self.key();
        loop {
            let read = self
                .shared
                .bed
                .connect(APP1)
                .and_then(|mut wire| wire.command(&["GET", &key]));
            match read {
                Ok(value) => return value.text().parse().unwrap_or(0),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Where the connection ended without an answer: either nothing has happened, or it is a failure.
    fn settle(&mut self, what: &str) {
        let truth = self.truth();
        if truth == self.counted {
            self.note(|tally| tally.tried_again += 1);
        } else {
            let counted = self.counted;
            self.fail(|| format!("{what}: not answered, and {counted} became {truth}"));
            self.counted = truth;
        }
    }

    fn key(&self) -> String {
        format!("count:{}", self.number)
    }

    fn expect(&mut self, what: &str, answers: &[String], expected: &[String]) {
        if answers != expected {
            self.fail(|| format!("{what}: {answers:?} instead of {expected:?}"));
            self.counted = self.truth();
        }
    }
}

/// Writes and reads; how many answers there were before the connection ended.
fn talk(wire: &mut Wire, bytes: &[u8], count: usize) -> Result<Vec<Value>, (usize, io::Error)> {
    wire.send_raw(bytes).map_err(|error| (0, error))?;
    let mut answers = Vec::with_capacity(count);
    for at in 0..count {
        answers.push(wire.read().map_err(|error| (at, error))?);
    }
    Ok(answers)
}

fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(Value::text).collect()
}

/// One request after the other.
fn count(client: &mut Client) {
    let key = client.key();
    match client.ask(&[&["INCR", &key]]) {
        Some(answers) => {
            client.counted += 1;
            let expected = client.counted.to_string();
            client.expect("INCR", &texts(&answers), &[expected]);
        }
        None => client.settle("INCR"),
    }
}

/// Many at once.
fn pipeline(client: &mut Client) {
    let key = client.key();
    let request: &[&str] = &["INCR", &key];
    match client.ask(&[request; PIPELINE]) {
        Some(answers) => {
            let first = client.counted + 1;
            client.counted += PIPELINE as i64;
            let expected: Vec<_> = (first..=client.counted).map(|it| it.to_string()).collect();
            client.expect("a pipeline", &texts(&answers), &expected);
        }
        None => client.settle("a pipeline"),
    }
}

/// Each in two pieces, so that the connection has state in between.
fn transaction(client: &mut Client) {
    let key = client.key();
    client.has_state = true;
    let begun = client.ask(&[&["MULTI"], &["INCR", &key]]);
    if begun.is_none() {
        return client.settle("MULTI");
    }
    match client.ask(&[&["EXEC"]]) {
        Some(answers) => {
            client.counted += 1;
            let expected = client.counted.to_string();
            let items = answers[0].items();
            client.expect("EXEC", &texts(items), &[expected]);
        }
        None => client.settle("EXEC"),
    }
}

/// A connection for each request.
fn come_and_go(client: &mut Client) {
    client.wire = None;
    match client.ask(&[&["PING"]]) {
        Some(answers) => {
            if answers[0].text() != "PONG" {
                client.fail(|| format!("PING: {}", answers[0]));
            }
        }
        None => client.note(|tally| tally.tried_again += 1),
    }
    thread::sleep(PAUSE);
}

/// A subscriber, who hears of itself.
fn listen(client: &mut Client) {
    client.has_state = true;
    let channel = format!("news:{}", client.number);
    if client.wire.is_none() && client.ask(&[&["SUBSCRIBE", &channel]]).is_none() {
        return;
    }
    // What it says while it subscribes is answered at once.
    if client.ask(&[&["PING"]]).is_some() {
        thread::sleep(PAUSE);
    }
}
