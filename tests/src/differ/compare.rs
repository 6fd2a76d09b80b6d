//! When two replies are equal.
//!
//! Invariant: byte for byte, unless Valkey itself does not fix the bytes; what is free then, and no
//! more, stands in [`of`].

use super::frame::Frame;
use super::step::Request;
use crate::wire::without_numbers;

/// What of a reply counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Every byte.
    Bytes,
    /// Every item, in any order.
    Unordered,
    /// Every item and the one after it, in any order of the pairs; or every item that is an array.
    UnorderedPairs,
    /// Everything, but integers that are not negative may be so far apart.
    Near(u64),
    /// Everything but the digits.
    Numbers,
    /// Types and numbers of items: values are random or tell the time.
    Shape,
    /// The type, and the length of a string.
    Length,
    /// The type.
    Type,
    /// As `Shape`, and every string must be one of what this request gets from the private Valkey.
    Member(Vec<Vec<u8>>),
    /// All that the whole iteration gives, in any order. `true` when names and values come in turn.
    Scan(bool),
    /// The names of the fields: lines up to the first colon.
    Fields,
    /// By each queued request's own rule.
    Exec(Vec<Compare>),
}

/// How far times of the two sides may be apart: a sequence takes milliseconds, but a machine may
/// stall.
const SECONDS_APART_MAX: u64 = 5;
const MILLISECONDS_APART_MAX: u64 = SECONDS_APART_MAX * 1000;

/// The rule for a request's reply.
#[must_use]
pub fn of(request: &Request) -> Compare {
    let first = || request.args.get(1).cloned().unwrap_or_default();
    let members = |command: &str, more: &[&str]| {
        let mut args = vec![command.as_bytes().to_vec(), first()];
        args.extend(more.iter().map(|word| word.as_bytes().to_vec()));
        Compare::Member(args)
    };
    let starts = |at: usize| request.args.get(at).is_some_and(|cursor| cursor == b"0");
    let has = |word: &str| (1..request.args.len()).any(|at| request.word(at) == word);
    match request.name().as_str() {
        "SMEMBERS" | "SUNION" | "SINTER" | "SDIFF" | "HKEYS" | "HVALS" | "KEYS" => {
            Compare::Unordered
        }
        "SORT" | "SORT_RO" if has("BY") => Compare::Unordered,
        "HGETALL" => Compare::UnorderedPairs,
        "SRANDMEMBER" => members("SMEMBERS", &[]),
        // All of a set or none: anything else would make the sides' data differ.
        "SPOP" => Compare::Unordered,
        "HRANDFIELD" => members("HGETALL", &[]),
        "ZRANDMEMBER" => members("ZRANGE", &["0", "-1", "WITHSCORES"]),
        "RANDOMKEY" => Compare::Member(vec![b"KEYS".to_vec(), b"*".to_vec()]),
        "SCAN" if starts(1) => Compare::Scan(false),
        "SSCAN" if starts(2) => Compare::Scan(false),
        "HSCAN" if starts(2) => Compare::Scan(!has("NOVALUES")),
        "ZSCAN" if starts(2) => Compare::Scan(true),
        "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN" => Compare::Type,
        "TTL" | "HTTL" => Compare::Near(SECONDS_APART_MAX),
        "EXPIRETIME" | "HEXPIRETIME" => Compare::Near(SECONDS_APART_MAX),
        "PTTL" | "PEXPIRETIME" | "HPTTL" | "HPEXPIRETIME" => Compare::Near(MILLISECONDS_APART_MAX),
        "XPENDING" => Compare::Near(MILLISECONDS_APART_MAX),
        "XINFO" if matches!(request.word(1).as_str(), "STREAM" | "CONSUMERS") => {
            Compare::Near(MILLISECONDS_APART_MAX)
        }
        "XADD" if has("*") => Compare::Length,
        // Hashed collections are dumped in the order of a hash with a random seed.
        "DUMP" => Compare::Length,
        "TIME" | "LASTSAVE" => Compare::Shape,
        "OBJECT" if request.word(1) == "IDLETIME" => Compare::Near(SECONDS_APART_MAX),
        // The names of a store's keys are longer.
        "MEMORY" if request.word(1) == "USAGE" => Compare::Type,
        "CLIENT" => match request.word(1).as_str() {
            "INFO" | "LIST" => Compare::Numbers,
            "ID" => Compare::Numbers,
            _ => Compare::Bytes,
        },
        "HELLO" => Compare::Numbers,
        "INFO" => Compare::Fields,
        "PUBSUB" => match request.word(1).as_str() {
            "CHANNELS" | "SHARDCHANNELS" => Compare::Unordered,
            _ => Compare::Bytes,
        },
        "CONFIG" if request.word(1) == "GET" => Compare::UnorderedPairs,
        "COMMAND" if matches!(request.word(1).as_str(), "LIST" | "") => Compare::Unordered,
        "ACL" if request.word(1) == "CAT" => Compare::Unordered,
        "LOLWUT" => Compare::Type,
        "ACL" if request.word(1) == "GENPASS" => Compare::Length,
        _ => Compare::Bytes,
    }
}

impl Compare {
    /// Whether the replies are equal as far as this counts. Members are not looked up here.
    #[must_use]
    pub fn holds(&self, valkey: &Frame, store: &Frame) -> bool {
        if valkey == store {
            return true;
        }
        // An error is compared as it is: what is free is the result.
        if valkey.is_error() || store.is_error() {
            return false;
        }
        match self {
            Self::Bytes => false,
            Self::Unordered | Self::Scan(false) => {
                valkey.kind() == store.kind() && sorted(valkey.items()) == sorted(store.items())
            }
            Self::UnorderedPairs | Self::Scan(true) => {
                valkey.kind() == store.kind() && pairs(valkey.items()) == pairs(store.items())
            }
            Self::Near(apart) => near(*apart, valkey, store),
            Self::Numbers => without_numbers(&valkey.bytes()) == without_numbers(&store.bytes()),
            Self::Shape | Self::Member(_) => shape(valkey, store),
            Self::Length => {
                valkey.kind() == store.kind() && valkey.text().len() == store.text().len()
            }
            Self::Type => valkey.kind() == store.kind(),
            Self::Fields => valkey.kind() == store.kind() && fields(valkey) == fields(store),
            Self::Exec(rules) => {
                let (valkey, store) = (valkey.items(), store.items());
                valkey.len() == store.len()
                    && rules.len() == valkey.len()
                    && rules
                        .iter()
                        .zip(valkey.iter().zip(store))
                        .all(|(rule, (valkey, store))| rule.queued().holds(valkey, store))
            }
        }
    }

    /// The rule where nothing more can be asked: a cursor cannot be followed inside EXEC or a pipeline.
    #[must_use]
    pub fn queued(&self) -> &Self {
        match self {
            Self::Scan(_) => &Self::Type,
            rule => rule,
        }
    }
}

/// UNSUBSCRIBE without names confirms them in the order of such a hash: gives the names out anew, in
/// their own order, and leaves the counts where they are.
pub fn sort_confirmations(frames: &mut [Frame]) {
    let name_of = |frame: &Frame| match frame {
        Frame::Many(_, items)
            if items
                .first()
                .is_some_and(|w| w.text().ends_with(b"unsubscribe")) =>
        {
            items.get(1).cloned()
        }
        _ => None,
    };
    let mut names: Vec<_> = frames.iter().filter_map(name_of).collect();
    names.sort_by(|a, b| b.cmp(a));
    for frame in frames {
        if name_of(frame).is_some()
            && let Frame::Many(_, items) = frame
            && let Some(name) = names.pop()
        {
            items[1] = name;
        }
    }
}

fn sorted(items: &[Frame]) -> Vec<&Frame> {
    let mut items: Vec<_> = items.iter().collect();
    items.sort();
    items
}

fn pairs(items: &[Frame]) -> Vec<&[Frame]> {
    let each = if items.iter().all(|item| matches!(item, Frame::Many(..))) {
        1
    } else {
        2
    };
    let mut pairs: Vec<_> = items.chunks(each).collect();
    pairs.sort();
    pairs
}

fn near(apart: u64, valkey: &Frame, store: &Frame) -> bool {
    if valkey == store {
        return true;
    }
    match (valkey, store) {
        (Frame::Many(a, valkey), Frame::Many(b, store)) => {
            a == b
                && valkey.len() == store.len()
                && valkey
                    .iter()
                    .zip(store)
                    .all(|(valkey, store)| near(apart, valkey, store))
        }
        (Frame::Line(b':', valkey), Frame::Line(b':', store)) => {
            let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
            match (number(valkey), number(store)) {
                (Some(valkey), Some(store)) => valkey.abs_diff(store) <= apart,
                _ => false,
            }
        }
        _ => false,
    }
}

fn shape(valkey: &Frame, store: &Frame) -> bool {
    valkey.kind() == store.kind()
        && matches!(valkey, Frame::Null(_)) == matches!(store, Frame::Null(_))
        && valkey.items().len() == store.items().len()
        && valkey
            .items()
            .iter()
            .zip(store.items())
            .all(|(valkey, store)| shape(valkey, store))
}

fn fields(info: &Frame) -> Vec<&[u8]> {
    info.text()
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':').next().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, valkey: &str, store: &str, expect: bool) {
        let args = crate::quoting::split(request).unwrap();
        let frame = |text: &str| {
            let text = text.replace(' ', "\r\n") + "\r\n";
            Frame::parse(text.as_bytes()).unwrap().unwrap().0
        };
        let rule = of(&Request::new(args));
        let holds = rule.holds(&frame(valkey), &frame(store));
        assert_eq!(holds, expect, "{request}: {valkey} / {store}");
    }

    #[test]
    fn only_what_valkey_leaves_open_is_free() {
        check("GET k", "$1 a", "$1 a", true);
        check("GET k", "$1 a", "$1 b", false);
        check("GET k", "$-1", "*-1", false);
        check("SMEMBERS k", "*2 $1 a $1 b", "*2 $1 b $1 a", true);
        check("SMEMBERS k", "*2 $1 a $1 b", "~2 $1 b $1 a", false);
        check("SMEMBERS k", "*2 $1 a $1 a", "*2 $1 a $1 b", false);
        check("LRANGE k 0 1", "*2 $1 a $1 b", "*2 $1 b $1 a", false);
        check("HGETALL k", "*4 :1 :2 :3 :4", "*4 :3 :4 :1 :2", true);
        check("HGETALL k", "*4 :1 :2 :3 :4", "*4 :3 :2 :1 :4", false);
        check("TTL k", ":100", ":99", true);
        check("TTL k", ":100", ":90", false);
        check("TTL k", ":-1", ":1", false);
        check("TTL k", "-ERR1", "-ERR2", false);
        check("CLIENT ID", ":3", ":15", true);
        check("CLIENT ID", ":3", "$1 3", false);
        check("DUMP k", "$2 ab", "$2 cd", true);
        check("DUMP k", "$2 ab", "$-1", false);
        check("SRANDMEMBER k 2", "*2 $1 a $1 b", "*2 $2 aa $1 b", true);
        check("SRANDMEMBER k 2", "*2 $1 a $1 b", "*1 $1 a", false);
        check("INFO", "$5 a:1\nb", "$6 a:12\nb", true);
        check("INFO", "$5 a:1\nb", "$5 a:1\nc", false);
    }

    #[test]
    fn exec_goes_by_what_was_queued() {
        let rule = Compare::Exec(vec![Compare::Bytes, Compare::Unordered]);
        let frame = |text: &[u8]| Frame::parse(text).unwrap().unwrap().0;
        let valkey = frame(b"*2\r\n:1\r\n*2\r\n:1\r\n:2\r\n");
        assert!(rule.holds(&valkey, &frame(b"*2\r\n:1\r\n*2\r\n:2\r\n:1\r\n")));
        assert!(!rule.holds(&valkey, &frame(b"*2\r\n:2\r\n*2\r\n:1\r\n:2\r\n")));
        assert!(!rule.holds(&valkey, &frame(b"*1\r\n:1\r\n")));
    }
}
