//! A client's connection: sends pipelines, reads what comes, connects again.
//!
//! Invariant: every reply is looked at before anybody uses it: no other store's mark, no prefix, no
//! error but those that a private Valkey in the same trouble would give.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::ledger::Ledger;
use crate::bed::Bed;
use crate::wire::{Value, Wire};

/// Longer than any fault and a restart of both in a busy machine; a connection that neither answers
/// nor ends for so long is a violation.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between attempts to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A store, as its clients know it.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its place in the ledger.
    pub number: usize,
    /// The app whose only store it is.
    pub app: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The letter in every value that is written there.
    pub letter: char,
}

/// The stores of a run; the last is the one that is emptied again and again.
#[must_use]
pub fn stores() -> [Store; 3] {
    let store = |number, app, name, letter| Store {
        number,
        app,
        name,
        letter,
    };
    [
        store(0, "app1", "store1", 'A'),
        store(1, "app2", "app2", 'B'),
        store(2, "neighbour", "neighbour", 'C'),
    ]
}

/// Errors that a private Valkey gives while it starts again, by their first words, and why.
const ERRORS: [(&str, &str); 1] = [(
    "LOADING ",
    "the server reads its data after a restart or DEBUG RELOAD",
)];

/// One client.
#[derive(Debug)]
pub struct Client {
    bed: Arc<Bed>,
    /// Where it notes things.
    pub ledger: Arc<Ledger>,
    /// Its store.
    pub store: Store,
    /// Its number in the run.
    pub number: usize,
    /// How many connections it has had.
    pub epoch: u64,
    sequence: u64,
    resp3: bool,
    wire: Option<Wire>,
}

impl Client {
    /// A client that will connect when it first sends. Odd ones speak RESP3.
    #[must_use]
    pub fn new(bed: Arc<Bed>, ledger: Arc<Ledger>, store: Store, number: usize) -> Self {
        Self {
            bed,
            ledger,
            store,
            number,
            epoch: 0,
            sequence: 0,
            resp3: number % 2 == 1,
            wire: None,
        }
    }

    /// A value that nobody has written before, such as `<A.3.17>`.
    pub fn tag(&mut self) -> String {
        self.sequence += 1;
        format!("<{}.{}.{}>", self.store.letter, self.number, self.sequence)
    }

    /// Makes a connection if there is none, and says whether there is one. Nothing has been sent then.
    pub fn connected(&mut self) -> bool {
        if self.wire.is_some() {
            return true;
        }
        self.epoch += 1;
        match self.connect() {
            Ok(wire) => self.wire = Some(wire),
            Err(error) => {
                self.ledger.count(&format!("connect: {:?}", error.kind()));
                thread::sleep(AGAIN_AFTER);
                return false;
            }
        }
        if !self.resp3 {
            return true;
        }
        let hello = self.pipeline(&[vec!["HELLO".to_owned(), "3".to_owned()]]);
        match hello.into_iter().next().flatten() {
            Some(Value::Map(_)) => true,
            Some(other) => {
                self.violation(&format!("HELLO 3 is answered with {other}"));
                self.drop_connection();
                false
            }
            None => {
                self.drop_connection();
                false
            }
        }
    }

    fn connect(&self) -> io::Result<Wire> {
        let mut wire = self.bed.connect(self.store.app)?;
        wire.set_patience(PATIENCE)?;
        Ok(wire)
    }

    /// Sends requests in one write and reads as many replies. `None` stands for a reply that did not
    /// come, and for an error: nobody knows then whether the request took effect.
    pub fn pipeline(&mut self, requests: &[Vec<String>]) -> Vec<Option<Value>> {
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend(crate::wire::encode(request));
        }
        let mut replies = Vec::new();
        let Some(mut wire) = self.wire.take() else {
            return vec![None; requests.len()];
        };
        let mut broken = wire.send_raw(&bytes).err();
        while broken.is_none() && replies.len() < requests.len() {
            match wire.read() {
                Ok(reply) => {
                    let request = &requests[replies.len()];
                    replies.push(self.judged(request, reply));
                }
                Err(error) => broken = Some(error),
            }
        }
        match broken {
            None => self.wire = Some(wire),
            Some(error) => self.broken(&error, requests.get(replies.len())),
        }
        if replies.iter().any(Option::is_some) {
            self.ledger.served(self.number);
        }
        self.ledger.add("requests", requests.len() as u64);
        replies.resize(requests.len(), None);
        replies
    }

    /// Reads what comes by itself, for a subscriber.
    pub fn next(&mut self, patience: Duration) -> Option<Value> {
        let mut wire = self.wire.take()?;
        match wire.is_silent_for(patience) {
            Ok(true) => {
                self.wire = Some(wire);
                return None;
            }
            Ok(false) => {}
            Err(error) => {
                self.broken(&error, None);
                return None;
            }
        }
        match wire.read() {
            Ok(value) => {
                self.wire = Some(wire);
                self.judged(&["(a message)".to_owned()], value)
            }
            Err(error) => {
                self.broken(&error, None);
                None
            }
        }
    }

    /// Whether the connection is there, as far as it knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.wire.is_some()
    }

    /// Ends the connection; the next request makes another.
    pub fn drop_connection(&mut self) {
        self.wire = None;
    }

    /// Notes a violation with who saw it.
    pub fn violation(&self, what: &str) {
        let (store, number, epoch) = (self.store.name, self.number, self.epoch);
        self.ledger.violation(format!(
            "client {number} of {store}, connection {epoch}: {what}"
        ));
    }

    fn broken(&self, error: &io::Error, request: Option<&Vec<String>>) {
        self.ledger.count(&format!("broken: {:?}", error.kind()));
        let request = request.map_or_else(String::new, |words| short(&words.join(" ")));
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => {}
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = PATIENCE.as_secs();
                self.violation(&format!("no reply and no end for {seconds} s: {request}"));
            }
            _ => self.violation(&format!("no RESP: {error}: {request}")),
        }
    }

    fn judged(&self, request: &[String], reply: Value) -> Option<Value> {
        let text = reply.text();
        if let Some(mark) = self.foreign(&text) {
            let request = short(&request.join(" "));
            self.violation(&format!(
                "{request} is answered with {mark}: {}",
                short(&text)
            ));
        }
        if !matches!(reply, Value::Error(_) | Value::BulkError(_)) {
            return Some(reply);
        }
        let known = ERRORS
            .iter()
            .find(|(start, _)| text[1..].starts_with(start));
        // EXEC says so when a part was refused: for a reason that has been judged itself.
        let aborted = text.starts_with("-EXECABORT");
        if let Some((start, why)) = known {
            self.ledger.count(&format!("error: {start}({why})"));
        } else if !aborted {
            let request = short(&request.join(" "));
            self.violation(&format!(
                "{request} is answered with the error {}",
                short(&text)
            ));
        }
        None
    }

    /// What of a reply must not be seen here.
    fn foreign(&self, text: &str) -> Option<String> {
        let others = stores().map(|store| store.letter).into_iter();
        others
            .filter(|letter| *letter != self.store.letter)
            .map(|letter| format!("<{letter}."))
            .chain(["{".to_owned()].into_iter().filter(|_| text.contains("}:")))
            .find(|mark| text.contains(mark.as_str()))
    }
}

/// The beginning of a text that may be large.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    text.chars().take(CHARS_MAX).collect()
}
