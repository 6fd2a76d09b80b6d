//! What a session subscribes to, counted.

use crate::rewrite::reply::{Ack, AckKind};

/// How many names the session listens to, as the server confirmed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subscribed {
    pub channels: u32,
    pub patterns: u32,
    pub shard_channels: u32,
}

impl Subscribed {
    pub fn any(self) -> bool {
        self.channels + self.patterns + self.shard_channels > 0
    }

    /// A confirmation carries how many names are subscribed in all: channels and patterns together,
    /// sharded channels apart.
    pub fn confirm(&mut self, ack: &Ack) {
        let count = u32::try_from(ack.count).unwrap_or(0);
        match ack.kind {
            AckKind::Subscribe | AckKind::Unsubscribe => {
                self.channels = count.saturating_sub(self.patterns);
            }
            AckKind::Psubscribe | AckKind::Punsubscribe => {
                self.patterns = count.saturating_sub(self.channels);
            }
            AckKind::Ssubscribe | AckKind::Sunsubscribe => self.shard_channels = count,
        }
    }
}
