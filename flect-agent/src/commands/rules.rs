//! What `COMMAND` cannot tell, written by hand: policy, names beyond key specs, names in replies, and
//! the upstream connection each command needs.
//!
//! Invariant: every generated command stands in exactly one group (tested). A group that does not
//! say otherwise is forwarded over a shared connection and its reply holds no names.

use super::{Local, Names, Need, Placement, Policy, ReplyShape, Scoped};

/// The hand-written half of a [`super::Command`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) names: Names,
    pub(super) policy: Policy,
    pub(super) reply: ReplyShape,
    pub(super) placement: Placement,
}

/// The rule of a command; one that was forgotten is refused.
pub(super) fn of(name: &str) -> Rule {
    RULES
        .iter()
        .find(|(names, _)| names.split_whitespace().any(|known| known == name))
        .map_or(operator("this agent has no rule for it"), |(_, rule)| *rule)
}

const fn forward(names: Names) -> Rule {
    Rule {
        names,
        policy: Policy::Rewrite,
        reply: ReplyShape::Verbatim,
        placement: Placement::Shared,
    }
}

const fn scoped(scoped: Scoped) -> Rule {
    Rule {
        policy: Policy::Scoped(scoped),
        ..forward(Names::Never)
    }
}

const fn local(local: Local) -> Rule {
    Rule {
        policy: Policy::Local(local),
        ..forward(Names::Never)
    }
}

const fn operator(why: &'static str) -> Rule {
    Rule {
        policy: Policy::Operator(why),
        ..forward(Names::Never)
    }
}

impl Rule {
    const fn replies(self, reply: ReplyShape) -> Self {
        Self { reply, ..self }
    }

    const fn needs(self, need: Need) -> Self {
        Self {
            placement: Placement::Dedicated(need),
            ..self
        }
    }
}

/// Groups of commands that are treated alike.
#[rustfmt::skip]
pub(super) const RULES: &[(&str, Rule)] = &[
    // ---- Forwarded: their keys are where their key specs say, their replies hold no names.
    (STRINGS, forward(Names::Specs)),
    (COLLECTIONS, forward(Names::Specs)),
    (KEYSPACE, forward(Names::Specs)),
    (SCRIPTS, forward(Names::Specs)),
    // ---- Forwarded: nothing in them is a name.
    (NAMELESS, forward(Names::None)),
    (HELPS, forward(Names::None)),
    (CONTAINERS, forward(Names::None)),

    // ---- Forwarded: names stand where no key spec says.
    ("sort", forward(Names::Sort { store: true })),
    ("sort_ro", forward(Names::Sort { store: false })),
    ("georadius", forward(Names::Georadius { options: 6 })),
    ("georadiusbymember", forward(Names::Georadius { options: 5 })),
    // Within a database; [`super::policy`] tells.
    ("copy", forward(Names::Copy)),
    ("xread", forward(Names::Xread { group: false }).replies(ReplyShape::StreamNames)),
    ("xreadgroup", forward(Names::Xread { group: true }).replies(ReplyShape::StreamNames)),

    // ---- Forwarded: their replies begin with the key that served.
    ("lmpop zmpop", forward(Names::Specs).replies(ReplyShape::FirstName)),
    ("blpop brpop bzpopmin bzpopmax blmpop bzmpop",
        forward(Names::Specs).replies(ReplyShape::FirstName).needs(Need::Blocking)),
    ("blmove brpoplpush", forward(Names::Specs).needs(Need::Blocking)),
    // They wait for the writes of their own connection.
    ("wait waitaof", forward(Names::None).needs(Need::Blocking)),

    // ---- Forwarded: channels.
    ("publish spublish", forward(Names::Channel)),
    ("subscribe unsubscribe ssubscribe sunsubscribe",
        forward(Names::Channels(1)).replies(ReplyShape::Pubsub).needs(Need::Subscription)),
    ("psubscribe punsubscribe",
        forward(Names::ChannelPatterns(1)).replies(ReplyShape::Pubsub).needs(Need::Subscription)),
    ("pubsub|numsub pubsub|shardnumsub",
        forward(Names::Channels(2)).replies(ReplyShape::PubsubNumsub)),

    // ---- Forwarded: state of the connection.
    ("multi discard", forward(Names::None).needs(Need::Transaction)),
    ("exec", forward(Names::None).replies(ReplyShape::Exec).needs(Need::Transaction)),
    ("watch", forward(Names::Specs).needs(Need::Watch)),
    ("unwatch", forward(Names::None).needs(Need::Watch)),
    ("client|tracking", forward(Names::Tracking).needs(Need::Tracking)),
    ("client|caching", forward(Names::None).needs(Need::Tracking)),
    // Reads of a session that touches nothing must not go over a connection that does.
    ("client|no-touch", forward(Names::None).needs(Need::Tracking)),
    ("client|trackinginfo", local(Local::ClientTrackingInfo).replies(ReplyShape::TrackingInfo)),
    ("client|getredir", local(Local::ClientGetRedir)),

    // ---- Scoped: about all keys or channels of a server.
    ("keys", scoped(Scoped::Keys).replies(ReplyShape::Names)),
    ("scan", scoped(Scoped::Scan).replies(ReplyShape::Cursor)),
    ("randomkey", scoped(Scoped::RandomKey).replies(ReplyShape::Name)),
    ("dbsize", scoped(Scoped::DbSize)),
    ("flushdb", scoped(Scoped::FlushDb)),
    ("flushall", scoped(Scoped::FlushAll)),
    ("info", scoped(Scoped::Info)),
    ("pubsub|channels", scoped(Scoped::PubsubChannels).replies(ReplyShape::Channels)),
    ("pubsub|shardchannels", scoped(Scoped::PubsubShardChannels).replies(ReplyShape::Channels)),
    ("pubsub|numpat", scoped(Scoped::PubsubNumpat)),
    ("move", scoped(Scoped::Move)),
    ("swapdb", scoped(Scoped::SwapDb)),
    (FUNCTIONS, scoped(Scoped::Function)),
    ("script|kill", scoped(Scoped::ScriptKill)),

    // ---- Local: state of the session, or of no server.
    ("hello", local(Local::Hello)),
    ("auth", local(Local::Auth)),
    ("select", local(Local::Select)),
    ("reset", local(Local::Reset)),
    ("quit", local(Local::Quit)),
    ("client|id", local(Local::ClientId)),
    ("client|setname", local(Local::ClientSetName)),
    ("client|getname", local(Local::ClientGetName)),
    ("client|setinfo", local(Local::ClientSetInfo)),
    ("client|info", local(Local::ClientInfo)),
    ("client|list", local(Local::ClientList)),
    ("client|reply", local(Local::ClientReply)),
    ("client|no-evict", local(Local::ClientNoEvict)),
    ("client|kill", local(Local::ClientKill)),
    ("client|pause", local(Local::ClientPause)),
    ("client|unpause", local(Local::ClientUnpause)),
    ("client|unblock", local(Local::ClientUnblock)),
    ("client|import-source", local(Local::ClientImportSource)),
    ("monitor", local(Local::Monitor)),
    ("client|capa", local(Local::ClientCapa)),
    ("acl|whoami", local(Local::AclWhoami)),
    ("config|get", scoped(Scoped::ConfigGet)),
    ("config|set", scoped(Scoped::ConfigSet)),
    ("readonly readwrite", local(Local::ReadOnly)),
    ("role", local(Local::Role)),
    ("slowlog|get slowlog|len slowlog|reset", local(Local::Slowlog)),
    ("commandlog|get commandlog|len commandlog|reset", local(Local::Commandlog)),
    ("latency|doctor latency|graph latency|histogram latency|history latency|latest latency|reset",
        local(Local::Latency)),
    ("config|resetstat", local(Local::ConfigResetstat)),
    ("config|rewrite", local(Local::ConfigRewrite)),
    ("memory|doctor", local(Local::MemoryDoctor)),
    ("memory|malloc-stats", local(Local::MemoryMallocStats)),
    ("memory|purge", local(Local::MemoryPurge)),
    ("memory|stats", scoped(Scoped::MemoryStats)),
    ("acl|users acl|list acl|getuser acl|dryrun acl|log acl|load acl|save acl|deluser",
        local(Local::Acl)),
    ("script|flush", local(Local::ScriptFlush)),
    ("script|show", local(Local::ScriptShow)),
    ("script|debug", local(Local::ScriptDebug)),
    ("asking clusterscan", local(Local::ClusterDisabled)),
    (CLUSTER, local(Local::ClusterDisabled)),

    // ---- Operator.
    ("acl|setuser", operator("users and their rights are the server's, and a store is opened by its agent or its token")),
    ("module|load module|loadex module|unload",
        operator("a module is code of the server, which would run for all its stores")),
    ("debug pfdebug pfselftest", operator("it reaches into the server itself, past the names of a store")),
    ("migrate", operator("the server itself would connect to the other machine, with what it may reach there")),
    ("restore-asking", operator("only the nodes of a cluster say it to each other")),
    ("bgrewriteaof bgsave save",
        operator("the server writes the data of all its stores to disk at once, when its operator says so")),
    ("shutdown", operator("it would end the server for all its stores")),
    ("failover replicaof slaveof", operator("whose copy the server is concerns all its stores")),
    ("psync replconf sync", operator("a copy of the server holds the data of all its stores")),
];

const STRINGS: &str = "\
    append bitcount bitfield bitfield_ro bitop bitpos decr decrby delifeq get getbit getdel \
    getex getrange getset incr incrby incrbyfloat lcs mget mset msetex msetnx pfadd pfcount \
    pfmerge psetex set setbit setex setnx setrange strlen substr";

const COLLECTIONS: &str = "\
    geoadd geodist geohash geopos georadius_ro georadiusbymember_ro geosearch geosearchstore \
    hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat \
    hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset \
    hsetex hsetnx hstrlen httl hvals lindex linsert llen lmove lpop lpos lpush lpushx lrange \
    lrem lset ltrim rpop rpoplpush rpush rpushx sadd scard sdiff sdiffstore sinter sintercard \
    sinterstore sismember smembers smismember smove spop srandmember srem sscan sunion \
    sunionstore xack xadd xautoclaim xclaim xdel xgroup|create xgroup|createconsumer \
    xgroup|delconsumer xgroup|destroy xgroup|setid xinfo|consumers xinfo|groups xinfo|stream \
    xlen xpending xrange xrevrange xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby \
    zinter zintercard zinterstore zlexcount zmscore zpopmax zpopmin zrandmember zrange \
    zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank \
    zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion \
    zunionstore";

const KEYSPACE: &str = "\
    del dump exists expire expireat expiretime memory|usage object|encoding object|freq \
    object|idletime object|refcount persist pexpire pexpireat pexpiretime pttl rename renamenx \
    restore touch ttl type unlink";

/// The worker sends the text that [`crate::scripts`] makes of the app's; keys that are declared get the
/// prefix as all do.
const SCRIPTS: &str = "\
    eval eval_ro evalsha evalsha_ro fcall fcall_ro";

/// CLUSTER KEYSLOT is a pure function of its argument, and COMMAND GETKEYS gives back what it is given.
const NAMELESS: &str = "\
    acl|cat acl|genpass cluster|keyslot command command|count command|docs \
    command|getkeys command|getkeysandflags command|info command|list echo lastsave lolwut \
    module|list ping script|exists script|load time";

/// Without a subcommand they are short of an argument, so they never get as far as being forwarded.
const CONTAINERS: &str = "\
    acl client cluster commandlog config function latency memory module object pubsub script \
    slowlog xgroup xinfo";

const HELPS: &str = "\
    acl|help client|help command|help commandlog|help config|help function|help latency|help \
    memory|help module|help object|help pubsub|help script|help slowlog|help xgroup|help \
    xinfo|help";

const CLUSTER: &str = "\
    cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|cancelslotmigrations \
    cluster|count-failure-reports cluster|countkeysinslot cluster|delslots cluster|delslotsrange \
    cluster|failover cluster|flushslot cluster|flushslots cluster|forget cluster|getkeysinslot \
    cluster|getslotmigrations cluster|help cluster|info cluster|links cluster|meet \
    cluster|migrateslots cluster|myid cluster|myshardid cluster|nodes cluster|replicas \
    cluster|replicate cluster|reset cluster|saveconfig cluster|set-config-epoch cluster|setslot \
    cluster|shards cluster|slaves cluster|slot-stats cluster|slots cluster|syncslots";

const FUNCTIONS: &str = "\
    function|delete function|dump function|flush function|kill function|list \
    function|load function|restore function|stats";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::generated::GENERATED;
    use super::*;

    #[test]
    fn every_command_has_exactly_one_rule() {
        let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
        for name in RULES.iter().flat_map(|(names, _)| names.split_whitespace()) {
            *rules.entry(name).or_default() += 1;
        }
        let twice: Vec<_> = rules.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "in two groups: {twice:?}");
        let missing: Vec<_> = GENERATED
            .iter()
            .map(|entry| entry.name)
            .filter(|name| !rules.contains_key(name))
            .collect();
        assert!(missing.is_empty(), "no rule: {missing:?}");
        let stale: Vec<_> = rules
            .keys()
            .filter(|name| !GENERATED.iter().any(|entry| entry.name == **name))
            .collect();
        assert!(stale.is_empty(), "a rule for no command: {stale:?}");
    }
}
