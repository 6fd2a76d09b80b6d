//! What goes wrong when, by a seed.
//!
//! Invariant: the same seed gives the same faults in the same order with the same lengths; each kind
//! comes once before any comes twice.

use std::fmt;
use std::time::Duration;

/// Calm before a fault: long enough for a few hundred requests.
const CALM_MS: std::ops::Range<u64> = 150..500;
/// How long a fault lasts: longer than the agent's own periods (a quarter and half a second) at times.
const HOLD_MS: std::ops::Range<u64> = 100..1200;
/// Cuts fall within the headers and the first values.
const CUT_BYTES_MAX: usize = 60;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`what` says it in words")]
pub enum Kind {
    AgentKilled,
    AgentEnded,
    AgentFollowed,
    AgentStopped,
    ClockMoved,
    ValkeyKilled,
    ValkeyStopped,
    ValkeyReloaded,
    UpstreamsKilled,
    Reset,
    Stall,
    ShortWrites,
    Late,
    Garbage,
    Cut,
    Refused,
    NoDescriptors,
    NoMemory,
    Storm,
    FullMaps,
    Registry,
}

/// All kinds, and each in words.
pub const KINDS: [(Kind, &str); 21] = [
    (Kind::AgentKilled, "the agent is killed and started again"),
    (
        Kind::AgentEnded,
        "the agent is ended with SIGTERM and started again",
    ),
    (
        Kind::AgentFollowed,
        "another agent takes over from the agent",
    ),
    (Kind::AgentStopped, "the agent stands still (SIGSTOP)"),
    (
        Kind::ClockMoved,
        "the agent starts again years ahead, and at its next start jumps back",
    ),
    (Kind::ValkeyKilled, "Valkey is killed and started again"),
    (Kind::ValkeyStopped, "Valkey stands still (SIGSTOP)"),
    (Kind::ValkeyReloaded, "DEBUG RELOAD"),
    (
        Kind::UpstreamsKilled,
        "CLIENT KILL of everything but the operator",
    ),
    (Kind::Reset, "every upstream connection is reset"),
    (Kind::Stall, "nothing travels between the agent and Valkey"),
    (Kind::ShortWrites, "bytes travel one to three at a time"),
    (Kind::Late, "bytes travel late"),
    (Kind::Garbage, "Valkey's next reply begins with garbage"),
    (Kind::Cut, "a connection ends within a reply"),
    (Kind::Refused, "upstream connections are reset and refused"),
    (
        Kind::NoDescriptors,
        "the agent may open no file (RLIMIT_NOFILE)",
    ),
    (Kind::NoMemory, "the agent gets no memory (RLIMIT_DATA)"),
    (Kind::Storm, "a hundred connections come and go"),
    (
        Kind::FullMaps,
        "an app fills its share of the maps: namespaces, and handshakes beyond one namespace's",
    ),
    (Kind::Registry, "stores, tokens and limits change"),
];

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its place in the plan.
    pub number: usize,
    /// What happens.
    pub kind: Kind,
    /// The calm before.
    pub calm: Duration,
    /// How long it lasts.
    pub hold: Duration,
    /// Where in a reply, for what needs a place.
    pub bytes: usize,
}

/// All faults of a seed: there is always a next one.
#[derive(Debug)]
pub struct Plan {
    random: fastrand::Rng,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    number: usize,
}

impl Plan {
    /// The plan of a seed, of these kinds.
    #[must_use]
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            kinds: kinds.to_vec(),
            left: Vec::new(),
            number: 0,
        }
    }
}

impl Iterator for Plan {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.random.shuffle(&mut self.left);
        }
        self.number += 1;
        Some(Fault {
            number: self.number,
            kind: self.left.pop()?,
            calm: Duration::from_millis(self.random.u64(CALM_MS)),
            hold: Duration::from_millis(self.random.u64(HOLD_MS)),
            bytes: self.random.usize(0..CUT_BYTES_MAX),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = KINDS.iter().find(|(kind, _)| kind == self);
        f.write_str(found.map_or("?", |(_, what)| what))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calm, hold) = (self.calm.as_millis(), self.hold.as_millis());
        write!(f, "{}: after {calm} ms, for {hold} ms", self.number)?;
        write!(f, ", at byte {}: {}", self.bytes, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_and_every_kind() {
        let kinds = KINDS.map(|(kind, _)| kind);
        let plan = || -> Vec<_> {
            Plan::new(7, &kinds)
                .take(kinds.len())
                .map(|fault| fault.to_string())
                .collect()
        };
        assert_eq!(plan(), plan());
        let mut seen: Vec<_> = Plan::new(7, &kinds)
            .take(kinds.len())
            .map(|f| f.kind)
            .collect();
        seen.sort_unstable();
        let mut all = kinds.to_vec();
        all.sort_unstable();
        assert_eq!(seen, all);
    }
}
