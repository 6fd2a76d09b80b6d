//! Store-wide commands that the agent carries out itself: KEYS, SCAN, DBSIZE, FLUSHDB, INFO ...
//!
//! Each is a [`Task`]: a state machine that asks the server one question at a time and knows no
//! sockets. The server's part is always incremental (SCAN), so that no store's KEYS makes the
//! others wait.
//!
//! Invariant: a name leaves a task only after it was found to begin with the store's own prefix.

mod answer;
mod begin;
mod config_set;
mod fill;
mod flush;
mod function_words;
mod functions;
mod gather;
mod info;
mod keys;
mod library;
mod memory_stats;
mod names;
mod rename;
mod script;
mod script_run;
mod settings;
mod walk;

use crate::environment::Setting;
use crate::resp::{Protocol, encode};
use crate::rewrite::ReplyPlan;
use crate::store::{Namespace, Prefix};

pub use answer::Reply;
pub use begin::{Asker, SYNTAX_ERROR, database};
pub use config_set::ConfigSet;
pub use fill::{Fill, MENTIONED_BYTES_MAX, Queued};
pub use flush::Flush;
pub use functions::Functions;
pub use info::{Info, Own};
pub use keys::{Count, Keys, Page, RandomKey};
pub use memory_stats::MemoryStats;
pub use names::Names;
pub use rename::Rename;
pub use script::{NAMES as SCRIPT_NAMES, Script};
pub use script_run::Run;
pub use settings::{Settings, View};

/// Whether a task ended since there were more names than are gathered.
#[must_use]
pub fn found_too_many(reply: &[u8]) -> bool {
    let ends = [keys::TOO_MANY.as_bytes(), fill::TOO_MANY.as_bytes()];
    let beyond = |text: &[u8]| reply.windows(text.len()).any(|window| window == text);
    reply.starts_with(b"-") && (ends.into_iter().any(beyond) || reply == script_run::TOO_MANY)
}

/// Which of the agent's connections a question goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The agent's own user, who may list names and statistics and read no value.
    Housekeeper,
    /// The store's own user.
    Store,
    /// The user who may only SORT.
    Sorter,
    /// The agent's user who may only work on libraries of functions.
    Librarian,
    /// The store's own user, in the app's protocol: the reply goes to the app as it is.
    App,
}

/// What a task wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this request (RESP) and bring the reply.
    Ask {
        /// Where to.
        target: Target,
        /// The request.
        request: Vec<u8>,
    },
    /// Keep these settings of the store's, and go on with the reply that says what became of it.
    Keep(Vec<(Setting, i64)>),
    /// Send a request to the store's own user and, without waiting for its reply, one to the
    /// housekeeper, whose reply is to be brought. An error in the first reply ends the task.
    AskBoth {
        /// To the store's own user.
        aside: Vec<u8>,
        /// To the housekeeper.
        request: Vec<u8>,
    },
    /// The app's reply; the task is over.
    Done(Vec<u8>),
    /// The task is over, and the request is to be looked at once more.
    Again,
}

/// What every task needs to know about the session that asked.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store's prefix.
    pub prefix: Prefix,
    /// The selected database's names.
    pub namespace: Namespace,
    /// How the app wants its reply.
    pub protocol: Protocol,
}

/// A store-wide command under way.
#[derive(Debug)]
pub enum Task {
    /// One page of SCAN.
    Page(Page),
    /// KEYS.
    Keys(Keys),
    /// DBSIZE.
    Count(Count),
    /// RANDOMKEY.
    RandomKey(RandomKey),
    /// FLUSHDB, FLUSHALL.
    Flush(Flush),
    /// INFO.
    Info(Info),
    /// PUBSUB CHANNELS and SHARDCHANNELS.
    Names(Names),
    /// CONFIG GET.
    Settings(Settings),
    /// MEMORY STATS.
    MemoryStats(MemoryStats),
    /// CONFIG SET.
    ConfigSet(ConfigSet),
    /// MOVE and COPY to another database.
    Rename(Rename),
    /// SCRIPT LOAD, EXISTS, FLUSH, and looking for a script.
    Script(Script),
    /// FUNCTION and SCRIPT KILL.
    Functions(Box<Functions>),
    /// A script that asks for names.
    Run(Box<Run>),
    /// Names for what a transaction has queued.
    Fill(Box<Fill>),
    /// A request whose reply is passed on as it is.
    Forward(Target, Vec<u8>),
}

impl Task {
    /// The first question.
    pub fn begin(&mut self, context: &Context) -> Step {
        match self {
            Self::Page(task) => task.ask(context),
            Self::Keys(task) => task.ask(),
            Self::Count(task) => task.ask(),
            Self::RandomKey(task) => task.ask(),
            Self::Flush(task) => task.ask(),
            Self::Info(task) => task.ask(),
            Self::Names(task) => task.ask(context),
            Self::Settings(task) => task.ask(),
            Self::ConfigSet(task) => task.ask(),
            Self::MemoryStats(task) => task.ask(),
            Self::Rename(task) => task.ask(),
            Self::Script(task) => task.ask(context),
            Self::Functions(task) => task.ask(),
            Self::Run(task) => task.ask(context),
            Self::Fill(task) => task.ask(),
            Self::Forward(target, request) => Step::Ask {
                target: *target,
                request: std::mem::take(request),
            },
        }
    }

    /// Goes on with one whole reply (RESP2).
    pub fn resume(&mut self, reply: &[u8], context: &Context) -> Step {
        if let Self::Forward(..) = self {
            return Step::Done(reply.to_vec());
        }
        if let Self::Run(task) = self
            && let Some(step) = task.take_raw(reply, context)
        {
            return step;
        }
        let reply = match Reply::parse(reply) {
            // What the server refuses, the app is told (LOADING, OOM ...); MOVE reads its error.
            Some(Reply::Error(text)) if self.minds_errors() => {
                return Step::Done(error(&without_user(&text)));
            }
            Some(reply) => reply,
            None => return Step::Done(error("ERR the server's answer was not understood")),
        };
        match self {
            Self::Page(task) => task.take(&reply, context),
            Self::Keys(task) => task.take(&reply),
            Self::Count(task) => task.take(&reply),
            Self::RandomKey(task) => task.take(&reply, context),
            Self::Flush(task) => task.take(&reply),
            Self::Info(task) => task.take(&reply, context),
            Self::Names(task) => task.take(&reply, context),
            Self::Settings(task) => task.take(&reply, context),
            Self::ConfigSet(task) => task.take(&reply),
            Self::MemoryStats(task) => task.take(&reply, context),
            Self::Rename(task) => task.take(&reply),
            Self::Script(task) => task.take(&reply, context),
            Self::Functions(task) => task.take(&reply, context),
            Self::Run(task) => task.take(&reply, context),
            Self::Fill(task) => task.take(&reply, context),
            Self::Forward(..) => Step::Done(Vec::new()),
        }
    }

    /// Whether the task must come to its end when its client has gone, as the command would on a private
    /// server.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        match self {
            Self::Flush(_) | Self::Run(_) | Self::Script(_) => true,
            Self::Functions(task) => task.changes(),
            _ => false,
        }
    }

    /// How the reply to the last question must be read.
    #[must_use]
    pub fn plan(&self) -> ReplyPlan {
        match self {
            Self::Run(task) => task.plan().unwrap_or_default(),
            _ => ReplyPlan::Verbatim,
        }
    }

    /// Whether the app is told of an error; else the task reads it.
    fn minds_errors(&self) -> bool {
        match self {
            Self::Rename(_) | Self::Functions(_) => false,
            Self::Script(task) => task.minds_errors(),
            _ => true,
        }
    }
}

/// A question as a step.
fn ask<W: AsRef<[u8]>>(target: Target, words: &[W]) -> Step {
    let mut request = Vec::new();
    encode::request(words, &mut request);
    Step::Ask { target, request }
}

/// What the app is told of an error reply of the server's.
#[must_use]
pub fn refusal(reply: &[u8]) -> Vec<u8> {
    match Reply::parse(reply) {
        Some(Reply::Error(text)) => error(&without_user(&text)),
        _ => error("ERR the server's answer was not understood"),
    }
}

/// An error reply.
fn error(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 3);
    encode::error(text, &mut bytes);
    bytes
}

/// Valkey names the user in NOPERM; an app must not learn the agent's.
fn without_user(text: &str) -> String {
    if text.starts_with("NOPERM") {
        "NOPERM this command is not available to the store".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests;
