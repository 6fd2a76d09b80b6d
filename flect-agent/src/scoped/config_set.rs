//! CONFIG SET: the store's own settings are changed; what is the whole server's is not.
//!
//! Invariant: all of a request is judged before any of it is done, in Valkey's order and words
//! (`configSetCommand` in config.c).

use super::settings::{View, get, pairs};
use super::walk::misunderstood;
use super::{Reply, Step};
use crate::environment::Setting;
use crate::resp::encode;

/// Settings that no server changes while it runs, of those which an app may see. Setting one is an error
/// even to its own value.
const IMMUTABLE: &[&str] = &[
    "aclfile",
    "cluster-enabled",
    "daemonize",
    "databases",
    "io-threads-do-reads",
    "pidfile",
    "unixsocket",
];

/// Settings of which a private Valkey asks for a special right.
const PROTECTED: &[&str] = &["dbfilename"];

/// A CONFIG SET under way.
#[derive(Debug)]
pub struct ConfigSet {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    view: View,
    /// The control side has been asked to keep what is new.
    keeping: bool,
}

impl ConfigSet {
    /// Names and values, as the app sent them.
    #[must_use]
    pub fn new(pairs: Vec<(Vec<u8>, Vec<u8>)>, view: View) -> Self {
        Self {
            pairs,
            view,
            keeping: false,
        }
    }

    /// Asks the server which of the names it has. One with a wildcard is none.
    pub(super) fn ask(&self) -> Step {
        let plain = |name: &&[u8]| !name.iter().any(|byte| b"*?[".contains(byte));
        let names = self.pairs.iter().map(|(name, _)| name.as_slice());
        let mut names: Vec<&[u8]> = names.filter(plain).collect();
        if names.is_empty() {
            // Something must be asked for, and the answer holds none of the app's names.
            names.push(b"databases");
        }
        get(names.into_iter())
    }

    pub(super) fn take(&mut self, reply: &Reply) -> Step {
        if self.keeping {
            return Step::Done(b"+OK\r\n".to_vec());
        }
        let Some(found) = pairs(reply) else {
            return misunderstood();
        };
        match self.judge(&found) {
            Err(error) => Step::Done(error),
            Ok(changes) if changes.is_empty() => Step::Done(b"+OK\r\n".to_vec()),
            Ok(changes) => {
                self.keeping = true;
                Step::Keep(changes)
            }
        }
    }

    /// What has to change.
    fn judge(&self, found: &[(&[u8], &[u8])]) -> Result<Vec<(Setting, i64)>, Vec<u8>> {
        for (at, (name, _)) in self.pairs.iter().enumerate() {
            if !found
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                let text = b"ERR Unknown option or number of arguments for CONFIG SET - '";
                return Err(error(&[text, name, b"'"]));
            }
            let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
            if IMMUTABLE.iter().any(|known| is(known)) {
                return Err(failed(name, "can't set immutable config"));
            }
            if PROTECTED.iter().any(|known| is(known)) {
                return Err(failed(name, "can't set protected config"));
            }
            let twice = |(other, _): &(Vec<u8>, Vec<u8>)| {
                other.eq_ignore_ascii_case(name)
                    || Setting::find(name).is_some_and(|own| Setting::find(other) == Some(own))
            };
            if self.pairs[..at].iter().any(twice) {
                return Err(failed(name, "duplicate parameter"));
            }
        }
        let mut changes = Vec::new();
        for (name, value) in &self.pairs {
            if let Some(setting) = Setting::find(name) {
                let value = setting
                    .parse(value)
                    .map_err(|why| failed(canonical(setting, name), &why))?;
                if self.view.own(setting) != Some(value) {
                    changes.push((setting, value));
                }
                continue;
            }
            let is = |known: &[u8]| known.eq_ignore_ascii_case(name);
            let on_server = found.iter().find(|(known, _)| is(known));
            let current = on_server.and_then(|(_, on_server)| self.view.value(name, on_server));
            if !current.is_some_and(|current| is_same(&current, value)) {
                return Err(error(&[
                    b"NOPERM CONFIG SET is not available in a store for '",
                    &name.to_ascii_lowercase(),
                    b"': it is the whole server's setting; ask the operator of this Valkey",
                ]));
            }
        }
        Ok(changes)
    }
}

/// Valkey names a setting in such an error by the name that it has found it by.
fn canonical(setting: Setting, name: &[u8]) -> &[u8] {
    let known = setting.name().as_bytes();
    if known.eq_ignore_ascii_case(name) {
        known
    } else {
        name
    }
}

/// Whether two texts mean the same value: words in any case, numbers with a unit of memory or without.
fn is_same(current: &[u8], wanted: &[u8]) -> bool {
    current.eq_ignore_ascii_case(wanted)
        || memory_bytes(current).is_some_and(|bytes| memory_bytes(wanted) == Some(bytes))
}

/// Bytes as `memtoull` in util.c reads them.
fn memory_bytes(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn failed(name: &[u8], why: &str) -> Vec<u8> {
    let text = b"ERR CONFIG SET failed (possibly related to argument '";
    error(&[text, name, b"') - ", why.as_bytes()])
}

fn error(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::error(parts.concat(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> String {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let pairs = pairs.iter().map(|(n, v)| (bytes(n), bytes(v))).collect();
        let mut task = ConfigSet::new(pairs, View::default());
        let server = [
            "maxmemory",
            "100mb",
            "dir",
            "/srv",
            "requirepass",
            "hunter2",
            "databases",
            "16",
        ];
        let found = server
            .iter()
            .map(|word| Reply::Bytes(bytes(word)))
            .collect();
        match task.take(&Reply::Array(found)) {
            Step::Done(reply) => String::from_utf8(reply).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_so_already_may_be_set_and_secrets_are_not_compared() {
        assert_eq!(said(&[("MaxMemory", "104857600")]), "+OK\r\n");
        assert_eq!(said(&[("requirepass", "")]), "+OK\r\n");
        for refused in [
            ("maxmemory", "1"),
            ("requirepass", "hunter2"),
            ("dir", "/srv"),
        ] {
            let reply = said(&[refused]);
            assert!(reply.starts_with("-NOPERM CONFIG SET"), "{reply}");
        }
    }

    #[test]
    fn the_first_mistake_is_told_in_valkeys_words() {
        for (pairs, expect) in [
            (
                &[("nope", "1"), ("databases", "1")][..],
                "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
            ),
            (
                &[("databases", "16")],
                "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                &[("maxmemory", "1"), ("MAXMEMORY", "1")],
                "-ERR CONFIG SET failed (possibly related to argument 'MAXMEMORY') - duplicate parameter",
            ),
        ] {
            assert_eq!(said(pairs).trim_end(), expect);
        }
    }
}
