//! Which class each keyspace event belongs to (`notifyKeyspaceEvent` all over Valkey's sources).

/// Letters of `notify-keyspace-events` and their events.
const CLASSES: &[(u8, &str)] = &[
    (
        b'g',
        "del restore rename_from rename_to move_from move_to copy_to expire persist",
    ),
    (b'$', "set setbit setrange incrby incrbyfloat append pfadd"),
    (
        b'l',
        "lpush rpush lpop rpop linsert lset ltrim lrem sortstore",
    ),
    (b's', "sadd srem spop sinterstore sunionstore sdiffstore"),
    (
        b'h',
        "hset hincrby hincrbyfloat hdel hexpire hpersist hexpired",
    ),
    (
        b'z',
        "zadd zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zdiffstore zinterstore \
         zunionstore zrangestore zpopmin zpopmax geosearchstore georadiusstore",
    ),
    (
        b't',
        "xadd xtrim xdel xsetid xgroup-create xgroup-createconsumer xgroup-setid xgroup-destroy \
         xgroup-delconsumer",
    ),
    (b'x', "expired"),
    (b'e', "evicted"),
    (b'm', "keymiss"),
    (b'n', "new"),
];

/// The letter of an event's class. Modules name theirs as they like.
pub fn of(event: &[u8]) -> u8 {
    CLASSES
        .iter()
        .find(|(_, events)| {
            let mut events = events.split_ascii_whitespace();
            events.any(|known| known.as_bytes() == event)
        })
        .map_or(b'd', |(letter, _)| *letter)
}
