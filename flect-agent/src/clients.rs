//! A store's clients as CLIENT LIST, CLIENT KILL and MONITOR show and choose them.
//!
//! Invariant: nothing here knows more than the store's own sessions; what is shown of a client is what the
//! app could know of a connection to a Valkey of its own.

mod filter;
mod line;
mod repr;

pub use filter::{Asked, Filter};
pub use line::{Shown, line};
pub use repr::{command_line, quoted};

use crate::environment::{Entry, Look, Named};

/// Letters of CLIENT LIST's `flags`, and the bits by which a session tells them
/// (`catClientInfoString` in networking.c), in their order.
pub const FLAGS: &[(u32, char)] = &[
    (MONITOR, 'O'),
    (PUBSUB, 'P'),
    (MULTI, 'x'),
    (BLOCKED, 'b'),
    (TRACKING, 't'),
    (BROADCAST, 'B'),
    (CLOSING, 'c'),
    (READONLY, 'r'),
    (NO_EVICT, 'e'),
    (NO_TOUCH, 'T'),
];

/// MONITOR.
pub const MONITOR: u32 = 1;
/// It subscribes to something.
pub const PUBSUB: u32 = 1 << 1;
/// Between MULTI and EXEC.
pub const MULTI: u32 = 1 << 2;
/// It waits in a blocking command, or for the end of CLIENT PAUSE.
pub const BLOCKED: u32 = 1 << 3;
/// CLIENT TRACKING.
pub const TRACKING: u32 = 1 << 4;
/// CLIENT TRACKING with BCAST.
pub const BROADCAST: u32 = 1 << 5;
/// It is closed when its last reply is out.
pub const CLOSING: u32 = 1 << 6;
/// READONLY.
pub const READONLY: u32 = 1 << 7;
/// CLIENT NO-EVICT.
pub const NO_EVICT: u32 = 1 << 8;
/// CLIENT NO-TOUCH.
pub const NO_TOUCH: u32 = 1 << 9;

/// The letters of a session's flags.
#[must_use]
pub fn letters(flags: u32) -> String {
    let set: String = FLAGS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, letter)| *letter)
        .collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

/// What is known of one client when a line or a filter looks at it.
#[derive(Debug)]
pub struct Client<'a> {
    /// Who it is.
    pub entry: &'a Entry,
    /// What it says of itself.
    pub named: &'a Named,
    /// What its session is doing.
    pub look: &'a Look,
    /// It is the one that asks.
    pub asks: bool,
    /// How old its connection is.
    pub age_seconds: u64,
    /// How long it has said and been told nothing.
    pub idle_seconds: u64,
}
