//! Why commands are treated as they are, in words.

use crate::commands::{Command, Flags, Local, Names, Need, Policy, ReplyShape, Scoped};

/// The policy's name in output and documentation.
#[must_use]
pub fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Rewrite => "rewrite",
        Policy::Scoped(_) => "scoped",
        Policy::Local(_) => "local",
        Policy::Operator(_) => "operator",
    }
}

/// Why a command has its policy.
#[must_use]
pub fn reason(command: &Command, policy: Policy) -> &'static str {
    match policy {
        Policy::Rewrite => names(command.names),
        Policy::Scoped(kind) => scoped(kind),
        Policy::Local(kind) => local(kind),
        Policy::Operator(why) => why,
    }
}

fn names(names: Names) -> &'static str {
    match names {
        Names::None => "nothing in it is a name of the store: it is passed on",
        Names::Specs => "its keys stand where the server says (COMMAND); each gets the prefix",
        Names::Keywords => {
            "its keys stand behind a word, where the server says (COMMAND); each gets the prefix"
        }
        Names::Channel | Names::Channels(_) => "its channels get the prefix",
        Names::ChannelPatterns(_) => {
            "its patterns of channels get the prefix, which holds no glob character"
        }
        Names::Sort { .. } => "its key, BY and GET patterns and STORE get the prefix",
        Names::Georadius { .. } => "its key and what STORE and STOREDIST name get the prefix",
        Names::Xread { .. } => {
            "the first half of what follows STREAMS are keys; each gets the prefix"
        }
        Names::Copy => "both keys get the prefix",
        Names::Tracking => {
            "every PREFIX gets the store's; without one it is told of the store's keys"
        }
        Names::Never => "it is never passed on",
    }
}

fn scoped(scoped: Scoped) -> &'static str {
    match scoped {
        Scoped::Keys => "it is about all keys: the agent walks the store's own with SCAN",
        Scoped::Scan => "it is about all keys: the agent asks for the store's own, page by page",
        Scoped::RandomKey => "it is about all keys: the agent chooses among the store's own",
        Scoped::DbSize => "it is about all keys: the agent counts the store's own with SCAN",
        Scoped::FlushDb => {
            "it is about all keys: the agent removes those of the store's database with SCAN and UNLINK"
        }
        Scoped::FlushAll => {
            "it is about all keys: the agent removes those of all the store's databases with SCAN and UNLINK"
        }
        Scoped::Info => {
            "it tells about the whole server: the agent passes on facts that clients read, and counts keys and clients of the store"
        }
        Scoped::ConfigGet => {
            "settings are the whole server's: the agent passes on those that an app may know"
        }
        Scoped::ConfigSet => {
            "a store has settings of its own, which the agents keep and obey; what holds for the whole server is refused unless it has that value already"
        }
        Scoped::MemoryStats => {
            "the server's memory is of all stores: the agent tells what it knows of the store's own, in the server's fields"
        }
        Scoped::PubsubChannels | Scoped::PubsubShardChannels => {
            "it is about all channels: the agent lists the store's own"
        }
        Scoped::PubsubNumpat => {
            "it is about all subscribers: the agent counts the patterns of the store's sessions"
        }
        Scoped::Function => {
            "the server has one registry of functions: names in it bear the store's id, and a user that can do nothing else works on them"
        }
        Scoped::ScriptKill => {
            "the server runs one script at a time: the agent ends it only when it is surely the store's"
        }
        Scoped::Move => "a store's databases are part of its keys' names, so a move is a RENAMENX",
        Scoped::CopyAcrossDatabases => {
            "a store's databases are part of its keys' names, so a copy to another database is a COPY to another name"
        }
        Scoped::SwapDb => {
            "a store's databases are part of its keys' names, so an exchange is a RENAME of each"
        }
        Scoped::SortWithPatterns => {
            "BY and GET read other keys than the one that is sorted: their patterns get the prefix, and a user of its own runs it"
        }
    }
}

fn local(local: Local) -> &'static str {
    match local {
        Local::Hello => "the protocol's version, the name and the login are the session's own",
        Local::Auth => "it chooses among the app's stores; the cgroup has said who asks",
        Local::Select => "the database is part of the keys' names: the session remembers it",
        Local::Reset => "it ends the session's own state",
        Local::Quit => "it ends the session",
        Local::ClientId
        | Local::ClientGetName
        | Local::ClientSetName
        | Local::ClientSetInfo
        | Local::ClientInfo => {
            "connections to the server are shared; the session has a number, a name and a line of its own"
        }
        Local::ClientList => {
            "connections to the server are shared; the agent lists the store's sessions"
        }
        Local::ClientReply => {
            "connections to the server are shared; the agent drops the session's replies"
        }
        Local::ClientNoEvict => {
            "eviction of connections is the operator's; it is accepted and does nothing"
        }
        Local::ClientKill => {
            "connections to the server are shared; the agent ends the store's sessions on this node"
        }
        Local::ClientPause | Local::ClientUnpause => {
            "the server would hold up all stores: the agent lets this store's sessions on this node wait"
        }
        Local::ClientUnblock => {
            "the app's numbers are not the server's: the agent asks it to unblock the session's own connection"
        }
        Local::ClientImportSource => "a store is never in import mode, which is the server's",
        Local::Monitor => {
            "the server would show all stores' commands: the agent shows the store's own on this node"
        }
        Local::ClientGetRedir | Local::ClientTrackingInfo => {
            "the agent keeps what the session asked to be tracked, in its own ids and prefixes"
        }
        Local::ClientCapa => "a store never redirects; it is accepted and does nothing",
        Local::AclWhoami => {
            "users of the server are the agent's; the session has the name it logged in with"
        }
        Local::ReadOnly => "it means something in a cluster only, and a store looks standalone",
        Local::ClusterDisabled => "a store looks standalone, whatever the server is",
        Local::ScriptFlush => {
            "the server has one cache of scripts: the store's own are forgotten, others' stay"
        }
        Local::ScriptDebug => "a debugged script stops the whole server, so only NO is taken",
        Local::ScriptShow => {
            "the server's text has the agent's shim in front; the app sees its own"
        }
        Local::Slowlog | Local::Commandlog | Local::Latency => {
            "the server's logs are of all stores: the agent keeps the store's own, of this node"
        }
        Local::ConfigResetstat => {
            "the server counts for all stores: the agent begins anew with the store's own counts"
        }
        Local::ConfigRewrite => {
            "a store has no file of settings; what CONFIG SET has changed is kept without it"
        }
        Local::MemoryDoctor | Local::MemoryMallocStats => {
            "the server's memory is of all stores: the agent tells what it knows of the store's own"
        }
        Local::MemoryPurge => {
            "the server gives memory back as it sees fit; it is accepted and does nothing"
        }
        Local::Acl => {
            "users of the server are the agent's; a store has one user, who may do everything in it"
        }
        Local::Role => "a store looks like a primary without replicas",
    }
}

/// For how long a session needs a connection of its own, and why.
pub(super) fn need(need: Need) -> &'static str {
    match need {
        Need::Transaction => "until EXEC or DISCARD: the server queues its commands",
        Need::Watch => "until EXEC, DISCARD or UNWATCH: the server watches for it",
        Need::Blocking => "until the reply: it may wait, and nobody shall wait with it",
        Need::Subscription => "until the last subscription ends: messages come when they will",
        Need::Tracking => "until CLIENT TRACKING OFF: the server remembers what it read",
        Need::Streaming => "until the reply: it is too large to be held",
    }
}

/// What becomes of names in the reply.
#[must_use]
pub fn reply_words(shape: ReplyShape) -> &'static str {
    match shape {
        ReplyShape::Verbatim => "unchanged; in an error's text the prefix is taken off names",
        ReplyShape::Name => "it is a key: the prefix is taken off",
        ReplyShape::FirstName => "it begins with the key that served: the prefix is taken off",
        ReplyShape::Names => "the prefix is taken off every key",
        ReplyShape::StreamNames => "the prefix is taken off every stream's key",
        ReplyShape::Cursor => "the cursor is unchanged, the prefix is taken off every key",
        ReplyShape::PubsubNumsub | ReplyShape::Channels => "the prefix is taken off every channel",
        ReplyShape::Pubsub => "the prefix is taken off channels and patterns, in messages too",
        ReplyShape::TrackingInfo => "the prefix is taken off every PREFIX",
        ReplyShape::Exec => "each queued command's reply as it would be alone",
    }
}

/// What the table's entry means beyond policy and placement.
pub(super) fn notes(command: &Command) -> impl Iterator<Item = &'static str> {
    let script = command.flags.has(Flags::MOVABLEKEYS) && command.name.starts_with("eval");
    let notes = [
        (
            script,
            "the agent sends the script behind a shim that puts the prefix in front of every key it uses, computed ones too; inside the script KEYS and replies are as the app knows them",
        ),
        (
            command.name == "psubscribe",
            "the agent first has each pattern granted to the store's user, literally",
        ),
        (
            matches!(command.name, "wait" | "waitaof"),
            "an ECHO goes before it, so that it waits for writes over the shared connection too",
        ),
        (
            matches!(command.name, "subscribe" | "psubscribe" | "ssubscribe"),
            "refused inside MULTI",
        ),
    ];
    notes
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, note)| note)
}
