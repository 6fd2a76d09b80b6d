//! What a reply tells of the keys that its command looked for, and of what it changed: INFO's
//! keyspace_hits, keyspace_misses and rdb_changes_since_last_save.
//!
//! Invariant: only replies are looked at, so nothing is asked of the server for this. Where a reply does not
//! tell a missing key from a missing field (HGET, ZSCORE, LRANGE ...), it counts as a missing key; what runs
//! inside scripts and transactions is not counted.

use std::sync::LazyLock;

use crate::commands::{self, Begin, Command, Find, Flags};

/// How a reply begins, and how many nulls are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The type's byte.
    pub kind: u8,
    /// The number behind it: a value or a length.
    pub number: Option<i64>,
    /// Nulls on any level.
    pub nulls: u32,
}

/// What a reply tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Keys that were there.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Changes to the dataset.
    pub changes: u64,
}

/// The longest number and its end: a sign, 19 digits, a carriage return.
const NUMBER_BYTES_MAX: usize = 21;

/// How many keys were there.
#[derive(Clone, Copy, Debug)]
enum Reads {
    Nothing,
    /// One key, which is there unless the reply is empty.
    One,
    /// One key, which is there unless the reply is a null.
    OneOrNull,
    /// One key, which is there whatever the reply.
    Found,
    /// One key, which is there unless the reply is -2.
    Ttl,
    /// All arguments are keys; those that are not there are nulls.
    Each,
    /// All arguments are keys; the reply is the number of those that are there.
    Counted,
}

/// How much was changed (`server.dirty`).
#[derive(Clone, Copy, Debug)]
enum Changes {
    Nothing,
    /// Once, whatever the reply.
    Once,
    /// Once, unless the reply is 0 or a null.
    IfAny,
    /// As often as the reply says, or has values.
    Reply,
    /// Once for so many of the arguments behind the key.
    Arguments(u32),
    /// Once for each name with its value.
    Pairs,
}

/// By the number of the command.
static RULES: LazyLock<Vec<(Reads, Changes)>> = LazyLock::new(|| {
    let rule = |command: &Command| (reads(command), changes(command));
    commands::all().iter().map(rule).collect()
});

fn reads(command: &Command) -> Reads {
    match command.name {
        "get" | "getex" | "getdel" | "getset" | "dump" => return Reads::OneOrNull,
        "getrange" | "substr" | "getbit" | "hscan" | "sscan" | "zscan" | "bitfield_ro"
        | "sort_ro" | "pfcount" => return Reads::Found,
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => return Reads::Ttl,
        "mget" => return Reads::Each,
        "copy" => return Reads::One,
        "exists" | "touch" => return Reads::Counted,
        _ => {}
    }
    let one_key = matches!(command.keys, [only] if only.begin == Begin::Index(1)
        && matches!(only.find, Find::Range { last: 0, .. }));
    if command.flags.has(Flags::READONLY) && one_key {
        Reads::One
    } else {
        Reads::Nothing
    }
}

fn changes(command: &Command) -> Changes {
    if !command.flags.has(Flags::WRITE) {
        return Changes::Nothing;
    }
    match command.name {
        "del" | "unlink" | "sadd" | "srem" | "zadd" | "zrem" | "hdel" | "lrem" | "pfmerge"
        | "zremrangebyscore" | "zremrangebyrank" | "zremrangebylex" | "xdel" | "xtrim" | "xack"
        | "geoadd" => Changes::Reply,
        "lpush" | "rpush" => Changes::Arguments(1),
        "mset" => Changes::Pairs,
        "hset" | "hmset" => Changes::Arguments(2),
        "set" | "setnx" | "hsetnx" | "msetnx" | "expire" | "pexpire" | "expireat" | "pexpireat"
        | "persist" | "lpop" | "rpop" | "spop" | "getdel" | "smove" | "renamenx" | "copy"
        | "move" | "lpushx" | "rpushx" | "linsert" | "lmove" | "rpoplpush" | "blpop" | "brpop"
        | "blmove" | "brpoplpush" | "zpopmin" | "zpopmax" | "pfadd" | "lmpop" | "zmpop" => {
            Changes::IfAny
        }
        "eval" | "evalsha" | "fcall" | "sort" | "getex" => Changes::Nothing,
        _ => Changes::Once,
    }
}

impl Head {
    /// Of a reply's first bytes; a line that has not come whole tells no number.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let (kind, rest) = bytes.split_first().unwrap_or((&0, b""));
        // TYPE's word for no key.
        if bytes.starts_with(b"+none\r") {
            return Self {
                kind: *kind,
                number: Some(0),
                nulls: 0,
            };
        }
        let end = rest
            .iter()
            .take(NUMBER_BYTES_MAX)
            .position(|byte| *byte == b'\r');
        Self {
            kind: *kind,
            number: end.and_then(|end| crate::resp::number::parse(&rest[..end])),
            nulls: 0,
        }
    }

    fn is_null(self) -> bool {
        self.kind == b'_' || matches!(self.kind, b'$' | b'*') && self.number == Some(-1)
    }

    /// A null, nothing, or a 0.
    fn is_empty(self) -> bool {
        self.is_null() || self.number == Some(0)
    }
}

impl Lookups {
    /// Of an error reply: a key of another type was there.
    #[must_use]
    pub fn of_error(command: u16, argc: u32, error: &[u8]) -> Self {
        let reads = RULES.get(usize::from(command)).map(|(reads, _)| *reads);
        let looked = !matches!(reads, None | Some(Reads::Nothing)) && argc > 0;
        Self {
            hits: u64::from(looked && error.starts_with(b"WRONGTYPE")),
            ..Self::default()
        }
    }

    /// Of a reply that is no error, to a request of so many words.
    #[must_use]
    pub fn of(command: u16, argc: u32, head: Head) -> Self {
        let Some((reads, changes)) = RULES.get(usize::from(command)) else {
            return Self::default();
        };
        let behind_name = u64::from(argc.saturating_sub(1));
        let number = head.number.and_then(|number| u64::try_from(number).ok());
        let one = |found: bool| (u64::from(found), u64::from(!found));
        let (hits, misses) = match reads {
            Reads::Nothing => (0, 0),
            Reads::One => one(!head.is_empty()),
            Reads::OneOrNull => one(!head.is_null()),
            Reads::Found => (1, 0),
            Reads::Ttl => one(head.number != Some(-2)),
            Reads::Each => {
                let misses = u64::from(head.nulls);
                (behind_name.saturating_sub(misses), misses)
            }
            Reads::Counted => {
                let hits = number.unwrap_or(0).min(behind_name);
                (hits, behind_name - hits)
            }
        };
        let changes = match changes {
            Changes::Nothing => 0,
            Changes::Once => 1,
            Changes::IfAny => u64::from(!head.is_empty()),
            Changes::Reply => match head.kind {
                b':' => number.unwrap_or(0),
                _ => u64::from(!head.is_empty()),
            },
            Changes::Pairs => behind_name / 2,
            Changes::Arguments(each) => behind_name.saturating_sub(1) / u64::from(*each),
        };
        Self {
            hits,
            misses,
            changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Lookup;

    fn check(name: &str, argc: u32, reply: &str, expect: (u64, u64, u64)) {
        let Lookup::Known(command) = commands::lookup(name.as_bytes(), None) else {
            panic!("{name}");
        };
        let nulls = reply.matches("$-1").count() as u32;
        let head = Head {
            nulls,
            ..Head::of(reply.as_bytes())
        };
        let lookups = Lookups::of(command.number, argc, head);
        assert_eq!(
            (lookups.hits, lookups.misses, lookups.changes),
            expect,
            "{name} {reply}"
        );
    }

    #[test]
    fn replies_tell_what_was_found() {
        check("get", 2, "$-1\r\n", (0, 1, 0));
        check("get", 2, "$0\r\n\r\n", (1, 0, 0));
        check("get", 2, "_\r\n", (0, 1, 0));
        check("mget", 4, "*3\r\n$1\r\na\r\n$-1\r\n$-1\r\n", (1, 2, 0));
        check("exists", 4, ":2\r\n", (2, 1, 0));
        check("ttl", 2, ":-2\r\n", (0, 1, 0));
        check("ttl", 2, ":-1\r\n", (1, 0, 0));
        check("hgetall", 2, "%0\r\n", (0, 1, 0));
        check("llen", 2, ":3\r\n", (1, 0, 0));
        check("type", 2, "+none\r\n", (0, 1, 0));
        check("type", 2, "+string\r\n", (1, 0, 0));
        check("mset", 5, "+OK\r\n", (0, 0, 2));
        check("set", 3, "+OK\r\n", (0, 0, 1));
        check("set", 4, "$-1\r\n", (0, 0, 0));
        check("del", 3, ":2\r\n", (0, 0, 2));
        check("rpush", 4, ":9\r\n", (0, 0, 2));
        check("hset", 6, ":0\r\n", (0, 0, 2));
        check("incr", 2, ":0\r\n", (0, 0, 1));
        check("ping", 1, "+PONG\r\n", (0, 0, 0));
    }
}
