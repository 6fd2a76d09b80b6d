//! The data path: event loops, sessions and upstream connections.
//!
//! Each worker is a thread with an event loop and a share of the sessions; workers share nothing
//! but the directory of sessions. One turn of the loop: take what sockets and other threads
//! report, read replies, run sessions (scan, look up, rewrite), flush. Bytes are written once per
//! turn, so that many small requests share one system call: this is where multiplexing is faster
//! than no proxy.

mod accepted;
mod admission;
mod allowance;
mod arena;
mod astray;
mod audit;
mod buffers;
mod census;
mod clients;
mod dismissal;
mod dispatch;
pub(crate) mod events;
mod flushes;
mod forward;
mod functions;
mod input;
mod integrity;
mod jobs;
mod lanes;
mod local;
pub(crate) mod mailbox;
mod memory;
mod message;
mod monitors;
mod observe;
mod outbox;
mod pace;
mod parting;
mod pausing;
mod redirect;
mod replies;
mod scripts;
mod session;
mod share;
mod stalls;
mod streaming;
mod tracking;
mod unblock;
mod upstream;
mod watch;
mod wide;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use tokio::sync::oneshot;

use crate::commands::Command;
use crate::diagnosis::Arguments;
use crate::environment::{Environment, Store};
use crate::metrics::meter::Sampler;
pub use accepted::{Accepted, EARLY_BYTES_MAX};
use arena::{Arena, Key};
pub use census::{Census, Lanes};
pub use clients::{Back, Between};
use jobs::Job;
use lanes::StoreLanes;
use lanes::connecting::Way;
pub use mailbox::Mailbox;
#[cfg(test)]
pub(crate) use mailbox::entry_for_tests;
pub use message::{JobTicket, Message, Request, Ticket};
pub use parting::{Leaving, Parted, Parting, Said};
use session::Session;
use unblock::Unblocking;
use upstream::Upstream;

/// What one read takes at most, and the size of the one buffer that all connections of a worker
/// read into: idle connections hold no buffer of their own.
const SCRATCH_BYTES: usize = session::INPUT_BYTES_MAX;

/// How long the loop sleeps at most, and how often idle connections are looked after.
const TICK: Duration = Duration::from_secs(1);

/// How often a slow reader in front of others is looked at.
const STALL_TICK: Duration = Duration::from_millis(50);

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// What all workers count time from: a store's commands are paced by it.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

const WAKE: Token = Token(usize::MAX);

/// A running worker.
pub struct Handle {
    mailbox: Arc<Mailbox>,
    sessions: Arc<AtomicUsize>,
    upstreams: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Sends a message; lost when the worker has ended.
    pub fn send(&self, message: Message) {
        self.mailbox.send(message);
    }

    /// How many sessions it serves.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// How many connections to Valkey it has.
    #[must_use]
    pub fn upstreams(&self) -> usize {
        self.upstreams.load(Ordering::Relaxed)
    }

    /// Asks what it has. The answer comes out of its loop, so none comes from one that does not turn.
    #[must_use]
    pub fn census(&self) -> oneshot::Receiver<Census> {
        let (asker, answer) = oneshot::channel();
        self.send(Message::Count(asker));
        answer
    }

    /// Stops it and waits for its end.
    pub fn stop(&mut self) {
        self.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker ended by a panic");
        }
    }
}

/// Starts a worker thread that serves these stores; more come as messages.
///
/// # Errors
/// When the kernel gives no event queue or no thread.
pub fn spawn(
    number: usize,
    environment: Arc<Environment>,
    stores: &[Arc<Store>],
    control: tokio::sync::mpsc::UnboundedSender<Request>,
) -> std::io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let (sender, messages) = mpsc::channel();
    let mailbox = Arc::new(Mailbox::new(sender, waker));
    environment
        .directory
        .mailboxes
        .enter(number, mailbox.clone());
    let sessions = Arc::new(AtomicUsize::new(0));
    let upstreams = Arc::new(AtomicUsize::new(0));
    let mut worker = Worker {
        number,
        poll,
        messages,
        mailbox: mailbox.clone(),
        environment,
        control,
        sessions: Arena::new(),
        upstreams: Arena::new(),
        jobs: Arena::new(),
        unblockings: Arena::new(),
        departure: None,
        rests: false,
        held: Vec::new(),
        monitors: Vec::new(),
        told: Vec::new(),
        stores: Vec::new(),
        housekeepers: Vec::new(),
        pages: 0,
        pages_wanted: VecDeque::new(),
        librarians: Vec::new(),
        ways: Vec::new(),
        astray: Vec::new(),
        hesitates_until: Duration::ZERO,
        doubted: None,
        next_reader: 0,
        reader_lost: None,
        runnable: Vec::new(),
        readable: Vec::new(),
        flush_sessions: Vec::new(),
        flush_upstreams: Vec::new(),
        scratch: vec![0; SCRATCH_BYTES],
        dropped: Vec::new(),
        nobody: crate::store::Prefix::nobody().namespace(0),
        count: sessions.clone(),
        upstream_count: upstreams.clone(),
        stalls: 0,
        overdue: Vec::new(),
        turn: 0,
        now: EPOCH.elapsed(),
        now_us: 0,
        now_ms: 0,
        paced: Vec::new(),
        pace: None,
        current: None,
        noted: None,
        sampler: Sampler::default(),
        integrity_log: integrity::Log::default(),
    };
    for store in stores {
        worker.add_store(store.clone());
    }
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            // Less confined than it says, it must not serve; the daemon ends on a panic.
            let unix_sockets = worker.environment.whereabouts.has_unix_socket();
            crate::confinement::worker(unix_sockets).expect("a worker gives its rights up");
            worker.run();
        })?;
    Ok(Handle {
        mailbox,
        sessions,
        upstreams,
        thread: Some(thread),
    })
}

/// One event loop and everything that belongs to it.
pub(crate) struct Worker {
    number: usize,
    poll: Poll,
    messages: mpsc::Receiver<Message>,
    mailbox: Arc<Mailbox>,
    environment: Arc<Environment>,
    control: tokio::sync::mpsc::UnboundedSender<Request>,
    sessions: Arena<Session>,
    upstreams: Arena<Upstream>,
    jobs: Arena<Job>,
    unblockings: Arena<Unblocking>,
    /// Sessions are to leave this process.
    departure: Option<parting::Departure>,
    /// Some can go on elsewhere, so they take no more requests here.
    rests: bool,
    /// Sessions that wait for the end of their store's pause.
    held: Vec<Key<Session>>,
    /// Sessions that monitor.
    monitors: Vec<Key<Session>>,
    /// Stores with lines of this turn.
    told: Vec<usize>,
    /// By the store's number; nothing where a store has gone.
    stores: Vec<Option<StoreLanes>>,
    /// One for each server.
    housekeepers: Vec<Key<Upstream>>,
    /// Pages of the server's names that are under way.
    pages: usize,
    /// Jobs that want one, with what they ask.
    pages_wanted: VecDeque<(Key<Job>, Vec<u8>)>,
    /// Connections of the librarian that nobody waits for.
    librarians: Vec<Key<Upstream>>,
    /// To each server that a connection was begun to.
    ways: Vec<Way>,
    /// Stores with requests that are to be sent again.
    astray: Vec<usize>,
    /// Until then sessions have one request under way at a time, since a slot is on its way to another shard.
    hesitates_until: Duration,
    /// When the control side was last told that this may not be the primary.
    doubted: Option<Duration>,
    /// Which replica is read from next, and when one could not be reached.
    next_reader: usize,
    reader_lost: Option<Duration>,
    /// Sessions that may have something to do.
    runnable: Vec<Key<Session>>,
    /// Upstream connections that may have something to read.
    readable: Vec<Key<Upstream>>,
    flush_sessions: Vec<Key<Session>>,
    flush_upstreams: Vec<Key<Upstream>>,
    scratch: Vec<u8>,
    /// Where replies go that nobody waits for any more.
    dropped: Vec<u8>,
    /// Whose names a reply holds that nobody sees.
    nobody: crate::store::Namespace,
    count: Arc<AtomicUsize>,
    /// Upstream connections that wait for a slow reader in front of others.
    stalls: usize,
    /// Sessions whose replies are buffered, since others have waited long enough.
    overdue: Vec<Key<Session>>,
    upstream_count: Arc<AtomicUsize>,
    /// How many turns the loop has made.
    turn: u64,
    /// When this turn began, since [`EPOCH`]: the clock is read once a turn.
    now: Duration,
    /// The same in microseconds, of which only differences count.
    now_us: u32,
    /// The same in milliseconds.
    now_ms: u64,
    /// Stores with sessions that wait for their share.
    paced: Vec<usize>,
    /// When one of them may have more.
    pace: Option<Duration>,
    /// The command of the request being taken.
    current: Option<&'static Command>,
    /// The arguments of the store-wide command that begins.
    noted: Option<Arguments>,
    /// Which requests' keys are noted.
    sampler: Sampler,
    integrity_log: integrity::Log,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut last_tick = self.now;
        loop {
            let tick = if !self.astray.is_empty() {
                astray::TRIED_EVERY
            } else if self.stalls > 0 || self.departure.is_some() {
                STALL_TICK
            } else {
                TICK
            };
            let timeout = match self.pace {
                _ if self.has_work() => Duration::ZERO,
                Some(wait) => wait.min(tick),
                None => tick,
            };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the event queue failed; worker ends");
                return;
            }
            self.turn += 1;
            self.read_clock();
            if !self.take_events(&events) {
                return;
            }
            self.read_upstreams();
            self.send_astray();
            self.release_paced();
            self.release_held();
            self.run_sessions();
            self.deliver_lines();
            self.flush_upstreams();
            self.flush_sessions();
            self.depart();
            if self.now - last_tick >= tick {
                last_tick = self.now;
                self.tick(Instant::now());
            }
        }
    }

    fn read_clock(&mut self) {
        self.now = EPOCH.elapsed();
        // The cut is meant: what is measured takes less than an hour.
        self.now_us = self.now.as_micros() as u32;
        self.now_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
    }

    fn has_work(&self) -> bool {
        !(self.runnable.is_empty()
            && self.readable.is_empty()
            && self.flush_sessions.is_empty()
            && self.flush_upstreams.is_empty())
    }

    /// Notes what has become possible; `false` ends the worker.
    fn take_events(&mut self, events: &Events) -> bool {
        for event in events {
            match event.token() {
                WAKE => {
                    if !self.take_messages() {
                        return false;
                    }
                }
                Token(token) if token % 2 == 0 => {
                    let Some(key) = self.sessions.key_at(token / 2) else {
                        continue;
                    };
                    let Some(session) = self.sessions.get_mut(key) else {
                        continue;
                    };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        session.readable = true;
                        session.hung_up |= event.is_read_closed() || event.is_error();
                        self.queue_run(key);
                    }
                    if event.is_writable() {
                        self.queue_flush_session(key);
                    }
                }
                Token(token) => {
                    let Some(key) = self.upstreams.key_at(token / 2) else {
                        continue;
                    };
                    self.upstream_event(key, event);
                }
            }
        }
        true
    }

    fn take_messages(&mut self) -> bool {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Accept(accepted) => self.accept(*accepted),
                Message::Granted(Ticket(key), granted) => self.granted(key, granted),
                Message::Kept(JobTicket(key), kept) => self.settings_kept(key, kept),
                Message::Store(store) => self.add_store(store),
                Message::Retire(store) => self.retire_store(&store),
                Message::Clients(message) => self.take_from_worker(message),
                Message::Pin { store, id, asker } => self.pin(store, id, asker),
                Message::Pinned(Ticket(key), found) => self.pinned(key, found),
                Message::Moved => self.follow_valkey(),
                Message::UsersMade => self.log_in_again(),
                Message::Dismiss(app) => self.dismiss(&app),
                Message::Count(asker) => self.tell_census(asker),
                Message::Leave(leaving) => self.leave(leaving),
                Message::Stop => return false,
            }
        }
        true
    }

    fn tick(&mut self, now: Instant) {
        self.close_idle_lanes(now);
        self.give_up_connecting(now);
        self.look_after_listeners();
        self.look_after_stalls(now);
        self.forget_ended();
    }

    fn queue_run(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key)
            && !session.run_queued
        {
            session.run_queued = true;
            self.runnable.push(key);
        }
    }

    fn queue_flush_session(&mut self, key: Key<Session>) {
        if let Some(session) = self.sessions.get_mut(key)
            && !session.flush_queued
        {
            session.flush_queued = true;
            self.flush_sessions.push(key);
        }
    }

    fn queue_flush_upstream(&mut self, key: Key<Upstream>) {
        if let Some(upstream) = self.upstreams.get_mut(key)
            && !upstream.flush_queued
        {
            upstream.flush_queued = true;
            self.flush_upstreams.push(key);
        }
    }

    fn run_sessions(&mut self) {
        // Sessions queued meanwhile get their turn in the next round.
        for key in std::mem::take(&mut self.runnable) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.run_queued = false;
                self.run_session(key);
            }
        }
    }

    fn flush_upstreams(&mut self) {
        for key in std::mem::take(&mut self.flush_upstreams) {
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.flush_queued = false;
                self.flush_upstream(key);
            }
        }
    }

    fn flush_sessions(&mut self) {
        for key in std::mem::take(&mut self.flush_sessions) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.flush_queued = false;
                // Before its client knows, so that others' CLIENT LIST and KILL see what it has.
                self.tell(key);
                self.flush_session(key);
                self.account(key);
                self.tell(key);
            }
        }
    }
}
