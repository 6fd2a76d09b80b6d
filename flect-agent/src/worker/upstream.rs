//! One connection to the shared Valkey, and the replies it owes.
//!
//! Invariant: replies come in the order of requests, so `owed` is a queue, and the front is whose
//! bytes are being read. A reply that nobody is owed ends the connection: nothing on it can be
//! trusted any more.

mod socket;
mod tls;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::arena::Key;
use super::astray::{Elsewhere, Tried};
use super::jobs::Job;
use super::outbox::Outbox;
use super::scripts::ByName;
use super::session::Session;
use super::unblock::{ServerId, Unblocking, Wanted};
use crate::diagnosis::Arguments;
use crate::environment::{Credentials, Store, UpstreamAddress};
use crate::integrity::Guard;
use crate::metrics::lookups::Head;
use crate::resp::{Protocol, encode};
use crate::rewrite::reply::{Advance, ReplyError, ReplyPlan, ReplyRewriter};
use crate::store::{Namespace, Slot};
use socket::Socket;
pub use window::Window;

/// Bytes that may wait on a connection before the sessions that feed it pause: a few socket
/// buffers' worth, so that the server never idles for want of them.
pub const UPSTREAM_OUT_BYTES_MAX: usize = 256 * 1024;

/// A connection to the shared Valkey.
pub struct Upstream {
    pub socket: Socket,
    pub role: Role,
    pub protocol: Protocol,
    /// The index of the store in the worker's list; the housekeeper has none.
    pub store: Option<usize>,
    pub state: State,
    pub out: Outbox,
    /// The beginning of a reply whose rest has not come.
    pub leftover: Vec<u8>,
    pub owed: VecDeque<Owed>,
    pub window: Window,
    pub rewriter: ReplyRewriter,
    /// What stands between the rewriter and the client.
    pub guard: Guard,
    /// The frame being read is a push or a pub/sub message that no request asked for.
    pub unasked: bool,
    /// It is one that no session is told.
    pub unheard: bool,
    /// The frame being read is dropped, as CLIENT REPLY asks for.
    pub muted: bool,
    /// There may be bytes to read.
    pub readable: bool,
    /// The server has closed its side: read on until the end shows.
    pub hung_up: bool,
    /// Reading pauses because this session does not take its reply.
    pub stalled_by: Option<Stall>,
    /// Sessions that pause until `out` has room.
    pub waiting: Vec<Key<Session>>,
    /// In the list of connections to flush.
    pub flush_queued: bool,
    /// No new session may use it: a large reply to a slow session is on it.
    pub retired: bool,
    /// It leads to a replica, and carries plain reads only.
    pub is_reader: bool,
    /// It may keep state that nothing takes away for certain: never pooled.
    pub tainted: bool,
    /// The reply under way is an error or a null: an EXEC that did nothing.
    pub refused: bool,
    /// The reply under way is an error.
    pub error: bool,
    /// How the reply under way begins.
    pub head: Head,
    /// How that error begins.
    pub error_text: Vec<u8>,
    /// Where the requests end that are answered, in what was sent.
    pub answered_to: u64,
    /// When it was last given back to the pool; before that, when it began.
    pub idle_since: Instant,
    /// Where it goes.
    pub address: UpstreamAddress,
    /// What the server calls it, once it has said so.
    pub server_id: Option<ServerId>,
    /// It has been asked for that.
    pub asks_id: bool,
    /// The answer to a question of the agent's own, as far as it has come.
    pub own_reply: Vec<u8>,
    /// The server has said that it lacks the script whose name comes next.
    pub lacks: bool,
    /// The reply under way says so again: its request is to be sent with the script's text.
    pub missed: bool,
    /// It leads to a node of a cluster.
    pub of_cluster: bool,
    /// Its store's slot, where it has one store.
    pub slot: Option<Slot>,
    /// What the reply under way says of where its request belongs.
    pub elsewhere: Option<Elsewhere>,
    /// Whose reply begins that is not to come yet.
    pub out_of_turn: Option<Key<Session>>,
    /// What requests by name will add if that befalls all of them.
    pub promised_bytes: usize,
    /// What asked to end its session's wait before that was known.
    pub early: Vec<Wanted>,
    /// How often the server is being asked to unblock it.
    pub unblocking: u32,
    /// The message to a listener so far.
    pub frame: Vec<u8>,
    /// The greeting, until it is answered.
    pub hello: Vec<u8>,
    /// The reply to the greeting so far.
    pub greeting: Vec<u8>,
    /// Its id on the server, once the greeting is answered.
    pub client_id: Option<u64>,
    /// The store whose sessions' own connections it is among.
    pub counted: Option<Arc<Store>>,
}

/// Who uses a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// Many sessions of one store.
    Shared,
    /// One session, while it needs state on the server.
    Own(Key<Session>),
    /// Nobody for now; clean.
    Pooled,
    /// The agent's own store-wide work.
    Housekeeper,
    /// Libraries of functions, one question at a time: the server passes on what a library's error says, line
    /// breaks included, and what follows one would be another question's answer.
    Librarian,
    /// One question of one job, for the same reason: closed once it is answered.
    Once,
    /// SORT with BY or GET.
    Sorter,
    /// Notifications of the store's keys.
    Listener,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The kernel has not reported success yet. Bytes wait in `out`.
    Connecting,
    /// Connected and asked to let the agent in. Nothing else is sent before the answer: a server that does
    /// not know the user would carry it out as the default one.
    Greeting,
    /// The server does not know the user. It was restarted, say, and the control side has been asked to make
    /// its users again.
    Unknown,
    /// Everything may be sent.
    Open,
}

/// A slow session in front of others.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// Who does not read.
    pub session: Key<Session>,
    /// When it last took a byte.
    pub since: Instant,
    /// How much waited for it then.
    pub waiting_bytes: usize,
}

/// One reply to come.
#[derive(Debug)]
pub struct Owed {
    pub to: Recipient,
    pub plan: ReplyPlan,
    /// How many frames make the reply: one, or one for each name of a SUBSCRIBE.
    pub frames: u32,
    /// CLIENT REPLY OFF and SKIP: the reply is read and dropped.
    pub muted: bool,
    /// The request may keep the client waiting (BLPOP ...).
    pub blocking: bool,
    /// The request changes the patterns that the session subscribes to.
    pub patterns: bool,
    /// The request is an EXEC.
    pub exec: bool,
    /// When the request was taken, by the worker's clock.
    pub since_us: u32,
    /// The number of its command.
    pub command: Option<u16>,
    /// How many words it has; 0 when it is queued, or the agent's own.
    pub argc: u32,
    /// Where its bytes end in what the connection has sent.
    pub end: u64,
    /// Its arguments, where what was sent on is another request than the app's.
    pub noted: Option<Box<Arguments>>,
    /// What is needed to send it again, if it was sent by its script's name.
    pub by_name: Option<Box<ByName>>,
    /// Its place among its session's requests that went to a node of a cluster that had their slot no more; 0
    /// for all others.
    pub turn: u32,
    /// Since when it is being sent again.
    pub tried: Tried,
}

/// Whose reply it is.
#[derive(Debug, Clone, Copy)]
pub enum Recipient {
    Session(Key<Session>),
    Job(Key<Job>),
    /// The server's own number for the connection.
    ServerId,
    /// Whether the server has the script whose name comes next.
    Exists,
    /// CLIENT UNBLOCK.
    Unblocking(Key<Unblocking>),
    /// The same, of a page of the server's names.
    Page(Key<Job>),
    /// A job, besides its question.
    Aside(Key<Job>),
    /// Whether the server that gave a page still has the job's slot.
    Slot(Key<Job>),
    /// The agent's own AUTH and HELLO.
    Greeting,
    /// The agent's own HELLO, with which a session changes its protocol.
    Switched(Key<Session>, Protocol),
    /// A listener's PSUBSCRIBE.
    Listening,
    /// A PING behind what the session is to be told of before it is told of a flush.
    Untold(Key<Session>),
    /// A listener's PING, behind all that the session shall have heard of.
    Heard(Key<Session>),
}

impl Upstream {
    /// Begins to connect, with a greeting in front of everything else.
    pub fn connect(
        address: UpstreamAddress,
        credentials: &Credentials,
        role: Role,
        protocol: Protocol,
        store: Option<usize>,
    ) -> std::io::Result<Self> {
        let socket = Socket::connect(&address)?;
        let mut upstream = Self {
            socket,
            role,
            protocol,
            store,
            state: State::Connecting,
            out: Outbox::default(),
            leftover: Vec::new(),
            owed: VecDeque::new(),
            window: Window::new(),
            rewriter: ReplyRewriter::default(),
            guard: Guard::default(),
            unasked: false,
            unheard: false,
            muted: false,
            readable: false,
            hung_up: false,
            stalled_by: None,
            waiting: Vec::new(),
            flush_queued: false,
            retired: false,
            is_reader: false,
            tainted: false,
            refused: false,
            error: false,
            error_text: Vec::new(),
            head: Head::default(),
            answered_to: 0,
            idle_since: Instant::now(),
            address,
            server_id: None,
            asks_id: false,
            own_reply: Vec::new(),
            lacks: false,
            missed: false,
            promised_bytes: 0,
            of_cluster: false,
            slot: None,
            elsewhere: None,
            out_of_turn: None,
            early: Vec::new(),
            unblocking: 0,
            frame: Vec::new(),
            greeting: Vec::new(),
            hello: Vec::new(),
            client_id: None,
            counted: None,
        };
        let user = credentials.user.as_bytes();
        let password = credentials.password.as_bytes();
        let version: &[u8] = match protocol {
            Protocol::Resp2 => b"2",
            Protocol::Resp3 => b"3",
        };
        // Its reply holds the connection's id, which no further right is needed for.
        let words: [&[u8]; 5] = [b"HELLO", version, b"AUTH", user, password];
        encode::request(&words, &mut upstream.hello);
        upstream.owe_greeting();
        upstream.out.keep();
        Ok(upstream)
    }

    /// The next reply is the greeting's, in front of everything else.
    pub fn owe_greeting(&mut self) {
        self.owed.push_front(Owed {
            to: Recipient::Greeting,
            plan: ReplyPlan::Verbatim,
            frames: 1,
            muted: true,
            blocking: false,
            patterns: false,
            exec: false,
            since_us: 0,
            command: None,
            // Nothing that is counted stands in front of it.
            end: 0,
            noted: None,
            by_name: None,
            turn: 0,
            tried: Tried::default(),
            argc: 0,
        });
    }

    /// Reads on in a reply that nobody will see.
    pub fn skip(
        &mut self,
        bytes: &[u8],
        nobody: &Namespace,
        dropped: &mut Vec<u8>,
    ) -> Result<Advance, ReplyError> {
        self.rewriter.forget_names();
        self.rewriter.advance(bytes, nobody, dropped)
    }

    /// Whether one more request may be put into it now.
    pub fn has_room(&self) -> bool {
        self.out.len() < UPSTREAM_OUT_BYTES_MAX
            && self.window.is_open(self.owed.len(), self.is_shared())
    }

    /// The sessions that wait for room, once there is so much that they do not wait again at once.
    pub fn released(&mut self) -> Vec<Key<Session>> {
        // Twice as many would still be within the window.
        let open = self.window.is_open(self.owed.len() * 2, self.is_shared());
        if self.waiting.is_empty() || !open || self.out.len() >= UPSTREAM_OUT_BYTES_MAX / 2 {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }

    fn is_shared(&self) -> bool {
        self.role == Role::Shared
    }

    /// Whether anybody but `session` is owed a reply here.
    pub fn others_wait(&self, session: Key<Session>) -> bool {
        self.owed
            .iter()
            .any(|owed| !matches!(owed.to, Recipient::Session(key) if key == session))
    }
}
