//! What a sequence is about besides data.
//!
//! What README.md tells to be otherwise in a store is left out where it would be seen, so that the rest is
//! compared without exceptions.

use fastrand::Rng;

use super::Request;

/// The setting without which there are no notifications.
pub const EVENTS_SETTING: &[u8] = b"notify-keyspace-events";

/// What a sequence is about.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Client `c` subscribes to channels.
    pub listens: bool,
    /// It subscribes to keyspace events, and `a` may too.
    pub hears: bool,
    /// Clients track what they read.
    pub tracks: bool,
    /// They do not want to hear of themselves.
    pub noloop: bool,
    /// Client `a` has RESP3 from the beginning to the end, so that it may subscribe and do other things.
    pub both: bool,
}

impl Mode {
    /// Any one.
    pub fn any(rng: &mut Rng) -> Self {
        let hears = rng.u8(..4) == 0;
        Self {
            hears,
            listens: !hears && rng.bool(),
            tracks: rng.u8(..4) == 0,
            noloop: rng.u8(..3) == 0,
            both: hears && rng.bool(),
        }
    }

    /// Whether a client begins with HELLO 3. Who tracks without it hears of nothing.
    pub fn speaks_resp3(self, client: char, rng: &mut Rng) -> bool {
        let most = if self.tracks { 8 } else { 5 };
        rng.u8(..10) < most || self.both && client == 'a'
    }

    /// Who subscribes next.
    pub fn listener(self, rng: &mut Rng) -> char {
        if self.both && rng.u8(..3) == 0 {
            'a'
        } else {
            'c'
        }
    }

    /// Whether a request is known to be told of otherwise.
    pub fn leaves_out(self, request: &Request) -> bool {
        let (tracks, hears) = (self.tracks, self.hears);
        match request.name().as_str() {
            // It takes key after key away.
            "FLUSHDB" | "FLUSHALL" => tracks || hears,
            // The tracked names of a server are those of all its databases.
            "SELECT" => tracks,
            "RESET" => self.both,
            // Carried out over another connection.
            "SORT" | "SORT_RO" | "MOVE" | "COPY" | "GEORADIUS" | "GEORADIUSBYMEMBER" => {
                tracks && self.noloop
            }
            "CONFIG" => hears && request.word(1) == "SET",
            _ => false,
        }
    }

    /// Whether a command is told of otherwise from within a transaction.
    pub fn never_queues(self, name: &str) -> bool {
        match name {
            "GEORADIUS" | "GEORADIUSBYMEMBER" => self.hears || self.tracks,
            // Patterns read other keys, each of which is tracked.
            "SORT" | "SORT_RO" => self.tracks,
            _ => false,
        }
    }
}
