//! The values that stand for the `$words` of a shape.
//!
//! Keys come from small pools, one per type, so that requests meet the data of others and most of
//! them do something. Each pool has names that are hard: empty, binary, with braces, colons and
//! glob characters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use fastrand::Rng;
use sha1_smol::Sha1;

/// How likely a key of another type stands where one type is asked for, in thousandths.
const WRONG_TYPE_PER_MILLE: u32 = 25;
/// How likely a number is one at the edge of what the server takes, in thousandths.
const EXTREME_PER_MILLE: u32 = 30;
/// Past the agent's 64 KiB of a reply that makes a session heavy and its 68 KiB of a request that
/// is streamed.
const HUGE_BYTES: usize = 70_000;
/// How likely a name, a member or a field is that long, in thousandths.
const HUGE_PER_MILLE: u32 = 1;
/// Times to live are so long that no key expires while a sequence runs.
const TTL_SECONDS: std::ops::Range<u64> = 200..100_000;

const STRINGS: &[&[u8]] = &[b"s1", b"s2", b"", b"{s}3", b"s*[4]?", b"a:s:5"];
const NUMBERS: &[&[u8]] = &[b"n1", b"n2", b"n{3}"];
const BITMAPS: &[&[u8]] = &[b"b1", b"b2"];
const HASHES: &[&[u8]] = &[b"h1", b"h2", b"h\x00\xff3", b"{h}4"];
const LISTS: &[&[u8]] = &[b"l1", b"l2", b"l\r\n3", b"l}4{"];
const SETS: &[&[u8]] = &[b"t1", b"t2", b"t 3", b"{s}t4"];
const ZSETS: &[&[u8]] = &[b"z1", b"z2", b"z:3", b"z\\4"];
const GEOS: &[&[u8]] = &[b"g1", b"g2"];
const STREAMS: &[&[u8]] = &[b"x1", b"x2", b"x'3\""];
const LOGS: &[&[u8]] = &[b"p1", b"p2"];
const MISSING: &[&[u8]] = &[b"nothing", b"{nothing}", b"0"];
const POOLS: &[&[&[u8]]] = &[
    STRINGS, NUMBERS, BITMAPS, HASHES, LISTS, SETS, ZSETS, GEOS, STREAMS, LOGS, MISSING,
];

const TEXTS: &[&[u8]] = &[
    b"v",
    b"hello",
    b"hello world",
    b"",
    b"0",
    b"1",
    b"-7",
    b"3.5",
    b"abcabc",
    b"\x00\xff\r\n",
    b"{s}3",
    b"s1",
    b"*3\r\n$3\r\nGET\r\n",
    b"a:b",
    b"OK",
];
const FIELDS: &[&[u8]] = &[b"f1", b"f2", b"f3", b"", b"f\r\n4", b"n", b"5"];
const MEMBERS: &[&[u8]] = &[
    b"m1", b"m2", b"m3", b"m4", b"1", b"2", b"30", b"", b"\xffm", b"s1",
];
const NUMBERS_AS_TEXT: &[&[u8]] = &[b"1", b"2", b"30", b"-4", b"5.5", b"1e2"];
const EXTREMES: &[&[u8]] = &[
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"4294967296",
    b"1e400",
    b"nan",
    b"",
    b"abc",
    b"0x10",
    b" 1",
    b"+1",
    b"01",
    b"1.0",
];
// No empty channel: the pattern `*` matches it in a store and not in Valkey (exceptions.txt).
const CHANNELS: &[&[u8]] = &[b"c1", b"c2", b"c:3", b"c*[4]", b"\xff"];
const PATTERNS: &[&[u8]] = &[b"c*", b"*", b"c?", b"c[12]", b"c\\*\\[4]", b"", b"c1"];
const GLOBS: &[&[u8]] = &[
    b"*",
    b"s*",
    b"?1",
    b"[a-m]*",
    b"*:*",
    b"s\\*\\[4\\]\\?",
    b"{*",
    b"h1",
    b"",
    b"[^s]*",
    b"f*",
    b"m?",
];
const EVENTS: &[&[u8]] = &[
    b"set",
    b"del",
    b"expire",
    b"rename_from",
    b"rename_to",
    b"rpush",
    b"lpop",
    b"hset",
    b"sadd",
    b"zadd",
    b"xadd",
    b"new",
    b"incrby",
    b"*",
];
const EVENT_FLAGS: &[&[u8]] = &[
    b"KEA", b"KEA", b"KEA", b"KEAmn", b"Kg$xls", b"Ehztdn", b"AK",
];
const PLACES: &[&str] = &[
    "13.361389 38.115556",
    "15.087269 37.502669",
    "2.349014 48.864716",
    "-122.27652 37.805186",
    "0 0",
];

/// Lua that users write, with what it wants: keys are given, or made of arguments.
pub const SCRIPTS: &[&str] = &[
    "return redis.call('GET', KEYS[1])",
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}",
    "local t = redis.call('LRANGE', 'l1', 0, -1) return #t",
    "return redis.call('INCRBY', 'n' .. ARGV[1], 3)",
    "return redis.pcall('LPUSH', KEYS[1], ARGV[1])",
    "return redis.call('HSET', 'h' .. #ARGV, ARGV[1], ARGV[2])",
    "return redis.error_reply('MINE ' .. KEYS[1])",
    "return redis.status_reply(KEYS[1])",
    "error('went wrong with ' .. KEYS[1])",
    "return tostring(redis.call('TYPE', KEYS[1]).ok)",
    "local n = 0 for _, m in ipairs(redis.call('SMEMBERS', 't1')) do n = n + #m end return n",
    "redis.call('ZADD', 'z1', 1, ARGV[1]) return redis.call('ZRANGE', 'z1', 0, -1, 'WITHSCORES')",
    "return redis.call('EXISTS', unpack(KEYS))",
    "return cjson.encode({a = KEYS[1], b = {1, 2, ARGV[1]}})",
    "return {1, 2.7, 'x', true, false, {3, {4}}, nil, 5}",
    "redis.setresp(3) return redis.call('HGETALL', 'h\\0none')",
    "return redis.sha1hex(KEYS[1])",
    "return redis.call('RENAME', KEYS[1], KEYS[2])",
    "return redis.call('nosuchcommand', KEYS[1])",
    "return redis.call('GET')",
    "redis.call('RESTORE', KEYS[2], 0, redis.call('DUMP', KEYS[1]), 'REPLACE') return 1",
    "return redis.call('XADD', 'x1', '900-' .. ARGV[1], 'f', ARGV[2])",
    "return redis.call('SORT', 'l1', 'ALPHA')",
    "return redis.call('LMPOP', 2, 'nothing', 'l1', 'LEFT')",
    "return redis.call('PUBLISH', 'c1', ARGV[1])",
    "local r = redis.pcall('INCR', KEYS[1]) if type(r) == 'table' then return r.err end return r",
    "return redis.call('SINTERSTORE', 't2', 't1', 't1')",
    "return redis.call('BITOP', 'OR', 'b2', 'b1', 'b2')",
    "return {ok = 'fine'}",
    "return {err = 'ERR not fine'}",
    "this is no Lua",
    "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
    "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], ARGV[1])",
];

/// The values of one run.
#[derive(Debug)]
pub struct Vocabulary {
    /// When the run began, for times that lie ahead.
    start: Duration,
}

impl Vocabulary {
    /// Values as of now.
    #[must_use]
    pub fn new() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH);
        // Whole days, so that a sequence made from its seed on the same day is the same.
        let day = 24 * 60 * 60;
        let days = start.unwrap_or_default().as_secs() / day;
        Self {
            start: Duration::from_secs((days + 2) * day),
        }
    }

    /// A value for `$name`.
    ///
    /// # Errors
    /// When there is no such name.
    pub fn value(&self, name: &str, rng: &mut Rng) -> Result<Vec<u8>> {
        Ok(match name {
            "str" => key(STRINGS, rng),
            "num" => key(NUMBERS, rng),
            "bit" => key(BITMAPS, rng),
            "hash" => key(HASHES, rng),
            "list" => key(LISTS, rng),
            "set" => key(SETS, rng),
            "zset" => key(ZSETS, rng),
            "geo" => key(GEOS, rng),
            "stream" => key(STREAMS, rng),
            "log" => key(LOGS, rng),
            "missing" => pick(MISSING, rng),
            "any" => any_key(rng),
            "huge" => huge(b'v', rng),
            "hugekey" => huge(b'k', rng),
            "val" => value(rng),
            "numval" => pick(NUMBERS_AS_TEXT, rng),
            "field" => or_huge(FIELDS, b'f', rng),
            "member" => or_huge(MEMBERS, b'm', rng),
            "int" => number(-5..20, rng),
            "pos" => number(1..20, rng),
            "one" => b"1".to_vec(),
            "count" => number(0..6, rng),
            "index" => number(-6..8, rng),
            "offset" => number(0..200, rng),
            "zero_one" => number(0..2, rng),
            "float" | "score" => float(rng),
            "limit" => limit(rng),
            "lex" => lex(rng),
            "secs" => ttl(rng).to_string().into_bytes(),
            "ms" => (ttl(rng) * 1000).to_string().into_bytes(),
            "at" => (self.start.as_secs() + ttl(rng)).to_string().into_bytes(),
            "atms" => ((self.start.as_secs() + ttl(rng)) * 1000)
                .to_string()
                .into_bytes(),
            "past" => number(1..1_000_000_000, rng),
            "db" => number(0..4, rng),
            "id" => format!("{}-{}", rng.u8(1..9), rng.u8(0..4)).into_bytes(),
            "newid" => format!("{}-{}", rng.u16(10..900), rng.u8(1..9)).into_bytes(),
            "group" => number_after(b"gr", 1..3, rng),
            "consumer" => number_after(b"co", 1..4, rng),
            "channel" => or_huge(CHANNELS, b'c', rng),
            "pattern" => pick(PATTERNS, rng),
            "glob" => or_huge(GLOBS, b'k', rng),
            "event" => pick(EVENTS, rng),
            "keyevent" => {
                let event = pick(EVENTS, rng);
                [format!("__keyevent@{}__:", rng.u8(..4)).as_bytes(), &event].concat()
            }
            "keyspace" => {
                let glob = pick(GLOBS, rng);
                [format!("__keyspace@{}__:", rng.u8(..4)).as_bytes(), &glob].concat()
            }
            "events" => pick(EVENT_FLAGS, rng),
            "lon" => place(rng, 0),
            "lat" => place(rng, 1),
            "unit" => pick(&[b"m", b"km", b"mi", b"ft"], rng),
            "type" => pick(
                &[
                    b"string", b"list", b"hash", b"set", b"zset", b"stream", b"HASH", b"none",
                ],
                rng,
            ),
            "script" => script(rng).as_bytes().to_vec(),
            "sha" => Sha1::from(script(rng)).digest().to_string().into_bytes(),
            _ => bail!("no such word: ${name}"),
        })
    }
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::new()
    }
}

fn pick(from: &[&[u8]], rng: &mut Rng) -> Vec<u8> {
    from[rng.usize(..from.len())].to_vec()
}

fn key(pool: &[&[u8]], rng: &mut Rng) -> Vec<u8> {
    if rng.u32(..1000) < WRONG_TYPE_PER_MILLE {
        return any_key(rng);
    }
    if rng.u32(..1000) < HUGE_PER_MILLE {
        return huge(b'k', rng);
    }
    // The first names more often than the last, so that keys gather data.
    let at = rng.usize(..pool.len()).min(rng.usize(..pool.len()));
    pool[at].to_vec()
}

/// Longer than what is looked at as a whole, sometimes several times.
fn huge(letter: u8, rng: &mut Rng) -> Vec<u8> {
    vec![letter; HUGE_BYTES * if rng.bool() { 1 } else { 3 }]
}

fn or_huge(from: &[&[u8]], letter: u8, rng: &mut Rng) -> Vec<u8> {
    if rng.u32(..1000) < HUGE_PER_MILLE {
        return huge(letter, rng);
    }
    pick(from, rng)
}

fn any_key(rng: &mut Rng) -> Vec<u8> {
    pick(POOLS[rng.usize(..POOLS.len())], rng)
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..200) {
        0 => huge(b'y', rng),
        1..6 => vec![b'x'; rng.usize(40..3000)],
        _ => pick(TEXTS, rng),
    }
}

fn number(range: std::ops::Range<i64>, rng: &mut Rng) -> Vec<u8> {
    if rng.u32(..1000) < EXTREME_PER_MILLE {
        return pick(EXTREMES, rng);
    }
    rng.i64(range).to_string().into_bytes()
}

fn number_after(word: &[u8], range: std::ops::Range<u8>, rng: &mut Rng) -> Vec<u8> {
    let mut word = word.to_vec();
    word.extend(rng.u8(range).to_string().bytes());
    word
}

fn float(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..12) {
        0 => pick(&[b"inf", b"-inf", b"+inf", b"1e3", b"-0.0", b"0.1"], rng),
        1..4 => format!("{}.{}", rng.i8(-9..9), rng.u8(1..99)).into_bytes(),
        _ => number(-5..10, rng),
    }
}

/// A bound of a range of scores.
fn limit(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..6) {
        0 => b"-inf".to_vec(),
        1 => b"+inf".to_vec(),
        2 => [b"(".to_vec(), float(rng)].concat(),
        _ => float(rng),
    }
}

fn lex(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..5) {
        0 => b"-".to_vec(),
        1 => b"+".to_vec(),
        2 => [b"(".to_vec(), pick(MEMBERS, rng)].concat(),
        _ => [b"[".to_vec(), pick(MEMBERS, rng)].concat(),
    }
}

fn ttl(rng: &mut Rng) -> u64 {
    rng.u64(TTL_SECONDS)
}

fn place(rng: &mut Rng, at: usize) -> Vec<u8> {
    let place = PLACES[rng.usize(..PLACES.len())];
    let mut halves = place.split(' ');
    halves.nth(at).unwrap_or("0").as_bytes().to_vec()
}

fn script(rng: &mut Rng) -> &'static str {
    SCRIPTS[rng.usize(..SCRIPTS.len())]
}
