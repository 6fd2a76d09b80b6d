//! What the agent and Valkey hold when all clients are gone, before the faults and after them.
//!
//! Invariant: looked at from outside of the agent (`/proc`, pinned maps, Valkey's operator), so that a leak cannot
//! hide behind the agent's own count.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::maps::Pinned;
use crate::bed::Bed;
use crate::wire::Value;

/// The agent lets idle upstream connections go after seconds, not at once; a deserted network namespace after
/// half a minute and the next sweep.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Pooled connections, and a file of the runtime: not one per fault or client.
const FILES_MORE_MAX: usize = 24;
/// The same at Valkey.
const UPSTREAMS_MORE_MAX: usize = 16;
/// An allocator keeps what a burst needed; a leak of a connection's buffers per fault shows beyond it.
const RESIDENT_MORE_KIB_MAX: u64 = 96 * 1024;

/// What is held.
#[derive(Debug)]
pub struct Held {
    /// File descriptors of the agent.
    pub files: usize,
    /// Its memory.
    pub resident_kib: u64,
    /// Sessions by its own count.
    pub sessions: u64,
    /// Connections at Valkey.
    pub upstreams: usize,
    /// ACL users at Valkey.
    pub users: BTreeSet<String>,
    /// Blocked clients at Valkey.
    pub blocked: usize,
    /// Entries of the hooks' maps.
    pub maps: Maps,
}

/// What the hooks' maps hold.
#[derive(Debug)]
pub struct Maps {
    /// Handshakes without their other end.
    pub pending: usize,
    /// The same as the hooks have counted them.
    pub counted: i64,
    /// Network namespaces with listeners.
    pub namespaces: usize,
    /// Sockets with a fast path.
    pub sockets: usize,
}

impl Maps {
    fn held(bed: &Bed) -> Result<Self> {
        let open = |name| Pinned::open(&bed.pins(), name);
        Ok(Self {
            pending: open("PENDING")?.keys()?.len(),
            counted: open("HANDSHAKES")?.sum()?,
            namespaces: open("NAMESPACES")?.keys()?.len(),
            sockets: open("SOCKETS")?.keys()?.len(),
        })
    }

    /// No client is there, so nothing has a reason to be, but the namespaces.
    fn wrong(&self, before: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.pending > 0 {
            wrong.push(format!("{} handshakes without clients", self.pending));
        }
        if self.counted != self.pending as i64 {
            let (counted, pending) = (self.counted, self.pending);
            wrong.push(format!(
                "{counted} handshakes are counted, {pending} are there"
            ));
        }
        if self.namespaces > before.namespaces {
            let (now, before) = (self.namespaces, before.namespaces);
            wrong.push(format!("{now} network namespaces, {before} before"));
        }
        if self.sockets > 0 {
            wrong.push(format!("{} sockets on the fast path", self.sockets));
        }
        wrong
    }
}

/// Looks.
///
/// # Errors
/// When a part does not answer.
pub fn held(bed: &Bed) -> Result<Held> {
    let pid = bed.agent_pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let mut operator = bed.operator()?;
    let clients = operator.command(&["CLIENT", "LIST"])?.text();
    let users = operator.command(&["ACL", "USERS"])?;
    Ok(Held {
        files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        resident_kib: resident.context("no VmRSS")?,
        sessions: bed.status()?["sessions"].as_u64().context("no sessions")?,
        upstreams: clients.lines().count(),
        users: users.items().iter().map(Value::text).collect(),
        blocked: clients
            .lines()
            .filter(|line| line.contains("flags=b"))
            .count(),
        maps: Maps::held(bed)?,
    })
}

/// What is still held that was not before, once it has had time to go.
///
/// # Errors
/// When a part does not answer.
pub fn left(bed: &Bed, before: &Held, settle: Duration) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let now = held(bed)?;
        let mut wrong = now.maps.wrong(&before.maps);
        if now.files > before.files + FILES_MORE_MAX {
            wrong.push(format!(
                "{} files are open, {} before",
                now.files, before.files
            ));
        }
        if now.sessions > 0 {
            wrong.push(format!("{} sessions without clients", now.sessions));
        }
        if now.upstreams > before.upstreams + UPSTREAMS_MORE_MAX {
            let (now, before) = (now.upstreams, before.upstreams);
            wrong.push(format!("{now} connections to Valkey, {before} before"));
        }
        if now.blocked > 0 {
            wrong.push(format!("{} connections block for nobody", now.blocked));
        }
        if now.users != before.users {
            wrong.push(format!("users {:?}, before {:?}", now.users, before.users));
        }
        if now.resident_kib > before.resident_kib + RESIDENT_MORE_KIB_MAX {
            let (now, before) = (now.resident_kib, before.resident_kib);
            wrong.push(format!("{now} KiB resident, {before} before"));
        }
        if wrong.is_empty() || start.elapsed() > settle {
            return Ok(wrong);
        }
        thread::sleep(Duration::from_millis(200));
    }
}
