//! A session as other threads see it: who it is, what it says of itself, what it is doing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::lock;
use crate::worker::Mailbox;
use crate::{clients, commands};

/// A session in the directory.
#[derive(Debug)]
pub struct Entry {
    /// CLIENT ID within the store.
    pub id: u64,
    /// The store's number.
    pub store: usize,
    /// The number of the worker that serves it.
    pub worker: usize,
    /// The app's address as it sees it, and the address that it asked for.
    pub peer: SocketAddr,
    /// The address that the app asked for.
    pub asked: SocketAddr,
    /// When the session began.
    pub since: std::time::Instant,
    /// What the client said about itself.
    pub named: Mutex<Named>,
    /// What its session is doing, as it has told last.
    pub live: Live,
    /// The server's names of the keys that its last blocking command waits for. They mean something
    /// while [`Live`] says that it is blocked.
    pub waits_for: Mutex<Vec<Vec<u8>>>,
    /// Where the worker that serves it takes messages.
    pub mailbox: Arc<Mailbox>,
}

/// What INFO's section Clients counts of a store's sessions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct States {
    /// Waiting for a key, for replicas, or for the end of a pause.
    pub blocked: usize,
    /// With subscriptions.
    pub subscribed: usize,
    /// With tracking on.
    pub tracking: usize,
    /// With keys that they watch.
    pub watching: usize,
    /// The server's names of the keys that blocked ones wait for.
    pub blocking_keys: BTreeSet<Vec<u8>>,
    /// Those that may disappear and so end the wait.
    pub blocking_keys_on_nokey: BTreeSet<Vec<u8>>,
}

impl States {
    /// Counts one more session.
    pub fn count(&mut self, entry: &Entry) {
        let look = entry.live.look();
        let is = |flag| usize::from(look.flags & flag != 0);
        self.blocked += is(clients::BLOCKED);
        self.subscribed += is(clients::PUBSUB);
        self.tracking += is(clients::TRACKING);
        self.watching += usize::from(look.watched > 0);
        if is(clients::BLOCKED) == 0 {
            return;
        }
        // Only XREADGROUP waits for the end of a key too (`blockForKeys` in blocked.c).
        let name = look
            .command
            .and_then(|number| commands::all().get(usize::from(number)))
            .map(|command| command.name);
        for key in lock(&entry.waits_for).iter() {
            self.blocking_keys.insert(key.clone());
            if name == Some("xreadgroup") {
                self.blocking_keys_on_nokey.insert(key.clone());
            }
        }
    }
}

/// What a client says about itself, and what its connection looks like.
#[derive(Debug, Default, Clone)]
pub struct Named {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: Vec<u8>,
    /// The user that it calls itself.
    pub user: Vec<u8>,
    /// The selected database.
    pub database: u32,
    /// 2 or 3.
    pub protocol: u8,
    /// CLIENT CAPA REDIRECT.
    pub redirect: bool,
    /// CLIENT NO-EVICT ON: accepted and shown; eviction of connections is the operator's.
    pub no_evict: bool,
    /// READONLY: accepted and shown; it means something in a cluster only.
    pub read_only: bool,
}

impl Entry {
    /// Sets what [`Entry::waits_for`] holds.
    pub fn wait_for(&self, names: Vec<Vec<u8>>) {
        *lock(&self.waits_for) = names;
    }

    /// What the client said about itself, to read or to change.
    pub fn named(&self) -> MutexGuard<'_, Named> {
        lock(&self.named)
    }
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bits of [`crate::clients::FLAGS`].
    pub flags: u32,
    /// The number of the last command, as in [`crate::commands::Command::number`].
    pub command: Option<u16>,
    /// Channels that it subscribes to.
    pub channels: u32,
    /// Patterns that it subscribes to.
    pub patterns: u32,
    /// Shard channels that it subscribes to.
    pub shard_channels: u32,
    /// Commands queued since MULTI; -1 without one.
    pub queued: i64,
    /// Keys that it watches.
    pub watched: u32,
    /// When it last read or was written to, in milliseconds of the workers' clock.
    pub touched_ms: u64,
    /// Bytes that were received and not taken.
    pub input_bytes: u64,
    /// Room in that buffer.
    pub input_free_bytes: u64,
    /// Reply bytes that wait.
    pub output_bytes: u64,
    /// The size of that buffer.
    pub output_bytes_max: u64,
    /// All bytes received.
    pub read_bytes: u64,
    /// All bytes sent.
    pub written_bytes: u64,
    /// Commands carried out.
    pub commands: u64,
}

/// A [`Look`] that one thread writes and all may read. Its parts are each true, and may be of different
/// moments.
#[derive(Debug, Default)]
pub struct Live {
    flags: AtomicU32,
    /// The number and 1, or 0.
    command: AtomicU32,
    channels: AtomicU32,
    patterns: AtomicU32,
    shard_channels: AtomicU32,
    watched: AtomicU32,
    queued: AtomicI64,
    touched_ms: AtomicU64,
    input_bytes: AtomicU64,
    input_free_bytes: AtomicU64,
    output_bytes: AtomicU64,
    output_bytes_max: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    commands: AtomicU64,
}

impl Live {
    /// Tells what the session is doing now.
    pub fn tell(&self, look: &Look) {
        const ANY: Ordering = Ordering::Relaxed;
        self.flags.store(look.flags, ANY);
        let command = look.command.map_or(0, |number| u32::from(number) + 1);
        self.command.store(command, ANY);
        self.channels.store(look.channels, ANY);
        self.patterns.store(look.patterns, ANY);
        self.shard_channels.store(look.shard_channels, ANY);
        self.watched.store(look.watched, ANY);
        self.queued.store(look.queued, ANY);
        self.touched_ms.store(look.touched_ms, ANY);
        self.input_bytes.store(look.input_bytes, ANY);
        self.input_free_bytes.store(look.input_free_bytes, ANY);
        self.output_bytes.store(look.output_bytes, ANY);
        self.output_bytes_max.store(look.output_bytes_max, ANY);
        self.read_bytes.store(look.read_bytes, ANY);
        self.written_bytes.store(look.written_bytes, ANY);
        self.commands.store(look.commands, ANY);
    }

    /// What it was doing when it last told.
    #[must_use]
    pub fn look(&self) -> Look {
        const ANY: Ordering = Ordering::Relaxed;
        let command = self.command.load(ANY).checked_sub(1);
        Look {
            flags: self.flags.load(ANY),
            command: command.and_then(|number| u16::try_from(number).ok()),
            channels: self.channels.load(ANY),
            patterns: self.patterns.load(ANY),
            shard_channels: self.shard_channels.load(ANY),
            watched: self.watched.load(ANY),
            queued: self.queued.load(ANY),
            touched_ms: self.touched_ms.load(ANY),
            input_bytes: self.input_bytes.load(ANY),
            input_free_bytes: self.input_free_bytes.load(ANY),
            output_bytes: self.output_bytes.load(ANY),
            output_bytes_max: self.output_bytes_max.load(ANY),
            read_bytes: self.read_bytes.load(ANY),
            written_bytes: self.written_bytes.load(ANY),
            commands: self.commands.load(ANY),
        }
    }
}
