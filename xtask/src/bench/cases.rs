//! What is measured: one line per case.

use super::load::Expect;

/// What a case tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Replies, messages or connections per second.
    Rate,
    /// The median latency.
    P50,
    /// The 99th percentile.
    P99,
    /// The 99.9th percentile.
    P999,
    /// Valkey's CPU time per request.
    ServerCpu,
    /// The agent's or peer's CPU time per request.
    OwnCpu,
    /// The agent's or peer's memory per connection that waits.
    IdleMemory,
    /// The same while all of them ask, at its highest.
    ActiveMemory,
    /// How much more memory it took than before anybody came, at its highest.
    Growth,
}

impl Metric {
    /// In tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::ServerCpu => "Valkey's CPU",
            Self::OwnCpu => "own CPU",
            Self::IdleMemory => "idle memory",
            Self::ActiveMemory => "active memory",
            Self::Growth => "memory growth",
        }
    }

    /// Of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rate => "/s",
            Self::P50 | Self::P99 | Self::P999 => "us",
            // The same number as seconds per million requests.
            Self::ServerCpu | Self::OwnCpu => "us/request",
            Self::IdleMemory | Self::ActiveMemory => "B/connection",
            Self::Growth => "MiB",
        }
    }

    /// Has direct Valkey it too, so that there is a ratio?
    pub fn is_relative(self) -> bool {
        self <= Self::ServerCpu
    }

    /// Is more of it better?
    pub fn more_is_better(self) -> bool {
        self == Self::Rate
    }
}

/// What is stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// Nothing.
    Nothing,
    /// `key:000000000000` and so on.
    Keys { count: u64, bytes: usize },
    /// `hash`, with so many fields.
    Hash(usize),
    /// `list`, with so many elements.
    List(usize),
}

/// How it is asked.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// valkey-benchmark.
    Benchmark { connections: usize, pipeline: usize },
    /// The own generator, asking again when answered.
    Closed { connections: usize, pipeline: usize },
    /// The own generator, at this share of what direct Valkey can do.
    Open { connections: usize, share: f64 },
    /// A publisher and so many subscribers.
    Fanout { subscribers: usize },
    /// Connect, PING, close, on so many at once.
    Connecting { at_once: usize },
    /// The request at a fixed rate, beside connections that read large values of the same store.
    Beside { large: usize, per_second: f64 },
}

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Unique; `--filter` looks for parts of it.
    pub name: &'static str,
    /// The request; `__rand_int__` is a key's number and `__value__` the value.
    pub words: &'static [&'static str],
    /// What a reply must be.
    pub expect: Expect,
    /// Bytes of `__value__`, or of each stored value.
    pub value_bytes: usize,
    /// What is stored before.
    pub seed: Seed,
    /// How it is asked.
    pub way: Way,
    /// What it tells.
    pub metrics: &'static [Metric],
    /// Over how many stores; 0 is the default store alone.
    pub stores: usize,
    /// With all variants of flect, not only as shipped and accelerated.
    pub wide: bool,
    /// Also by `--quick`.
    pub quick: bool,
    /// With an agent that has served nobody before: memory is told for the first time only.
    pub fresh: bool,
}

use Metric::{ActiveMemory, Growth, IdleMemory, OwnCpu, P50, P99, P999, Rate, ServerCpu};

const SMALL: usize = 16;
const LARGE: usize = 10_000_000;
/// More keys than a CPU's inner caches hold, few enough to store in a moment.
const KEYS: u64 = 10_000;
const SMALL_KEYS: Seed = Seed::Keys {
    count: KEYS,
    bytes: SMALL,
};
/// A pool of a busy app.
const POOL: usize = 50;

const GET: &[&str] = &["GET", "key:__rand_int__"];
const SET: &[&str] = &["SET", "key:__rand_int__", "__value__"];
const GET_ONE: &[&str] = &["GET", "key:000000000000"];
const SET_ONE: &[&str] = &["SET", "key:000000000000", "__value__"];
const MGET_100: &[&str] = &{
    let mut words = ["key:__rand_int__"; 101];
    words[0] = "MGET";
    words
};
/// A key made up inside the script, which no proxy sees.
const EVAL: &[&str] = &[
    "EVAL",
    "return redis.call('GET', 'key:' .. string.format('%012d', ARGV[1]))",
    "0",
    "7",
];

const SERVED: &[Metric] = &[Rate, P50, P99, ServerCpu, OwnCpu];
const LATENCY: &[Metric] = &[P50, P99, P999];

const BASE: Case = Case {
    name: "",
    words: GET,
    expect: bulk(SMALL),
    value_bytes: SMALL,
    seed: SMALL_KEYS,
    way: Way::Benchmark {
        connections: POOL,
        pipeline: 1,
    },
    metrics: SERVED,
    stores: 0,
    wide: false,
    quick: false,
    fresh: false,
};

/// All cases, in the order of the report.
pub const CASES: &[Case] = &[
    Case {
        name: "GET, 50 connections",
        wide: true,
        quick: true,
        ..BASE
    },
    Case {
        name: "SET, 50 connections",
        wide: true,
        quick: true,
        ..set(BASE)
    },
    Case {
        name: "GET, 50 connections, pipeline 16",
        wide: true,
        quick: true,
        ..pipelined(BASE, 16)
    },
    Case {
        name: "SET, 50 connections, pipeline 16",
        wide: true,
        ..set(pipelined(BASE, 16))
    },
    Case {
        name: "GET, 50 connections, pipeline 100",
        ..pipelined(BASE, 100)
    },
    Case {
        name: "GET, 1 connection",
        wide: true,
        quick: true,
        ..single(BASE)
    },
    Case {
        name: "SET, 1 connection",
        ..single(set(BASE))
    },
    Case {
        name: "GET, 50 connections, half of direct's rate",
        quick: true,
        ..open(BASE, POOL, 0.5)
    },
    Case {
        name: "GET, 1 connection, a tenth of direct's rate",
        ..open(BASE, 1, 0.1)
    },
    Case {
        name: "GET, 1,000 connections",
        ..closed(BASE, 1_000)
    },
    Case {
        name: "GET, 10,000 connections",
        metrics: &[Rate, P50, P99, ServerCpu, OwnCpu, IdleMemory, ActiveMemory],
        quick: true,
        fresh: true,
        ..closed(BASE, 10_000)
    },
    Case {
        name: "SET, 1,000 connections to 1,000 stores",
        stores: 1_000,
        fresh: true,
        ..set(closed(BASE, 1_000))
    },
    Case {
        name: "MGET of 100",
        words: MGET_100,
        expect: of('*', Some(100 * SMALL)),
        quick: true,
        ..BASE
    },
    Case {
        name: "HGETALL of 20 fields",
        words: &["HGETALL", "hash"],
        // field0 to field19, and 20 values.
        expect: of('*', Some(10 * 6 + 10 * 7 + 20 * SMALL)),
        seed: Seed::Hash(20),
        ..BASE
    },
    Case {
        name: "LRANGE of 600",
        words: &["LRANGE", "list", "0", "599"],
        expect: of('*', Some(600 * SMALL)),
        seed: Seed::List(600),
        ..BASE
    },
    Case {
        name: "XADD",
        words: &[
            "XADD",
            "stream",
            "MAXLEN",
            "~",
            "1000",
            "*",
            "field",
            "__value__",
        ],
        expect: of('$', None),
        seed: Seed::Nothing,
        ..BASE
    },
    Case {
        name: "EVAL with a computed key",
        words: EVAL,
        ..BASE
    },
    Case {
        name: "PUBLISH to 50 subscribers",
        seed: Seed::Nothing,
        way: Way::Fanout { subscribers: 50 },
        ..BASE
    },
    Case {
        name: "GET of 1 KB",
        ..valued(BASE, 1_000)
    },
    Case {
        name: "SET of 1 KB",
        ..set(valued(BASE, 1_000))
    },
    Case {
        name: "GET of 64 KB",
        ..large(GET_ONE, 64_000, 10)
    },
    Case {
        name: "SET of 64 KB",
        ..set_large(64_000, 10)
    },
    Case {
        name: "GET of 10 MB",
        quick: true,
        fresh: true,
        metrics: &[Rate, ServerCpu, OwnCpu, Growth],
        ..large(GET_ONE, LARGE, 2)
    },
    Case {
        name: "SET of 10 MB",
        fresh: true,
        metrics: &[Rate, ServerCpu, OwnCpu, Growth],
        ..set_large(LARGE, 2)
    },
    Case {
        name: "GET of 16 B beside 10 MB of the same store",
        metrics: LATENCY,
        way: Way::Beside {
            large: 2,
            per_second: 2_000.0,
        },
        quick: true,
        ..BASE
    },
    Case {
        name: "connecting, 50 at once",
        metrics: &[Rate, P50, P99],
        seed: Seed::Nothing,
        way: Way::Connecting { at_once: 50 },
        ..BASE
    },
    Case {
        name: "from connect to the first reply",
        metrics: &[P50, P99],
        seed: Seed::Nothing,
        way: Way::Connecting { at_once: 1 },
        ..BASE
    },
];

/// A case that takes a second, so that the bench itself is tested.
pub const SMOKE: &str = "GET, 50 connections";

const fn of(kind: char, payload_bytes: Option<usize>) -> Expect {
    Expect {
        kind,
        payload_bytes,
    }
}

const fn bulk(bytes: usize) -> Expect {
    of('$', Some(bytes))
}

const fn set(case: Case) -> Case {
    Case {
        words: SET,
        expect: of('+', None),
        ..case
    }
}

const fn pipelined(case: Case, pipeline: usize) -> Case {
    Case {
        way: Way::Benchmark {
            connections: POOL,
            pipeline,
        },
        ..case
    }
}

const fn single(case: Case) -> Case {
    Case {
        way: Way::Benchmark {
            connections: 1,
            pipeline: 1,
        },
        ..case
    }
}

const fn open(case: Case, connections: usize, share: f64) -> Case {
    Case {
        way: Way::Open { connections, share },
        metrics: LATENCY,
        ..case
    }
}

const fn closed(case: Case, connections: usize) -> Case {
    Case {
        way: Way::Closed {
            connections,
            pipeline: 1,
        },
        ..case
    }
}

const fn valued(case: Case, bytes: usize) -> Case {
    Case {
        value_bytes: bytes,
        expect: bulk(bytes),
        seed: Seed::Keys { count: KEYS, bytes },
        ..case
    }
}

const fn large(words: &'static [&'static str], bytes: usize, connections: usize) -> Case {
    Case {
        words,
        seed: Seed::Keys { count: 1, bytes },
        ..closed(valued(BASE, bytes), connections)
    }
}

const fn set_large(bytes: usize, connections: usize) -> Case {
    Case {
        expect: of('+', None),
        ..large(SET_ONE, bytes, connections)
    }
}

/// The large values of [`Way::Beside`]; the key is none of the small ones.
pub const BESIDE_KEY: &str = "large";
/// Their length.
pub const BESIDE_BYTES: usize = LARGE;
/// The connections that ask for small values meanwhile.
pub const BESIDE_CONNECTIONS: usize = 10;
/// The number of keys that `__rand_int__` chooses from.
pub const KEYS_CHOSEN: u64 = KEYS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
        assert!(names.contains(&SMOKE));
    }
}
