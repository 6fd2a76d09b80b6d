//! Reads that a replica may answer, for stores whose operator has said so.
//!
//! Invariant: a connection to a replica carries nothing but plain reads, and never becomes a session's own. A
//! session changes to it, and away from it, while it is owed nothing; so its replies come in their order. What
//! it has asked for besides reading it sees again: for a second from then on it reads from the primary.

use std::time::Duration;

use super::super::Worker;
use super::super::arena::Key;
use super::super::session::{Lane, Session};
use super::super::upstream::{Role, State, Upstream};
use super::{of, place};
use crate::environment::UpstreamAddress;
use crate::resp::Protocol;

/// How long a session reads from the primary after anything but a read: replicas are mostly behind by
/// milliseconds, and one that is behind by more is shown to others in any case.
const OWN_WRITES_MS: u64 = 1000;

/// How long replicas are left alone after one that could not be reached.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Commands that read keys and nothing else, and whose answers are the same wherever the keys are. SCANs of single
/// keys are not among them: a cursor means something on its own server only. Sorted.
const READS: &[&str] = &[
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "exists",
    "expiretime",
    "geodist",
    "geohash",
    "geopos",
    "georadius_ro",
    "georadiusbymember_ro",
    "geosearch",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hkeys",
    "hlen",
    "hmget",
    "hstrlen",
    "hvals",
    "lcs",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "mget",
    "pexpiretime",
    "pttl",
    "scard",
    "sdiff",
    "sinter",
    "sintercard",
    "sismember",
    "smembers",
    "smismember",
    "strlen",
    "substr",
    "sunion",
    "ttl",
    "type",
    "xlen",
    "xrange",
    "xrevrange",
    "zcard",
    "zcount",
    "zdiff",
    "zinter",
    "zintercard",
    "zlexcount",
    "zmscore",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscore",
    "zunion",
];

/// Whether a command only reads.
pub(in crate::worker) fn only_reads(command: &str) -> bool {
    READS.binary_search(&command).is_ok()
}

/// Errors of a replica that has nothing to answer with now.
pub(in crate::worker) fn tells_of_no_data(error: &[u8]) -> bool {
    error.starts_with(b"LOADING ") || error.starts_with(b"MASTERDOWN ")
}

impl Worker {
    /// The connection for a session's next request, which may be a read.
    pub(in crate::worker) fn lane_of_read(&mut self, key: Key<Session>) -> Option<Key<Upstream>> {
        let session = self.sessions.get(key)?;
        let is_late = self.now_ms.saturating_sub(session.doing.wrote_ms) > OWN_WRITES_MS;
        let reader = match session.lane {
            Lane::Own(_) => None,
            // What is under way decides: another connection would be another order.
            Lane::Shared(upstream) if !session.is_idle() => {
                let lane = self.upstreams.get(upstream);
                lane.is_some_and(|lane| lane.is_reader && !lane.retired)
                    .then_some(upstream)
            }
            Lane::Shared(_) | Lane::None if is_late => {
                self.reader(session.store.number, session.protocol)
            }
            Lane::Shared(_) | Lane::None => None,
        };
        let Some(reader) = reader else {
            return self.lane_of_any(key, false);
        };
        self.sessions.get_mut(key)?.lane = Lane::Shared(reader);
        self.with_room(key, reader)
    }

    /// A store's connection to a replica, if one is open. Otherwise one is begun, and nobody waits for it.
    fn reader(&mut self, store: usize, protocol: Protocol) -> Option<Key<Upstream>> {
        let replicas = self.environment.replicas.load_full();
        let known = of(&mut self.stores, Some(store))?.readers[place(protocol)];
        if let Some(key) = known
            && let Some(upstream) = self.upstreams.get_mut(key)
        {
            if replicas.contains(&upstream.address) {
                return (upstream.state == State::Open).then_some(key);
            }
            // It serves no more, or is the primary now.
            upstream.retired = true;
            if upstream.owed.is_empty() {
                self.close_upstream(key);
            }
        }
        let lanes = of(&mut self.stores, Some(store))?;
        lanes.readers[place(protocol)] = None;
        let is_early = self
            .reader_lost
            .is_some_and(|at| self.now.saturating_sub(at) < LEFT_ALONE);
        let turn = self.next_reader + self.number;
        let address = replicas.get(turn.checked_rem(replicas.len())?)?;
        if is_early {
            return None;
        }
        let key = self.begin_reader(address, store, protocol);
        of(&mut self.stores, Some(store))?.readers[place(protocol)] = key;
        None
    }

    fn begin_reader(
        &mut self,
        address: &UpstreamAddress,
        store: usize,
        protocol: Protocol,
    ) -> Option<Key<Upstream>> {
        let lanes = of(&mut self.stores, Some(store))?;
        let credentials = lanes.store.credentials.clone();
        let begun = Upstream::connect(
            address.clone(),
            &credentials,
            Role::Shared,
            protocol,
            Some(store),
        );
        match begun {
            Ok(mut upstream) => {
                upstream.is_reader = true;
                self.watch_upstream(upstream)
            }
            Err(error) => {
                self.reader_not_reached(&error);
                None
            }
        }
    }

    /// A replica cannot be reached, or has let the agent not in: reads go to the primary.
    pub(in crate::worker) fn reader_not_reached(&mut self, error: &dyn std::fmt::Display) {
        tracing::info!(%error, "a replica cannot be read from; the primary answers");
        self.reader_lost = Some(self.now);
        self.next_reader += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    #[test]
    fn reads_are_sorted_and_change_nothing() {
        assert!(READS.is_sorted());
        for name in READS {
            let command = commands::all().iter().find(|it| it.name == *name);
            assert!(
                command.is_some_and(|it| it.flags.has(commands::Flags::READONLY)),
                "{name}"
            );
        }
        for other in [
            "set",
            "eval_ro",
            "sscan",
            "pfcount",
            "sort_ro",
            "xread",
            "object|freq",
        ] {
            assert!(!only_reads(other), "{other}");
        }
    }
}
