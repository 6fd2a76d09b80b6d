//! What users a server must have before stores can be served by it: the same on the primary and on those that
//! may take its place.
//!
//! Many agents want the same users. `ACL SETUSER` takes the server 0.3 ms for one of a store, and describing it
//! (`ACL GETUSER`) as long, since Valkey goes through 265 commands each time. So whoever has made a store's users
//! leaves a mark: one more user, who may do nothing, and whose only key pattern is a digest of their rules. It is
//! looked up in some microseconds, and gone where the users are gone.
//!
//! Invariant: a mark stands on a server only while the users that it tells of do. It is taken away before they are
//! changed, and set when the server has confirmed them.

use std::collections::{HashMap, HashSet};

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value};
use sha2::{Digest, Sha256};

use super::users::{self, UserKey};
use crate::commands::{Learnt, Version};
use crate::environment::{Credentials, Store};
use crate::store::Prefix;

/// Stores whose users are made in one go: some 50 KiB of rules each, and the server does nothing else meanwhile.
pub const STORES_AT_ONCE: usize = 16;

/// What an agent knows of a server's users before it makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Marks are believed: a server that answers anew, or another agent's work.
    Marks,
    /// Nothing: somebody was refused, whatever the marks say.
    Nothing,
}

/// One user as it must be: its name and the rules of `ACL SETUSER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What it is called.
    pub name: String,
    /// Its rules, which make it so whatever it was before.
    pub rules: Vec<Vec<u8>>,
}

impl User {
    fn new(credentials: &Credentials, rules: Vec<String>) -> Self {
        Self {
            name: credentials.user.clone(),
            rules: rules.into_iter().map(String::into_bytes).collect(),
        }
    }

    /// The command that makes it so.
    #[must_use]
    pub fn command(&self) -> redis::Cmd {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&self.name).arg(&self.rules);
        command
    }
}

/// How users are made for servers with these commands. Alike are those that make the same users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outfit {
    /// Commands that the server knows, lower case, subcommands as `container|sub`.
    commands: HashSet<String>,
    /// Those that were learnt from it and are passed on.
    learnt: Vec<&'static str>,
    /// Rights that only some releases know.
    databases: &'static [&'static str],
    own: Vec<User>,
}

impl Outfit {
    pub(super) fn new(
        key: &UserKey,
        commands: HashSet<String>,
        learnt: &Learnt,
        release: Version,
    ) -> Self {
        let mut outfit = Self {
            learnt: learnt.forwarded.clone(),
            databases: users::databases(release),
            own: Vec::new(),
            commands,
        };
        let (keeps, works) = (key.housekeeper(), key.librarian());
        outfit.own = vec![
            outfit.user(&keeps, users::housekeeper(&keeps)),
            outfit.user(&works, users::librarian(&works, &outfit.commands)),
        ];
        outfit
    }

    /// Those of the agent's own work.
    #[must_use]
    pub fn own(&self) -> &[User] {
        &self.own
    }

    /// Those of a store, with the patterns that it is granted. `keeps_channels`: others that the user has stay,
    /// since taking them away would end their subscribers' connections.
    #[must_use]
    fn of_store(&self, store: &Store, keeps_channels: bool) -> [User; 2] {
        let [mut user, sorter] = self.rules_of(store, keeps_channels);
        let granted = store.granted();
        let granted = granted.iter();
        user.rules
            .extend(granted.map(|pattern| [b"&", pattern.as_slice()].concat()));
        [user, sorter]
    }

    /// The same without what is granted.
    fn rules_of(&self, store: &Store, keeps_channels: bool) -> [User; 2] {
        let (own, commands) = (&store.credentials, &self.commands);
        let mut rules = users::store(own, &store.prefix, commands, keeps_channels);
        rules.extend(self.learnt.iter().map(|name| format!("+{name}")));
        let sorts = users::sorter(&store.sorter, &store.prefix, commands);
        [self.user(own, rules), self.user(&store.sorter, sorts)]
    }

    /// Makes the users of stores on a server, where they are not made yet.
    ///
    /// # Errors
    /// When it refuses or cannot be reached; some of them are made by then.
    pub async fn equip<C: ConnectionLike>(
        &self,
        server: &mut C,
        stores: &[&Store],
        before: Before,
    ) -> RedisResult<()> {
        for stores in stores.chunks(STORES_AT_ONCE) {
            let lacking = match before {
                Before::Marks => self.lacking(server, stores).await?,
                Before::Nothing => stores.to_vec(),
            };
            if !lacking.is_empty() {
                self.make(server, &lacking).await?;
            }
        }
        Ok(())
    }

    /// Those whose users no mark tells of, or not these, or who are not there in spite of it.
    async fn lacking<'a, C: ConnectionLike>(
        &self,
        server: &mut C,
        stores: &[&'a Store],
    ) -> RedisResult<Vec<&'a Store>> {
        let mut questions = redis::pipe();
        questions.ignore_errors();
        for store in stores {
            questions.add_command(look_at(&mark_of(store)));
            for user in [&store.credentials.user, &store.sorter.user] {
                // Answered whether or not they may; an error where there is no such user (`aclCommand` in acl.c).
                questions.cmd("ACL").arg("DRYRUN").arg(user).arg("PING");
            }
        }
        let told: Vec<RedisResult<Value>> = questions.query_async(server).await?;
        let is_there = |store: &Store, told: &[RedisResult<Value>]| {
            // What this agent has granted since, no mark tells of.
            let is_plain = store.granted().is_empty();
            let [Ok(mark), Ok(_), Ok(_)] = told else {
                return false;
            };
            is_plain && field(mark.clone(), "keys") == Some(format!("~{}", self.digest(store)))
        };
        let told = stores.iter().zip(told.chunks(3));
        let lacking = told.filter(|(store, told)| !is_there(store, told));
        Ok(lacking.map(|(store, _)| *store).collect())
    }

    async fn make<C: ConnectionLike>(&self, server: &mut C, stores: &[&Store]) -> RedisResult<()> {
        let (mut questions, mut orders, mut marks) = (redis::pipe(), redis::pipe(), redis::pipe());
        for store in stores {
            questions.add_command(look_at(&store.credentials.user));
        }
        let told: Vec<Value> = questions.query_async(server).await?;
        for (store, told) in stores.iter().zip(told) {
            let mark = mark_of(store);
            orders.cmd("ACL").arg("DELUSER").arg(&mark).ignore();
            let keeps = keeps_channels(store, told);
            for user in self.of_store(store, keeps) {
                orders.add_command(user.command()).ignore();
            }
            let digest = format!("~{}", self.digest(store));
            let marked = marks.cmd("ACL").arg("SETUSER").arg(mark);
            marked.arg("reset").arg(digest).ignore();
        }
        let () = orders.query_async(server).await?;
        marks.query_async(server).await
    }

    /// Of the rules of a store's users, but for what is granted while they are in use.
    fn digest(&self, store: &Store) -> String {
        let mut digest = Sha256::new();
        for user in self.rules_of(store, true) {
            for part in [user.name.into_bytes()].iter().chain(&user.rules) {
                digest.update(part.len().to_le_bytes());
                digest.update(part);
            }
        }
        users::hex(&digest.finalize())
    }

    fn user(&self, credentials: &Credentials, mut rules: Vec<String>) -> User {
        rules.extend(self.databases.iter().map(|&rule| rule.to_owned()));
        User::new(credentials, rules)
    }
}

/// Takes the users of a removed store away, which ends their connections.
#[must_use]
pub fn users_gone(prefix: &Prefix) -> redis::Cmd {
    let id = prefix.as_str().trim_matches(['{', '}']);
    let mut command = redis::cmd("ACL");
    command.arg("DELUSER");
    for end in ["", ".sort", MARK] {
        command.arg(format!("flect.{id}{end}"));
    }
    command
}

/// How the name of a mark ends.
const MARK: &str = ".made";

/// The user who tells that a store's users are made.
fn mark_of(store: &Store) -> String {
    format!("{}{MARK}", store.credentials.user)
}

/// Asks for a user as it is.
fn look_at(user: &str) -> redis::Cmd {
    let mut command = redis::cmd("ACL");
    command.arg("GETUSER").arg(user);
    command
}

/// Whether the channels of a store's user, in a reply to [`look_at`], are the store's and no others; then they
/// stay.
fn keeps_channels(store: &Store, told: Value) -> bool {
    field(told, "channels").is_some_and(|told| users::only_own_channels(&told, &store.prefix))
}

/// A field of a reply to [`look_at`]; `None` where there is no such user.
fn field(told: Value, name: &str) -> Option<String> {
    let fields: Option<HashMap<String, Value>> = redis::from_redis_value(told).ok()?;
    redis::from_redis_value(fields?.remove(name)?).ok()
}
