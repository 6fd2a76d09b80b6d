//! What a store's apps are told about slow and large commands: SLOWLOG, COMMANDLOG and LATENCY.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`arguments`] | a request's arguments as a log keeps them |
//! | [`log`] | the slow commands, large requests and large replies of a store on this node |
//! | [`spikes`] | LATENCY's events and what is told of them |
//! | [`answer`] | the commands' replies |
//!
//! Invariant: a store's own commands come in, as its apps sent them, and nothing of others; what is
//! kept is bounded by the store's settings and by [`log::ENTRIES_MAX`].

pub mod answer;
pub mod arguments;
pub mod log;
pub mod spikes;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use arguments::Arguments;
pub use log::{Entry, Kind, Log};
pub use spikes::Spikes;

/// What is kept of a store on this node. Touched for what is slow or large, never for each command.
#[derive(Debug, Default)]
pub struct Diagnosis {
    logs: [Mutex<Log>; 3],
    spikes: Mutex<Spikes>,
}

impl Diagnosis {
    /// The log of one kind.
    pub fn log(&self, kind: Kind) -> MutexGuard<'_, Log> {
        lock(&self.logs[kind as usize])
    }

    /// LATENCY's events.
    pub fn spikes(&self) -> MutexGuard<'_, Spikes> {
        lock(&self.spikes)
    }
}

/// An entry is pushed or removed in one call, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
