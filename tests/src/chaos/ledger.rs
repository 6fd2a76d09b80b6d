//! What clients were told: the exact account that Valkey's data is compared with.
//!
//! Invariant: an entry says *acknowledged* only after the reply was read, and *unknown* before the
//! request is sent; so data that fits no entry is wrong, whatever was lost on the way.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Enough to see what led to a violation.
const EVENTS_MAX: usize = 40;
/// One mistake shows again and again; the first ones tell.
const VIOLATIONS_MAX: usize = 20;

/// A value that one client writes in its own order, while one connection lasts.
#[derive(Debug, Default, Clone)]
pub struct Register {
    /// The last value whose SET was acknowledged.
    pub acknowledged: Option<String>,
    /// What was sent after it, in order, and may have been stored.
    pub unknown: Vec<String>,
}

/// A number that one client counts up.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counter {
    /// How often it was acknowledged.
    pub acknowledged: i64,
    /// How often nobody knows.
    pub unknown: i64,
    /// The last reply.
    pub last: i64,
}

/// The account of one store.
#[derive(Debug, Default)]
pub struct Account {
    /// By key.
    pub registers: HashMap<String, Register>,
    /// By key.
    pub counters: HashMap<String, Counter>,
    /// What was pushed and acknowledged.
    pub pushed: HashSet<String>,
    /// What was pushed, and nobody knows.
    pub maybe_pushed: HashSet<String>,
    /// What was popped.
    pub popped: HashSet<String>,
    /// Pops without a reply: each may have taken one.
    pub unknown_pops: usize,
}

/// Everything that is written down.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    accounts: Vec<Mutex<Account>>,
    events: Mutex<VecDeque<String>>,
    violations: Mutex<Vec<String>>,
    tallies: Mutex<BTreeMap<String, u64>>,
    /// Acknowledged requests by client.
    progress: Vec<AtomicU64>,
    stopped: AtomicBool,
}

impl Ledger {
    /// An empty one for so many stores and clients.
    #[must_use]
    pub fn new(stores: usize, clients: usize) -> Self {
        Self {
            start: Instant::now(),
            accounts: (0..stores).map(|_| Mutex::default()).collect(),
            events: Mutex::default(),
            violations: Mutex::default(),
            tallies: Mutex::default(),
            progress: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            stopped: AtomicBool::new(false),
        }
    }

    /// The account of a store.
    pub fn account(&self, store: usize) -> MutexGuard<'_, Account> {
        lock(&self.accounts[store])
    }

    /// Notes what happened; the last of these are told with a violation.
    pub fn event(&self, text: impl AsRef<str>) {
        let mut events = lock(&self.events);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        let seconds = self.start.elapsed().as_secs_f64();
        events.push_back(format!("{seconds:.3} s: {}", text.as_ref()));
    }

    /// Notes that the promise was broken.
    pub fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        self.event(format!("VIOLATION: {text}"));
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(text);
        }
    }

    /// All violations.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// The last events.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        lock(&self.events).iter().cloned().collect()
    }

    /// Counts something.
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    /// Counts something several times.
    pub fn add(&self, what: &str, count: u64) {
        *lock(&self.tallies).entry(what.to_owned()).or_default() += count;
    }

    /// What was counted.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<String, u64> {
        lock(&self.tallies).clone()
    }

    /// A client was served.
    pub fn served(&self, client: usize) {
        self.progress[client].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each client was served.
    #[must_use]
    pub fn progress(&self) -> Vec<u64> {
        let all = self.progress.iter();
        all.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Clients end after what they are doing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether clients shall end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A client that panicked is told of by its thread; the account still counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
