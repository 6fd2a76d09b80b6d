//! The beginning of a connection that has to prove itself, answered as by a Valkey with a password.
//!
//! Invariant: nothing but AUTH and HELLO with AUTH leads to a session, and the request that does is
//! handed on with everything behind it, so that the session answers it. No sockets here.

use std::sync::Arc;

use flect_agent::environment::App;
use flect_agent::resp::encode;
use flect_agent::resp::request::{Request, RequestScanner, Scanned};

use crate::news::News;

/// What a connection may send before it has proved itself: Valkey takes arguments of 16 KiB then
/// (`PROTO_UNAUTH_MAX_BULK`-like checks in networking.c), and a login has three.
pub const LOGIN_BYTES_MAX: usize = 20 * 1024;

// What is left of it behind the login goes to the session.
const _: () = assert!(LOGIN_BYTES_MAX <= flect_agent::worker::EARLY_BYTES_MAX);

// Valkey's texts (server.c, networking.c, acl.c).
const NO_AUTH: &str = "NOAUTH Authentication required.";
const NO_AUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const TOO_LARGE: &str = "ERR Protocol error: unauthenticated bulk length";

/// What a login leads to.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The app.
    pub app: Arc<App>,
    /// The user that the session begins as; the login itself is answered by the session.
    pub user: Vec<u8>,
}

/// Who lets connections in.
pub trait Doorkeeper: Sync {
    /// What a connection gets that names this user and says this password; `None` keeps it out.
    fn open(&self, user: &[u8], password: &[u8]) -> Option<Admitted>;

    /// One who named this user is kept out for good.
    fn turned_away(&self, _user: &[u8]) {}

    /// Where to hear whether the password has become right meanwhile.
    fn news(&self) -> Option<&News> {
        None
    }

    /// What everything else is answered with, and then the connection ends; `None` answers as Valkey
    /// does and lets it try again.
    fn refusal(&self) -> Option<String>;
}

/// What has come so far.
#[derive(Default)]
pub struct Login {
    scanner: RequestScanner,
    bytes: Vec<u8>,
    /// There was news since the request at hand was found wrong.
    is_sure: bool,
}

/// What to do next, after the replies are out.
#[derive(Debug)]
pub enum Step {
    /// Read more.
    Read,
    /// A wrong password, as far as is known: ask for [`Doorkeeper::news`], then look again.
    Ask,
    /// A wrong password: wait a little, then look again.
    Pause,
    /// It is in; the bytes are the session's.
    Open(Admitted, Vec<u8>),
    /// Close.
    End,
}

impl Login {
    /// How many bytes it takes at most now.
    pub fn room(&self) -> usize {
        LOGIN_BYTES_MAX - self.bytes.len()
    }

    /// Takes what has been read: at most [`room`](Self::room).
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Looks at what has come, up to the first request that decides something.
    pub fn step(&mut self, door: &dyn Doorkeeper, out: &mut Vec<u8>) -> Step {
        loop {
            let consumed = match self.scanner.scan(&self.bytes) {
                Ok(Scanned::Incomplete) if self.room() == 0 => {
                    encode::error(TOO_LARGE, out);
                    return Step::End;
                }
                Ok(Scanned::Incomplete) => return Step::Read,
                Ok(Scanned::Empty { consumed }) => {
                    self.bytes.drain(..consumed);
                    continue;
                }
                Ok(Scanned::Request { consumed }) => consumed,
                Err(error) => {
                    out.extend_from_slice(&error.reply());
                    return Step::End;
                }
            };
            let request = self.scanner.request(&self.bytes);
            let next = answer(&request, door, self.is_sure, out);
            if matches!(next, Next::Ask) {
                self.is_sure = true;
                return Step::Ask;
            }
            self.is_sure = false;
            if let Next::Open(admitted) = next {
                return Step::Open(admitted, std::mem::take(&mut self.bytes));
            }
            self.bytes.drain(..consumed);
            match next {
                Next::Request => {}
                Next::Pause => return Step::Pause,
                _ => return Step::End,
            }
        }
    }
}

enum Next {
    Request,
    Ask,
    Pause,
    Open(Admitted),
    End,
}

fn answer(request: &Request<'_>, door: &dyn Doorkeeper, is_sure: bool, out: &mut Vec<u8>) -> Next {
    let is = |word: &str| request.arg(0).eq_ignore_ascii_case(word.as_bytes());
    let error = match credentials(request) {
        Ok(Some((user, password))) => match door.open(user, password) {
            Some(admitted) => return Next::Open(admitted),
            None if !is_sure && door.news().is_some() => return Next::Ask,
            None => {
                door.turned_away(user);
                WRONG_PASSWORD.to_owned()
            }
        },
        Ok(None) if is("hello") => NO_AUTH_HELLO.to_owned(),
        Ok(None) => NO_AUTH.to_owned(),
        Err(error) => error,
    };
    if let Some(refusal) = door.refusal() {
        encode::error(format!("DENIED {refusal}"), out);
        return Next::End;
    }
    if is("quit") {
        encode::ok(out);
        return Next::End;
    }
    if is("reset") {
        encode::simple("RESET", out);
        return Next::Request;
    }
    encode::error(&error, out);
    if error == WRONG_PASSWORD {
        Next::Pause
    } else {
        Next::Request
    }
}

/// A user and a password.
type Credentials<'a> = (&'a [u8], &'a [u8]);

/// The user and password that a request offers, if it is one that may.
fn credentials<'a>(request: &Request<'a>) -> Result<Option<Credentials<'a>>, String> {
    const DEFAULT: &[u8] = b"default";
    if request.arg(0).eq_ignore_ascii_case(b"auth") {
        return match request.argc() {
            1 => Err("ERR wrong number of arguments for 'auth' command".to_owned()),
            2 => Ok(Some((DEFAULT, request.arg(1)))),
            3 => Ok(Some((request.arg(1), request.arg(2)))),
            _ => Err("ERR syntax error".to_owned()),
        };
    }
    if !request.arg(0).eq_ignore_ascii_case(b"hello") {
        return Ok(None);
    }
    // Other mistakes in it are the session's to answer; without AUTH it leads nowhere.
    let mut at = 2;
    while let Some(option) = request.get(at) {
        let (user, password) = (request.get(at + 1), request.get(at + 2));
        match (user, password) {
            (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"auth") => {
                return Ok(Some((user, password)));
            }
            _ => at += 2,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
