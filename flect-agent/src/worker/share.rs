//! What one store may move in one turn of the loop, so that large values of one do not make all others wait.
//!
//! A turn serves every connection that has something, and nobody is written to before its end: with five
//! hundred connections of one store that each bring as much as one may, a neighbour's reply of five bytes
//! would wait for a hundred megabytes. What a store has beyond its share stays in the sockets until the next
//! turn, where it comes first.

use super::Worker;
use super::arena::Key;
use super::lanes;
use super::session::Session;
use super::upstream::Upstream;

/// Bytes of a store that are taken in one turn, of requests and replies together, before the rest of its
/// connections wait for the next one. What is being read is read to its end, so a turn may have up to one
/// connection's reads more. Small enough to be done within a millisecond, whatever it consists of; large
/// enough that the system calls of a turn hardly count.
const TURN_BYTES: usize = 256 * 1024;

/// What a store has moved in a turn.
#[derive(Default)]
pub struct Share {
    turn: u64,
    bytes: usize,
}

impl Share {
    /// Whether there is some left.
    fn is_left(&mut self, turn: u64) -> bool {
        if self.turn != turn {
            *self = Self { turn, bytes: 0 };
        }
        self.bytes < TURN_BYTES
    }
}

impl Worker {
    /// Whether a session may be read from in this turn. If not, it is queued for the next one.
    pub(super) fn may_read_session(&mut self, key: Key<Session>) -> bool {
        let store = self.sessions.get(key).map(|session| session.store.number);
        let may = self.has_share(store);
        if !may {
            self.queue_run(key);
        }
        may
    }

    /// Whether an upstream connection may be read from in this turn. If not, it is queued for the next one.
    pub(super) fn may_read_upstream(&mut self, key: Key<Upstream>) -> bool {
        let store = self.upstreams.get(key).and_then(|upstream| upstream.store);
        let may = self.has_share(store);
        if !may {
            self.readable.push(key);
        }
        may
    }

    /// Counts what a store has moved.
    pub(super) fn moved(&mut self, store: Option<usize>, bytes: usize) {
        if let Some(lanes) = lanes::of(&mut self.stores, store) {
            lanes.share.bytes += bytes;
        }
    }

    fn has_share(&mut self, store: Option<usize>) -> bool {
        let turn = self.turn;
        lanes::of(&mut self.stores, store).is_none_or(|lanes| lanes.share.is_left(turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_an_end_and_the_next_one_begins_anew() {
        let mut share = Share::default();
        assert!(share.is_left(1));
        share.bytes += TURN_BYTES - 1;
        assert!(share.is_left(1));
        share.bytes += 1;
        assert!(!share.is_left(1));
        assert!(share.is_left(2));
    }
}
