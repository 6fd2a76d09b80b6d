//! What a session has queued between MULTI and EXEC, and what is known of an EXEC under way.

use super::Session;
use crate::commands::Command;
use crate::rewrite::reply::ReplyPlan;
use crate::scoped::Queued;
use crate::scripts::{Declared, Sha, Walks};
use crate::worker::flushes::Flushing;
use crate::worker::tracking::Tracking;

/// Between MULTI and EXEC.
pub struct Transaction {
    /// One plan for each queued command: how to read its element of EXEC's reply.
    pub plans: Vec<ReplyPlan>,
    /// The database that a queued SELECT will have chosen by then.
    pub database: u32,
    /// What a queued CLIENT TRACKING will have made of tracking by then.
    pub tracking: Option<Tracking>,
    /// A queued command may make the store larger.
    pub needs_memory: bool,
    /// What queued commands about all keys need before EXEC.
    pub queued: Queued,
    /// Why that could not be had.
    pub unfilled: Option<Vec<u8>>,
    /// A queued command may change something.
    pub writes: bool,
    /// The session ends with EXEC.
    pub ends: bool,
    /// What MONITOR shows of it at EXEC: databases, and arguments as they are shown.
    pub shown: Vec<(u32, Vec<u8>)>,
    /// How many of the queued commands flush.
    pub flushes: usize,
    /// They begin: EXEC is next to be sent.
    pub flushing: Option<Flushing>,
    /// Scripts whose texts it brings: known to the app once EXEC has run them.
    pub scripts: Vec<Brought>,
}

/// A script that a transaction brings: the app's name, the server's, and what it asks for.
pub type Brought = (Sha, Sha, Walks);

impl Transaction {
    /// What the server will call a script that was queued with its text.
    pub fn brings(&self, app: Sha) -> Option<Sha> {
        let found = self.scripts.iter().find(|(name, ..)| *name == app);
        found.map(|(_, server, _)| *server)
    }
}

/// An EXEC under way: what happens with it.
#[derive(Debug, Default)]
pub struct Executing {
    /// What was queued.
    pub queued: Vec<(u32, Vec<u8>)>,
    /// EXEC itself, if anybody watched when it was sent.
    pub own: Option<Vec<u8>>,
    /// Flushes that are over once it has happened.
    pub flushing: Option<Flushing>,
    /// Scripts that are known once it has happened.
    pub scripts: Vec<Brought>,
}

impl Session {
    /// What the script declares that a command with this first argument runs.
    pub fn declared(&self, command: &Command, script: &[u8]) -> Declared {
        let scripts = &self.store.scripts;
        match command.name {
            "eval" => Declared::of_script(script),
            "evalsha" => {
                Sha::parse(script).map_or_else(Declared::default, |sha| scripts.declares(sha))
            }
            "fcall" => scripts.function_declares(script),
            _ => Declared::default(),
        }
    }

    /// A script is queued with its text.
    pub fn queue_script(&mut self, app: Sha, server: Sha) {
        if let Some(transaction) = &mut self.transaction {
            let walks = self.store.scripts.walks(app);
            transaction.scripts.push((app, server, walks));
        }
    }
}
