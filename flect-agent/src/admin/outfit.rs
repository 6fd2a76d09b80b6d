//! What users a server must have before stores can be served by it: the same on the primary and on those that
//! may take its place.

use std::collections::{HashMap, HashSet};

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value};

use super::users::{self, UserKey};
use crate::commands::{Learnt, Version};
use crate::environment::{Credentials, Store};
use crate::store::Prefix;

/// Stores whose users are made in one go: some 50 KiB of rules each, and the server does nothing else meanwhile.
pub const STORES_AT_ONCE: usize = 16;

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
    pub fn of_store(&self, store: &Store, keeps_channels: bool) -> [User; 2] {
        let (own, commands) = (&store.credentials, &self.commands);
        let mut rules = users::store(own, &store.prefix, commands, keeps_channels);
        rules.extend(self.learnt.iter().map(|name| format!("+{name}")));
        let mut user = self.user(own, rules);
        let granted = store.granted();
        let granted = granted.iter();
        user.rules
            .extend(granted.map(|pattern| [b"&", pattern.as_slice()].concat()));
        let sorts = users::sorter(&store.sorter, &store.prefix, commands);
        [user, self.user(&store.sorter, sorts)]
    }

    /// Makes the users of stores on another server than the one that is worked with.
    ///
    /// # Errors
    /// When it refuses or cannot be reached; some of them are made by then.
    pub async fn equip<C: ConnectionLike>(
        &self,
        server: &mut C,
        stores: &[&Store],
    ) -> RedisResult<()> {
        if stores.is_empty() {
            return Ok(());
        }
        let mut questions = redis::pipe();
        for store in stores {
            questions.add_command(look_at(&store.credentials.user));
        }
        let told: Vec<Value> = questions.query_async(server).await?;
        let mut orders = redis::pipe();
        for (store, told) in stores.iter().zip(told) {
            let keeps = keeps_channels(store, told);
            for user in self.of_store(store, keeps) {
                orders.add_command(user.command()).ignore();
            }
        }
        orders.query_async(server).await
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
    command
        .arg(format!("flect.{id}"))
        .arg(format!("flect.{id}.sort"));
    command
}

/// Asks for a user as it is.
pub(super) fn look_at(user: &str) -> redis::Cmd {
    let mut command = redis::cmd("ACL");
    command.arg("GETUSER").arg(user);
    command
}

/// Whether the channels of a store's user, in a reply to [`look_at`], are the store's and no others; then they
/// stay.
pub(super) fn keeps_channels(store: &Store, told: Value) -> bool {
    let fields: Option<HashMap<String, Value>> = redis::from_redis_value(told).unwrap_or(None);
    let channels = fields.and_then(|mut fields| fields.remove("channels"));
    let channels = channels.and_then(|value| redis::from_redis_value::<String>(value).ok());
    channels.is_some_and(|channels| users::only_own_channels(&channels, &store.prefix))
}
