//! The audit log: what was refused and which limit was met, as one JSON object a line, for the operator.
//!
//! Invariant: a line holds names that the operator has given (apps, stores, cgroups), names of commands,
//! and numbers; never a key, a value, a password or anything else that a client made up. Whoever notes an
//! event waits for nobody: lines are written by a thread of their own, and what comes too fast is counted
//! instead of told.

mod limiter;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use limiter::Limiter;
pub use writer::{AuditError, Target};
use writer::{Job, Writer};

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A connection from a process that no app claims, or whose app has no store.
    Identity,
    /// A command that is the operator's.
    OperatorCommand,
    /// A reply held a name that is not the app's to see.
    Integrity,
    /// A wrong password, or a store that is not the app's.
    Authentication,
    /// A request of the control socket that is not for who asks.
    ControlSocket,
    /// The registry did not take a change, or is another environment's.
    Registry,
    /// A connection beyond the store's limit.
    Connections,
    /// A request that needs a connection to Valkey beyond the store's limit.
    Upstreams,
    /// A client's requests and unread replies took more memory than the store's clients may.
    Buffers,
    /// A pattern beyond the store's limit.
    Patterns,
    /// A command that needs memory, of a store that is full.
    Memory,
    /// Commands wait for the store's rate.
    Rate,
    /// KEYS or a script found more names than are gathered.
    Names,
    /// A script kept the server from all stores for too long.
    Scripts,
    /// A connect with a socket that was made before the hooks, or accepted.
    OldSocket,
    /// A connect with a socket that another cgroup made.
    OtherCgroup,
    /// A connect with a socket that is bound to a device.
    Device,
    /// A connect over multipath TCP.
    Multipath,
    /// A connect to the agent's own port.
    AgentsPort,
    /// A connect to a port of the shared Valkey's machines that is closed to apps.
    ClosedPort,
    /// The first connects from a network namespace, where the agent listens from then on.
    NewNamespace,
    /// A connect from a network namespace in which the agent does not listen and will not.
    Namespaces,
    /// A connection beyond the handshakes that a network namespace may have under way.
    Handshakes,
    /// A connect for whose identity the kernel had no memory.
    KernelMemory,
}

impl Reason {
    /// Every reason, for the documentation's check.
    pub const ALL: [Self; 24] = [
        Self::Identity,
        Self::OperatorCommand,
        Self::Integrity,
        Self::Authentication,
        Self::ControlSocket,
        Self::Registry,
        Self::Connections,
        Self::Upstreams,
        Self::Buffers,
        Self::Patterns,
        Self::Memory,
        Self::Rate,
        Self::Names,
        Self::Scripts,
        Self::OldSocket,
        Self::OtherCgroup,
        Self::Device,
        Self::Multipath,
        Self::AgentsPort,
        Self::ClosedPort,
        Self::NewNamespace,
        Self::Namespaces,
        Self::Handshakes,
        Self::KernelMemory,
    ];

    /// What it is called in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::OperatorCommand => "operator-command",
            Self::Integrity => "integrity",
            Self::Authentication => "authentication",
            Self::ControlSocket => "control-socket",
            Self::Registry => "registry",
            Self::Connections => "connections",
            Self::Upstreams => "upstreams",
            Self::Buffers => "buffers",
            Self::Patterns => "patterns",
            Self::Memory => "memory",
            Self::Rate => "rate",
            Self::Names => "names",
            Self::Scripts => "scripts",
            Self::OldSocket => "old-socket",
            Self::OtherCgroup => "other-cgroup",
            Self::Device => "device",
            Self::Multipath => "multipath",
            Self::AgentsPort => "agents-port",
            Self::ClosedPort => "closed-port",
            Self::NewNamespace => "new-namespace",
            Self::Namespaces => "namespaces",
            Self::Handshakes => "handshakes",
            Self::KernelMemory => "kernel-memory",
        }
    }
}

/// Whom an event is about. Lines are counted together by store and reason; where there is no store, by
/// cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The app, where it is known.
    pub app: Option<&'a str>,
    /// The store.
    pub store: Option<&'a str>,
    /// The cgroup of a process that has no session.
    pub cgroup: Option<&'a str>,
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// RFC 3339, UTC, with milliseconds.
    time: String,
    reason: Reason,
    app: Option<String>,
    store: Option<String>,
    cgroup: Option<String>,
    /// More, in words of the agent's own.
    detail: String,
    /// Events of this store and reason since the last line of them, this one included.
    count: u64,
}

/// Where events go once [`start`] has been called.
static AUDIT: OnceLock<Audit> = OnceLock::new();

struct Audit {
    limiter: Mutex<Limiter>,
    writer: Writer,
}

/// Settings, as `[agent.audit]` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file of the log's own; without it lines go to the agent's log, with the target `audit`.
    pub file: Option<PathBuf>,
}

/// How long the end of the process waits for lines on their way.
const FLUSHED_WITHIN: Duration = Duration::from_secs(2);

/// Begins to write; events before are lost. Only the first call counts.
///
/// # Errors
/// When the file cannot be opened, or others than its owner may use it.
pub fn start(settings: &Settings) -> Result<(), AuditError> {
    let target = match &settings.file {
        Some(path) => Target::file(path)?,
        None => Target::Log,
    };
    let writer = Writer::start(target)?;
    let limiter = Mutex::new(Limiter::new(Instant::now()));
    // Set once, by the daemon's start.
    let _ = AUDIT.set(Audit { limiter, writer });
    Ok(())
}

/// Events of each reason since the process began, whether or not they are written.
static COUNTS: [AtomicU64; Reason::ALL.len()] = [const { AtomicU64::new(0) }; Reason::ALL.len()];

/// How many events there were of each reason.
pub fn counts() -> impl Iterator<Item = (Reason, u64)> {
    let count = |reason: Reason| COUNTS[reason as usize].load(Ordering::Relaxed);
    Reason::ALL
        .into_iter()
        .map(move |reason| (reason, count(reason)))
}

/// Events of each reason of one store.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Reason::ALL.len()]);

impl Counts {
    /// One more.
    pub fn add(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that there were any of.
    pub fn all(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = Reason::ALL.into_iter().zip(&self.0);
        let counts = counts.map(|(reason, count)| (reason, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }
}

/// Notes an event. `detail` is asked for only when a line is written.
#[cold]
pub fn note(reason: Reason, subject: Subject<'_>, detail: impl FnOnce() -> String) {
    COUNTS[reason as usize].fetch_add(1, Ordering::Relaxed);
    let Some(audit) = AUDIT.get() else { return };
    let mut limiter = lock(&audit.limiter);
    if let Some(count) = limiter.take(reason, subject, Instant::now()) {
        drop(limiter);
        audit
            .writer
            .send(Job::Line(line(reason, subject, detail(), count)));
    }
}

/// Tells how much was counted and not told, where nothing has come since. To be called now and then.
pub fn tell_counted() {
    let Some(audit) = AUDIT.get() else { return };
    let due = lock(&audit.limiter).due(Instant::now());
    audit.tell(due);
}

/// Waits until what has been noted is written.
pub fn flush() {
    let Some(audit) = AUDIT.get() else { return };
    let rest = lock(&audit.limiter).rest();
    audit.tell(rest);
    audit.writer.flush(FLUSHED_WITHIN);
}

impl Audit {
    fn tell(&self, counted: Vec<limiter::Counted>) {
        for counted in counted {
            let detail = "as before; this line tells only how often".to_owned();
            let line = line(counted.reason, counted.subject(), detail, counted.count);
            self.writer.send(Job::Line(line));
        }
    }
}

fn line(reason: Reason, subject: Subject<'_>, detail: String, count: u64) -> Line {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Line {
        time: writer::now(),
        reason,
        app: owned(subject.app),
        store: owned(subject.store),
        cgroup: owned(subject.cgroup),
        detail,
        count,
    }
}

/// A change of the limiter is made in one call, so a panic elsewhere cannot leave it half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_documentation_says() {
        let subject = Subject {
            app: Some("shop"),
            store: Some("my-cache"),
            cgroup: None,
        };
        let mut line = line(Reason::OperatorCommand, subject, "config|rewrite".into(), 3);
        line.time = "2026-01-02T03:04:05.006Z".into();
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"time":"2026-01-02T03:04:05.006Z","reason":"operator-command","app":"shop","store":"my-cache","cgroup":null,"detail":"config|rewrite","count":3}"#
        );
    }

    #[test]
    fn words_are_those_of_the_log() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "counts are found by it");
            let told = serde_json::to_value(reason).unwrap();
            assert_eq!(told, reason.word());
        }
    }
}
