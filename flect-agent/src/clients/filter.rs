//! The filters of CLIENT KILL and CLIENT LIST (`parseClientFilters`, `clientMatchesFilter` and
//! `clientKillCommand` in networking.c).
//!
//! Invariant: a filter is read as the server of that version reads it, and refused in its words.

use super::{Client, PUBSUB, letters};
use crate::commands::Version;
use crate::resp::{encode, number};
use crate::rewrite::words::{is_word as is, until_nul};
use crate::scoped::SYNTAX_ERROR;

/// From here on ID takes several numbers, and CLIENT LIST takes the filters of CLIENT KILL.
const ONE_PARSER: Version = Version { major: 8, minor: 1 };

/// From here on there are NAME, FLAGS and others, and NOT- before most of them.
const MANY_FILTERS: Version = Version { major: 9, minor: 0 };

/// Letters that a flags filter may name.
const FLAG_LETTERS: &[u8] = b"ABEIMNOPRSTUbcdeirtux";

/// Letters that a filter of capabilities may name.
const CAPABILITY_LETTERS: &[u8] = b"r";

/// What a filter's meaning depends on besides its words.
pub struct Asked<'a> {
    /// The server's version.
    pub release: Version,
    /// How many databases there are.
    pub databases: u32,
    /// Whether there is such a user for the app.
    pub is_user: &'a dyn Fn(&[u8]) -> bool,
}

/// Which clients are meant.
#[derive(Debug, Default)]
pub struct Filter {
    only: Terms,
    not: Terms,
    max_age_seconds: Option<u64>,
    idle_seconds: Option<u64>,
    /// Whether the client that asks is left out.
    pub skips_asker: bool,
    /// The order in which 8.0 lists what was asked for by number, twice what was asked for twice.
    pub listed: Option<Vec<u64>>,
}

#[derive(Debug, Default)]
struct Terms {
    ids: Vec<u64>,
    kind: Option<Kind>,
    database: Option<u32>,
    address: Option<Vec<u8>>,
    asked_address: Option<Vec<u8>>,
    ip: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    lib_name: Option<Vec<u8>>,
    lib_version: Option<Vec<u8>>,
    flags: Option<Vec<u8>>,
    capabilities: Option<Vec<u8>>,
}

/// `getClientTypeByName`. A store has no replicas and no primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Pubsub,
    Replication,
}

impl Filter {
    /// The filter of CLIENT KILL; `words` are its arguments. One alone is an address: the old form, which
    /// may end the client that asks.
    ///
    /// # Errors
    /// Valkey's reply to words that make no sense.
    pub fn kill(words: &[&[u8]], asked: &Asked<'_>) -> Result<Self, Vec<u8>> {
        if let [address] = words {
            return Ok(Self {
                only: Terms {
                    address: Some(address.to_vec()),
                    ..Terms::default()
                },
                ..Self::default()
            });
        }
        Self {
            skips_asker: true,
            ..Self::default()
        }
        .read(words, asked)
    }

    /// The filter of CLIENT LIST; `words` are its arguments.
    ///
    /// # Errors
    /// Valkey's reply to words that make no sense.
    pub fn list(words: &[&[u8]], asked: &Asked<'_>) -> Result<Self, Vec<u8>> {
        let filter = Self::default();
        if asked.release >= ONE_PARSER {
            return filter.read(words, asked);
        }
        match words {
            [] => Ok(filter),
            [word, kind] if is(word, "type") => Ok(Self {
                only: Terms {
                    kind: Some(parse_kind(kind)?),
                    ..Terms::default()
                },
                ..filter
            }),
            [word, ids @ ..] if is(word, "id") && !ids.is_empty() => {
                let mut listed = Vec::new();
                for id in ids {
                    let id = number::parse(id).ok_or_else(|| error("ERR Invalid client ID"))?;
                    listed.extend(u64::try_from(id).ok());
                }
                Ok(Self {
                    listed: Some(listed),
                    ..filter
                })
            }
            _ => Err(SYNTAX_ERROR.to_vec()),
        }
    }

    fn read(mut self, words: &[&[u8]], asked: &Asked<'_>) -> Result<Self, Vec<u8>> {
        let mut at = 0;
        while let Some(&option) = words.get(at) {
            let Some(&value) = words.get(at + 1) else {
                return Err(SYNTAX_ERROR.to_vec());
            };
            at += 2;
            let many = asked.release >= MANY_FILTERS;
            let (negated, word) = match option.get(..4) {
                Some(start) if many && is(start, "not-") => (true, &option[4..]),
                _ => (false, option),
            };
            if is(word, "id") {
                let terms = if negated {
                    &mut self.not
                } else {
                    &mut self.only
                };
                let mut ids = vec![client_id(value, asked)?];
                if asked.release >= ONE_PARSER {
                    while let Some(more) = words.get(at).and_then(|word| number::parse(word)) {
                        ids.push(positive_id(more)?);
                        at += 1;
                    }
                } else {
                    terms.ids.clear();
                }
                terms.ids.extend(ids);
                continue;
            }
            if !negated && self.about_session(word, value, many)? {
                continue;
            }
            let terms = if negated {
                &mut self.not
            } else {
                &mut self.only
            };
            if !terms.take(word, value, asked)? {
                return Err(SYNTAX_ERROR.to_vec());
            }
        }
        Ok(self)
    }

    /// Options that cannot be negated; whether it was one of them.
    fn about_session(&mut self, word: &[u8], value: &[u8], many: bool) -> Result<bool, Vec<u8>> {
        if is(word, "maxage") {
            self.max_age_seconds = Some(seconds(value, "maxage")?);
        } else if many && is(word, "idle") {
            self.idle_seconds = Some(seconds(value, "idle")?);
        } else if is(word, "skipme") {
            self.skips_asker = match value {
                value if is(value, "yes") => true,
                value if is(value, "no") => false,
                _ => return Err(SYNTAX_ERROR.to_vec()),
            };
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether this client is meant.
    #[must_use]
    pub fn matches(&self, client: &Client<'_>) -> bool {
        let old_enough = |least: Option<u64>, is: u64| least.is_none_or(|least| is >= least);
        !(client.asks && self.skips_asker)
            && old_enough(self.max_age_seconds, client.age_seconds)
            && old_enough(self.idle_seconds, client.idle_seconds)
            && self.only.all(client)
            && !self.not.any(client)
    }
}

impl Terms {
    /// Takes one option; whether it is known.
    fn take(&mut self, word: &[u8], value: &[u8], asked: &Asked<'_>) -> Result<bool, Vec<u8>> {
        let many = asked.release >= MANY_FILTERS;
        let text = match word {
            word if is(word, "addr") => &mut self.address,
            word if is(word, "laddr") => &mut self.asked_address,
            word if many && is(word, "ip") => &mut self.ip,
            word if many && is(word, "name") => &mut self.name,
            word if many && is(word, "lib-name") => &mut self.lib_name,
            word if many && is(word, "lib-ver") => &mut self.lib_version,
            word if is(word, "user") => {
                if !(asked.is_user)(value) {
                    return Err(error([b"ERR No such user '", value, b"'"].concat()));
                }
                &mut self.user
            }
            word if many && is(word, "flags") => {
                only_letters(value, FLAG_LETTERS, "flags")?;
                &mut self.flags
            }
            word if many && is(word, "capa") => {
                only_letters(value, CAPABILITY_LETTERS, "capa")?;
                &mut self.capabilities
            }
            word if many && is(word, "db") => {
                self.database = Some(database(value, asked.databases)?);
                return Ok(true);
            }
            word if is(word, "type") => {
                self.kind = Some(parse_kind(value)?);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *text = Some(value.to_vec());
        Ok(true)
    }

    /// Each term that is given, and whether the client is so.
    fn verdicts(&self, client: &Client<'_>) -> impl Iterator<Item = bool> {
        let (entry, named) = (client.entry, client.named);
        let text = |wanted: &Option<Vec<u8>>, is: &dyn Fn() -> Vec<u8>| {
            wanted.as_ref().map(|wanted| *wanted == is())
        };
        // A client without a name has none that could be empty.
        let said = |wanted: &Option<Vec<u8>>, is: &[u8]| {
            wanted
                .as_ref()
                .map(|wanted| !is.is_empty() && wanted.as_slice() == is)
        };
        let holds = |wanted: &Option<Vec<u8>>, has: &str| {
            wanted
                .as_ref()
                .map(|wanted| wanted.iter().all(|letter| has.as_bytes().contains(letter)))
        };
        let kind = if client.look.flags & PUBSUB == 0 {
            Kind::Normal
        } else {
            Kind::Pubsub
        };
        [
            (!self.ids.is_empty()).then(|| self.ids.contains(&entry.id)),
            self.kind.map(|wanted| wanted == kind),
            self.database.map(|wanted| wanted == named.database),
            text(&self.address, &|| entry.peer.to_string().into_bytes()),
            text(&self.asked_address, &|| {
                entry.asked.to_string().into_bytes()
            }),
            text(&self.ip, &|| entry.peer.ip().to_string().into_bytes()),
            text(&self.user, &|| named.user.clone()),
            said(&self.name, &named.name),
            said(&self.lib_name, &named.lib_name),
            said(&self.lib_version, &named.lib_version),
            holds(&self.flags, &letters(client.look.flags)),
            holds(&self.capabilities, if named.redirect { "r" } else { "" }),
        ]
        .into_iter()
        .flatten()
    }

    fn all(&self, client: &Client<'_>) -> bool {
        self.verdicts(client).all(|verdict| verdict)
    }

    fn any(&self, client: &Client<'_>) -> bool {
        self.verdicts(client).any(|verdict| verdict)
    }
}

fn error(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::error(text, &mut bytes);
    bytes
}

fn client_id(text: &[u8], asked: &Asked<'_>) -> Result<u64, Vec<u8>> {
    match number::parse(text) {
        Some(id) => positive_id(id),
        None if asked.release >= ONE_PARSER => Err(SYNTAX_ERROR.to_vec()),
        None => positive_id(0),
    }
}

fn positive_id(id: i64) -> Result<u64, Vec<u8>> {
    let positive = u64::try_from(id).ok().filter(|id| *id > 0);
    positive.ok_or_else(|| error("ERR client-id should be greater than 0"))
}

fn seconds(text: &[u8], option: &str) -> Result<u64, Vec<u8>> {
    let seconds = number::parse(text)
        .ok_or_else(|| error(format!("ERR {option} is not an integer or out of range")))?;
    let positive = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    positive.ok_or_else(|| error(format!("ERR {option} should be greater than 0")))
}

fn database(text: &[u8], databases: u32) -> Result<u32, Vec<u8>> {
    let number =
        number::parse(text).ok_or_else(|| error("ERR DB is not an integer or out of range"))?;
    let known = u32::try_from(number).ok().filter(|n| *n < databases);
    known.ok_or_else(|| {
        let last = databases.saturating_sub(1);
        error(format!("ERR DB number should be between 0 and {last}"))
    })
}

fn only_letters(text: &[u8], known: &[u8], what: &str) -> Result<(), Vec<u8>> {
    if text.iter().all(|letter| known.contains(letter)) {
        return Ok(());
    }
    let start = format!("ERR Unknown {what} found in the provided filter: ");
    Err(error([start.as_bytes(), text].concat()))
}

fn parse_kind(text: &[u8]) -> Result<Kind, Vec<u8>> {
    match text {
        text if is(text, "normal") => Ok(Kind::Normal),
        text if is(text, "pubsub") => Ok(Kind::Pubsub),
        text if ["master", "primary", "slave", "replica"]
            .iter()
            .any(|k| is(text, k)) =>
        {
            Ok(Kind::Replication)
        }
        text => Err(error(
            [b"ERR Unknown client type '", until_nul(text), b"'"].concat(),
        )),
    }
}

#[cfg(test)]
mod tests;
