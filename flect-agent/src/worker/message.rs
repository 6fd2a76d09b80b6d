//! What other threads tell a worker, and what a worker asks of the control side.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::accepted::Accepted;
use super::arena::Key;
use super::census::Census;
use super::clients::Between;
use super::jobs::Job;
use super::parting::Leaving;
use super::redirect;
use super::session::Session;
use crate::environment::{Setting, Store};

/// What other threads tell a worker.
pub enum Message {
    /// Serve this connection.
    Accept(Box<Accepted>),
    /// The patterns that a session waits for are granted, or not.
    Granted(Ticket, bool),
    /// A store's settings are kept, or not.
    Kept(JobTicket, bool),
    /// Serve this store too. Its number is new.
    Store(Arc<Store>),
    /// The store is gone: end its sessions and its connections.
    Retire(Arc<Store>),
    /// Another worker, or this one, about a store's sessions.
    Clients(Between),
    /// A session's invalidations shall go to this one: let it keep a connection, and tell its id.
    Pin {
        /// The number of both sessions' store.
        store: usize,
        /// The session that shall get them.
        id: u64,
        /// Who wants to know.
        asker: redirect::Asker,
    },
    /// The answer.
    Pinned(Ticket, redirect::Found),
    /// Valkey is elsewhere: connections to other places end.
    Moved,
    /// The agent's users are on the server: logins that it refused are tried again.
    UsersMade,
    /// The app of this name may do less than before: end its sessions.
    Dismiss(Arc<str>),
    /// Somebody wants to know what the worker has, or that its loop turns.
    Count(oneshot::Sender<Census>),
    /// Let sessions leave, to another process where that takes them.
    Leave(Leaving),
    /// End: close everything and return.
    Stop,
}

/// Names a waiting session to another thread.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(pub(super) Key<Session>);

/// Names a waiting store-wide command to another thread.
#[derive(Clone, Copy, Debug)]
pub struct JobTicket(pub(super) Key<Job>);

/// What a worker asks of the control side.
pub enum Request {
    /// The store's user shall be able to subscribe to these patterns (as stored).
    Grant {
        /// Whose patterns.
        store: Arc<Store>,
        /// The patterns with the prefix.
        patterns: Vec<Vec<u8>>,
        /// Which worker asks.
        worker: usize,
        /// For which session.
        ticket: Ticket,
    },
    /// A store's settings shall be these, on all nodes and for ever.
    Settings {
        /// Whose settings.
        store: Arc<Store>,
        /// What is new.
        changes: Vec<(Setting, i64)>,
        /// Which worker asks.
        worker: usize,
        /// For which command.
        job: JobTicket,
    },
    /// The server takes no writes, or cannot be reached: it may not be the primary any more.
    Doubt,
    /// The server does not know the agent's users any more (it has been restarted, say). Answered by
    /// [`Message::UsersMade`] once it does.
    UsersMissing,
}
