//! The command table: what each command of Valkey means for a store.
//!
//! Invariant: every command of every supported server has a policy written by hand; what is not in
//! the table is refused by name, or [`learnt`] from the server. `COMMAND` of real servers supplies names, arities, flags and key
//! specs (`generated.rs`); `rules.rs` supplies what `COMMAND` cannot tell.

mod by_arguments;
mod entry;
mod errors;
mod flags;
pub mod generate;
mod generated;
mod keyspec;
mod learnt;
mod rules;
mod table;

pub use by_arguments::{placement, policy, streamable};
pub use errors::{
    arity_error, engine_error, is_cross_protocol, refusal, subcommand_syntax_error, type_error,
    unknown_command_error, unknown_subcommand_error,
};
pub use flags::{Flags, KeyFlags};
pub use keyspec::{Begin, Find, KeySpec};
pub(crate) use learnt::SPECS_MAX;
pub use learnt::{Learnt, learn, learnt, unknown};
pub use table::{Lookup, all, hide, lookup};

/// What the agent knows of one command, or of one subcommand.
#[derive(Debug)]
pub struct Command {
    /// Lower case, a subcommand after its container: `get`, `xgroup|create`.
    pub name: &'static str,
    /// The number of arguments with the name; negative: at least so many.
    pub arity: i16,
    /// The flags of `COMMAND`.
    pub flags: Flags,
    /// The key specs of `COMMAND`.
    pub keys: &'static [KeySpec],
    /// Which arguments are names.
    pub names: Names,
    /// What the agent does with it; ask [`policy`] where the arguments decide.
    pub policy: Policy,
    /// Where names stand in its reply.
    pub reply: ReplyShape,
    /// Which kind of upstream connection it needs; ask [`placement`] where the arguments decide.
    pub placement: Placement,
    /// The oldest supported server that has it.
    pub since: Version,
    /// Whether it does nothing but hold subcommands.
    pub container: bool,
    /// Its place in [`all`].
    pub number: u16,
}

impl Command {
    /// Whether a request of `argc` arguments, the name included, has the right number of them.
    #[must_use]
    pub fn accepts(&self, argc: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            argc >= least
        } else {
            argc == least
        }
    }
}

/// A release of the server, as far as the table tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Such as 8 in 8.1.
    pub major: u8,
    /// Such as 1 in 8.1.
    pub minor: u8,
}

/// The first release whose users are granted databases (`db=`).
pub const GRANTS_DATABASES: Version = Version { major: 9, minor: 1 };

/// Which arguments of a command are names of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// None of them.
    None,
    /// The keys of its key specs, each with a fixed beginning.
    Specs,
    /// The same, where some keys begin behind a keyword.
    Keywords,
    /// Argument 1 is a channel.
    Channel,
    /// Every argument from this one on is a channel.
    Channels(u8),
    /// Every argument from this one on is a pattern of channels.
    ChannelPatterns(u8),
    /// SORT: the key, `BY` and `GET` patterns, every `STORE` unless it only reads.
    Sort {
        /// Whether `STORE` is an option.
        store: bool,
    },
    /// GEORADIUS: the key, and every `STORE` and `STOREDIST` among the options, which begin here.
    Georadius {
        /// The first argument that may be an option.
        options: u8,
    },
    /// XREAD: the first half of what follows `STREAMS`.
    Xread {
        /// Whether it is XREADGROUP, with `GROUP` and `NOACK`.
        group: bool,
    },
    /// COPY: two keys, then options.
    Copy,
    /// CLIENT TRACKING: every `PREFIX`.
    Tracking,
    /// The command is never forwarded as it is; were it, every argument would get the prefix.
    Never,
}

/// What the agent does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Names go in, the server answers, names come out.
    Rewrite,
    /// The agent gives it the meaning that it has in a store.
    Scoped(Scoped),
    /// The agent answers without the server.
    Local(Local),
    /// Refused: why it is no matter of a single store. [`refusal`] makes the whole sentence.
    Operator(&'static str),
}

/// Commands about all keys of a server, or several databases: the agent does them for one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoped {
    /// `KEYS pattern`: names of the session's database that match.
    Keys,
    /// `SCAN cursor [MATCH] [COUNT] [TYPE]`: the same, page by page. The last MATCH counts.
    Scan,
    /// `RANDOMKEY`: any key of the session's database, or null.
    RandomKey,
    /// `DBSIZE`: the number of keys in the session's database.
    DbSize,
    /// `FLUSHDB [ASYNC|SYNC]`: removes the keys of the session's database.
    FlushDb,
    /// `FLUSHALL [ASYNC|SYNC]`: removes the keys of all the store's databases.
    FlushAll,
    /// `INFO [section ...]`: about the store, with nothing of the neighbours.
    Info,
    /// `CONFIG GET pattern ...`: settings of the server that an app may know.
    ConfigGet,
    /// `CONFIG SET name value ...`: the store's own settings change; the server's only seem to, where
    /// they have that value already.
    ConfigSet,
    /// `MEMORY STATS`: the server's fields, with what the store's own data takes.
    MemoryStats,
    /// `PUBSUB CHANNELS [pattern]`: the store's channels that have subscribers.
    PubsubChannels,
    /// `PUBSUB SHARDCHANNELS [pattern]`: the same of shard channels.
    PubsubShardChannels,
    /// `PUBSUB NUMPAT`: the number of distinct patterns that the store's sessions subscribe to.
    PubsubNumpat,
    /// `FUNCTION LOAD`, `LIST`, `DELETE`, `FLUSH`, `DUMP`, `RESTORE`, `STATS`, `KILL`: about the store's own
    /// libraries in the server's one registry.
    Function,
    /// `SCRIPT KILL`: ends a script of the store's own.
    ScriptKill,
    /// `MOVE key db`: a RENAMENX into another database's names; 0 when the key is not there.
    Move,
    /// `COPY source destination DB db [REPLACE]`: a COPY into another database's names.
    CopyAcrossDatabases,
    /// `SWAPDB first second`: the keys of two of the store's databases are renamed into each other's.
    SwapDb,
    /// `SORT ... BY pattern` or `GET pattern`: names go in as usual, but the server lets only a user
    /// with access to every key do it, which a store's own user is not.
    SortWithPatterns,
}

/// Commands that the agent answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// `HELLO [protover [AUTH user password] [SETNAME name]]`.
    Hello,
    /// `AUTH [user] password`: chooses the store.
    Auth,
    /// `SELECT db`: state of the session.
    Select,
    /// `RESET`: the session becomes as it was when it began.
    Reset,
    /// `QUIT`: `+OK`, then the connection closes.
    Quit,
    /// `CLIENT ID`.
    ClientId,
    /// `CLIENT SETNAME name`.
    ClientSetName,
    /// `CLIENT GETNAME`.
    ClientGetName,
    /// `CLIENT SETINFO LIB-NAME|LIB-VER text`.
    ClientSetInfo,
    /// `CLIENT INFO`: the session's own line.
    ClientInfo,
    /// `CLIENT LIST [filters]`: a line for each session of the store.
    ClientList,
    /// `CLIENT REPLY ON|OFF|SKIP`: the upstream always replies, the session drops it.
    ClientReply,
    /// `CLIENT KILL`: ends sessions of the store on this node.
    ClientKill,
    /// `CLIENT PAUSE ms [WRITE|ALL]`: the store's sessions on this node wait.
    ClientPause,
    /// `CLIENT UNPAUSE`: they go on.
    ClientUnpause,
    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`: a session of the store waits no longer.
    ClientUnblock,
    /// `CLIENT IMPORT-SOURCE ON|OFF`: refused as by a server that is not in import mode.
    ClientImportSource,
    /// `CLIENT NO-EVICT ON|OFF`: `+OK`; eviction of connections is the operator's.
    ClientNoEvict,
    /// `CLIENT CAPA capability ...`: `+OK`; a store never redirects.
    ClientCapa,
    /// `MONITOR`: the store's own commands, as its apps sent them to this node.
    Monitor,
    /// `CLIENT GETREDIR`: the app's id of the session that invalidations go to.
    ClientGetRedir,
    /// `CLIENT TRACKINGINFO`: in the app's own ids and prefixes.
    ClientTrackingInfo,
    /// `ACL WHOAMI`: the name the session authenticated with, or `default`.
    AclWhoami,
    /// `READONLY`, `READWRITE`: `+OK`; they mean something in a cluster only.
    ReadOnly,
    /// `CLUSTER ...`, `ASKING`, `CLUSTERSCAN`: a store looks standalone, so
    /// `-ERR This instance has cluster support disabled`.
    ClusterDisabled,
    /// `SCRIPT FLUSH [ASYNC|SYNC]`: the store's scripts are forgotten; the server's cache stays.
    ScriptFlush,
    /// `SCRIPT DEBUG YES|SYNC|NO`: `NO` is taken.
    ScriptDebug,
    /// `SCRIPT SHOW sha1`: the app's own text.
    ScriptShow,
    /// `SLOWLOG GET|LEN|RESET`: the store's slow commands on this node.
    Slowlog,
    /// `COMMANDLOG GET|LEN|RESET`: its slow and its large ones.
    Commandlog,
    /// `LATENCY LATEST|HISTORY|GRAPH|RESET|DOCTOR|HISTOGRAM`: from the same, and what is counted.
    Latency,
    /// `CONFIG RESETSTAT`: what is counted of the store begins anew for its apps.
    ConfigResetstat,
    /// `CONFIG REWRITE`: what a Valkey without a file of settings says.
    ConfigRewrite,
    /// `MEMORY DOCTOR`: a diagnosis of the store's own memory.
    MemoryDoctor,
    /// `MEMORY MALLOC-STATS`: nothing, as where the allocator has none.
    MemoryMallocStats,
    /// `MEMORY PURGE`: `+OK`; memory is given back by the server as it sees fit.
    MemoryPurge,
    /// `ACL USERS|LIST|GETUSER|DRYRUN|LOG|LOAD|SAVE|DELUSER`: a store has one user, who may do everything.
    Acl,
    /// `ROLE`: a primary without replicas: `["master", 0, []]`.
    Role,
}

/// Where names stand in a command's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyShape {
    /// Nowhere.
    Verbatim,
    /// The reply is a key.
    Name,
    /// An array whose first element is a key.
    FirstName,
    /// An array of keys.
    Names,
    /// XREAD: pairs of a key and its entries.
    StreamNames,
    /// SCAN: a cursor and an array of keys.
    Cursor,
    /// PUBSUB NUMSUB: pairs of a channel and a number.
    PubsubNumsub,
    /// PUBSUB CHANNELS: an array of channels.
    Channels,
    /// Acknowledgements of subscriptions, one for each channel; pushes in RESP3.
    Pubsub,
    /// CLIENT TRACKINGINFO: an array of prefixes inside.
    TrackingInfo,
    /// EXEC: a reply for each queued command.
    Exec,
}

/// Which kind of upstream connection a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One shared with other sessions of the store.
    Shared,
    /// One of the session's own, because of what it leaves there.
    Dedicated(Need),
}

/// Why a session needs an upstream connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// MULTI, until EXEC or DISCARD.
    Transaction,
    /// WATCH, until EXEC, DISCARD or UNWATCH.
    Watch,
    /// A command that may wait, until its reply.
    Blocking,
    /// Subscriptions, until the last one is gone.
    Subscription,
    /// CLIENT TRACKING, until it is off.
    Tracking,
    /// A request too big for the buffer, until its reply.
    Streaming,
}

#[cfg(test)]
mod tests;
