//! The ACL users that the agent makes: one per store, one for its SORTs, one for housekeeping.
//!
//! A store's user may do exactly what the command table forwards, on exactly the store's names: a
//! bug in the rewriter, or a name made up inside a script, meets the server's own refusal.

use std::collections::HashSet;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::commands::{self, GRANTS_DATABASES, Policy, Version};
use crate::environment::Credentials;
use crate::scoped::SCRIPT_NAMES;
use crate::store::Prefix;
use crate::weakened::{self, Weakness};
use crate::worker::events;

/// What the passwords of the agent's users are derived from, so that all agents of an environment
/// agree on them and none has to be kept.
pub struct UserKey([u8; 32]);

/// Bytes from the system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only where the kernel has no random numbers at all; nothing safe can follow.
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    bytes
}

impl UserKey {
    pub fn random() -> Self {
        Self(random())
    }

    pub fn to_text(&self) -> String {
        hex(&self.0)
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let bytes: Option<Vec<u8>> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
            .collect();
        Some(Self(bytes?.try_into().ok()?))
    }

    /// The user of the agent's own store-wide work.
    pub fn housekeeper(&self) -> Credentials {
        self.credentials("flect.housekeeper")
    }

    /// The user who works on libraries of functions.
    pub fn librarian(&self) -> Credentials {
        self.credentials("flect.librarian")
    }

    pub fn credentials(&self, user: &str) -> Credentials {
        // HMAC takes keys of any length; the type's error cannot happen.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        mac.update(user.as_bytes());
        Credentials {
            user: user.to_owned(),
            password: hex(&mac.finalize().into_bytes()),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rule that sets the password by its hash, so that it never stands in a command.
fn password(credentials: &Credentials) -> String {
    format!("#{}", hex(&Sha256::digest(credentials.password.as_bytes())))
}

/// Commands that the agent sends on a store's connections besides what the table forwards.
const AGENTS_OWN: &[&str] = &[
    "echo",
    "unlink",
    "renamenx",
    "copy",
    // What the server calls a connection, for CLIENT UNBLOCK; no script may ask for it.
    "client|id",
    // In front of what a node that is getting the slot shall carry out.
    "asking",
];

/// Not for a store's user: of several STOREs the server's rights see the first (a key spec with a keyword),
/// and the command takes the last, so a script could write to any key of the server. Valkey 9.1 looks at all.
const BEYOND_RIGHTS: &[&str] = &["georadius", "georadiusbymember"];

/// The rules of a store's user. `keep_channels` leaves granted patterns in place: taking them away
/// would end their subscribers' connections.
pub fn store(
    credentials: &Credentials,
    prefix: &Prefix,
    known: &HashSet<String>,
    keep_channels: bool,
) -> Vec<String> {
    if weakened::has(Weakness::Acl) {
        let everything = ["on", "allkeys", "allchannels", "+@all"].map(str::to_owned);
        return [vec![password(credentials)], everything.to_vec()].concat();
    }
    let mut rules = vec![
        "on".to_owned(),
        "resetpass".to_owned(),
        password(credentials),
        "sanitize-payload".to_owned(),
        "clearselectors".to_owned(),
        "resetkeys".to_owned(),
        format!("~{prefix}:*"),
        format!("~{prefix}/*"),
    ];
    if !keep_channels {
        rules.push("resetchannels".to_owned());
    }
    rules.push(format!("&{prefix}:*"));
    // Notifications of the store's own keys; no session subscribes to them by itself.
    rules.extend(events::patterns(prefix).map(|pattern| format!("&{pattern}")));
    rules.push("-@all".to_owned());
    let own = AGENTS_OWN.iter().copied();
    let forwarded = commands::all()
        .iter()
        .filter(|command| {
            // COMMAND is one that does something by itself.
            let acts = !command.container || command.accepts(1);
            matches!(command.policy, Policy::Rewrite) && acts
        })
        .map(|command| command.name);
    let mut names: Vec<&str> = own
        .chain(forwarded)
        .filter(|name| known.contains(*name) && !BEYOND_RIGHTS.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    rules.extend(names.into_iter().map(|name| format!("+{name}")));
    rules
}

/// The rules of a store's SORT user: Valkey grants BY and GET only with read access to every key. What is
/// written is the store's.
pub fn sorter(credentials: &Credentials, prefix: &Prefix, known: &HashSet<String>) -> Vec<String> {
    let mut rules = without_rights(credentials);
    rules.push("%R~*".to_owned());
    rules.extend([format!("%W~{prefix}:*"), format!("%W~{prefix}/*")]);
    let sorts = ["sort", "sort_ro"]
        .into_iter()
        .chain(BEYOND_RIGHTS.iter().copied())
        .filter(|name| known.contains(*name));
    rules.extend(sorts.map(|name| format!("+{name}")));
    rules
}

/// The rules of the housekeeper: names and statistics of the whole server, no value but the names of
/// stores' scripts.
pub fn housekeeper(credentials: &Credentials) -> Vec<String> {
    let mut rules = without_rights(credentials);
    let names = [
        "scan",
        "info",
        "ping",
        "pubsub|channels",
        "pubsub|shardchannels",
        "config|get",
        // CLIENT UNBLOCK of an app: only ever with the number of a connection of that app's store. It reads
        // nothing, and ends no connection.
        "client|unblock",
        // Fields are taken from it, and no value that is of all stores.
        "memory|stats",
        "command",
        "hmget",
        "hset",
        "del",
    ];
    rules.push(format!("~{SCRIPT_NAMES}*"));
    rules.extend(names.map(|name| format!("+{name}")));
    rules
}

/// The rules of the librarian: libraries of functions of the whole server and what runs there, and no key.
/// Not FUNCTION RESTORE, which waits forever for a library that never comes to its end, nor FLUSH and DUMP.
pub fn librarian(credentials: &Credentials, known: &HashSet<String>) -> Vec<String> {
    let mut rules = without_rights(credentials);
    let names = [
        "function|load",
        "function|list",
        "function|delete",
        "function|stats",
        "function|kill",
        "script|kill",
        "script|show",
    ];
    let names = names.into_iter().filter(|name| known.contains(*name));
    rules.extend(names.map(|name| format!("+{name}")));
    rules
}

/// The databases of every user of the agent's: all that it stores is in database 0. Servers before 9.1 do
/// not know such a right.
pub fn databases(release: Version) -> &'static [&'static str] {
    if release < GRANTS_DATABASES {
        return &[];
    }
    &["resetdbs", "db=0"]
}

/// A user that can log in and do nothing.
fn without_rights(credentials: &Credentials) -> Vec<String> {
    vec![
        "on".to_owned(),
        "resetpass".to_owned(),
        password(credentials),
        "clearselectors".to_owned(),
        "resetkeys".to_owned(),
        "resetchannels".to_owned(),
        "-@all".to_owned(),
    ]
}

/// Whether a user's channel rules, as `ACL GETUSER` shows them, lie within the store.
pub fn only_own_channels(channels: &str, prefix: &Prefix) -> bool {
    let own = format!("&{prefix}:");
    let listened = events::patterns(prefix).map(|pattern| format!("&{pattern}"));
    let is_own = |rule: &str| rule.starts_with(&own) || listened.iter().any(|known| known == rule);
    !channels.is_empty() && channels.split(' ').all(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text_and_passwords_differ() {
        let key = UserKey::random();
        let again = UserKey::from_text(&key.to_text()).unwrap();
        assert_eq!(
            key.credentials("a").password,
            again.credentials("a").password
        );
        assert_ne!(key.credentials("a").password, key.credentials("b").password);
        assert!(UserKey::from_text("short").is_none());
        assert!(UserKey::from_text(&"zz".repeat(32)).is_none());
    }

    #[test]
    fn a_stores_user_has_its_names_and_no_more() {
        let prefix = Prefix::parse("{abc}").unwrap();
        let known: HashSet<String> = commands::all()
            .iter()
            .map(|command| command.name.to_owned())
            .collect();
        let rules = store(&UserKey::random().credentials("u"), &prefix, &known, false);
        for wanted in [
            "~{abc}:*",
            "~{abc}/*",
            "&{abc}:*",
            "resetchannels",
            "+get",
            "+multi",
            "+xgroup|create",
        ] {
            assert!(rules.iter().any(|rule| rule == wanted), "{wanted}");
        }
        for refused in [
            "+keys",
            "+scan",
            "+randomkey",
            "+dbsize",
            "+flushdb",
            "+flushall",
            "+swapdb",
            "+debug",
            "+config|set",
            "+acl|setuser",
            "+client|kill",
            "+pubsub|channels",
            "+migrate",
            "+select",
            "+monitor",
            "+shutdown",
            "+script|flush",
            "+function|load",
            "+@all",
            "+move",
            "+georadius",
            "+georadiusbymember",
        ] {
            assert!(!rules.iter().any(|rule| rule == refused), "{refused}");
        }
        assert!(
            !rules
                .iter()
                .any(|rule| rule.starts_with("~*") || rule.starts_with("&*"))
        );
    }

    /// What it may do to connections is to end their waiting.
    #[test]
    fn the_housekeeper_ends_no_connection() {
        let rules = housekeeper(&UserKey::random().credentials("h"));
        let about_clients: Vec<_> = rules
            .iter()
            .filter(|rule| rule.contains("client"))
            .collect();
        assert_eq!(about_clients, ["+client|unblock"]);
        assert!(!rules.iter().any(|rule| rule == "+@all" || rule == "~*"));
    }

    #[test]
    fn foreign_channel_rules_are_seen() {
        let prefix = Prefix::parse("{abc}").unwrap();
        assert!(only_own_channels("&{abc}:* &{abc}:news.*", &prefix));
        for foreign in ["", "&*", "&{abc}:* &{abd}:*", "&{abc}"] {
            assert!(!only_own_channels(foreign, &prefix), "{foreign}");
        }
    }
}
