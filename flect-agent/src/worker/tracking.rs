//! CLIENT TRACKING: what a session has asked for, as the server would judge it.
//!
//! Invariant: a request is sent on only when the server will take it, so the agent knows the state of
//! tracking for certain, and tells it (GETREDIR, TRACKINGINFO) in the app's own ids and prefixes.
//! Nothing that the app writes gets to the server but prefixes behind the store's own.

use std::collections::BTreeSet;

use crate::resp::request::Request;
use crate::resp::{Protocol, encode, number};
use crate::rewrite::words::{is, until_nul};
use crate::store::Prefix;

/// PREFIXes of one session: each stands in the server once for every database, and the server looks
/// at each at every write of any store.
const PREFIXES_MAX: usize = 64;

const SYNTAX: &str = "ERR syntax error";

/// What the server keeps for a connection (`struct client` in server.h), in the app's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    pub on: bool,
    pub bcast: bool,
    optin: bool,
    optout: bool,
    noloop: bool,
    /// CLIENT CACHING holds for the next command.
    pub caching: bool,
    /// The app's id of the session that gets the invalidations; 0 is the session itself.
    pub redirect: u64,
    /// The server has told that there is nobody of that id any more.
    pub broken: bool,
    prefixes: BTreeSet<Vec<u8>>,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    on: bool,
    options: Tracking,
    given: Vec<Vec<u8>>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The state when it has taken effect.
    pub after: Tracking,
    /// Tracking must be off for a moment, since the server cannot change what is on.
    pub anew: bool,
    /// The prefixes that the server gets.
    pub stored: Vec<Vec<u8>>,
}

/// An error reply's text.
type Refusal = Vec<u8>;

impl Asked {
    /// Reads the options as `clientCommand` in networking.c does. `exists` says whether there is a
    /// session of an id.
    pub fn read(request: &Request<'_>, exists: impl Fn(u64) -> bool) -> Result<Self, Refusal> {
        let mut options = Tracking::default();
        let mut given = Vec::new();
        let mut at = 3;
        while let Some(word) = request.get(at) {
            let value = request.get(at + 1);
            if is(word, b"redirect")
                && let Some(value) = value
            {
                if options.redirect != 0 {
                    return Err(b"ERR A client can only redirect to a single other client".into());
                }
                let id = number::parse(value).ok_or_else(|| {
                    Refusal::from(b"ERR value is not an integer or out of range".as_slice())
                })?;
                let id = u64::try_from(id).unwrap_or_default();
                if id == 0 || !exists(id) {
                    return Err(b"ERR The client ID you want redirect to does not exist".into());
                }
                options.redirect = id;
                at += 1;
            } else if is(word, b"prefix")
                && let Some(value) = value
            {
                given.push(value.to_vec());
                at += 1;
            } else if is(word, b"bcast") {
                options.bcast = true;
            } else if is(word, b"optin") {
                options.optin = true;
            } else if is(word, b"optout") {
                options.optout = true;
            } else if is(word, b"noloop") {
                options.noloop = true;
            } else {
                return Err(SYNTAX.into());
            }
            at += 1;
        }
        let on = is(request.arg(2), b"on");
        if !on && !is(request.arg(2), b"off") {
            return Err(SYNTAX.into());
        }
        options.on = on;
        Ok(Self { on, options, given })
    }

    /// Whose invalidations go where; 0 for the session itself.
    pub fn redirect(&self) -> u64 {
        if self.on { self.options.redirect } else { 0 }
    }
}

impl Tracking {
    /// What a request changes, or why the server would refuse it. `None`: nothing.
    pub fn change(
        &self,
        asked: Asked,
        prefix: &Prefix,
        databases: u32,
    ) -> Result<Option<Change>, Refusal> {
        let Asked { on, options, given } = asked;
        if !on {
            return Ok(Some(Change {
                after: Self::default(),
                anew: false,
                stored: Vec::new(),
            }));
        }
        self.judge(&options, &given)?;
        let mut after = options;
        after.caching = self.caching;
        after.prefixes.clone_from(&self.prefixes);
        let mut stored = Vec::new();
        let mut anew = false;
        if after.bcast && given.is_empty() {
            // The server would tell of every key that it has; it gets the beginning of all the
            // store's keys, whatever their database, for invalidations know no databases.
            after.prefixes.insert(Vec::new());
            stored = vec![prefix.as_str().as_bytes().to_vec()];
            anew = !self.prefixes.is_empty();
        } else if after.bcast {
            if self.prefixes.len() + given.len() > PREFIXES_MAX {
                let text =
                    format!("ERR a session of a store tracks at most {PREFIXES_MAX} prefixes");
                return Err(text.into_bytes());
            }
            for name in given {
                if name.is_empty() {
                    stored.push(prefix.as_str().as_bytes().to_vec());
                } else {
                    let keys = |number| [prefix.namespace(number).keys(), &name].concat();
                    stored.extend((0..databases).map(keys));
                }
                after.prefixes.insert(name);
            }
        }
        Ok((after != *self).then_some(Change {
            after,
            anew,
            stored,
        }))
    }

    /// The checks in their order.
    fn judge(&self, new: &Self, given: &[Vec<u8>]) -> Result<(), Refusal> {
        let refusal = if !new.bcast && !given.is_empty() {
            "ERR PREFIX option requires BCAST mode to be enabled"
        } else if self.on && self.bcast != new.bcast {
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
        } else if new.bcast && (new.optin || new.optout) {
            "ERR OPTIN and OPTOUT are not compatible with BCAST"
        } else if new.optin && new.optout {
            "ERR You can't specify both OPTIN mode and OPTOUT mode"
        } else if new.optin && self.optout || new.optout && self.optin {
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
        } else {
            return self.no_overlap(given);
        };
        Err(refusal.into())
    }

    /// Two prefixes of a session must not begin alike (`checkPrefixCollisionsOrReply` in tracking.c).
    /// The server answers some overlaps twice (valkey#3582), so none of them may get to it.
    fn no_overlap(&self, given: &[Vec<u8>]) -> Result<(), Refusal> {
        let alike = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        for (i, name) in given.iter().enumerate() {
            let known = self.prefixes.iter().find(|known| alike(known, name));
            let twice = given[i + 1..].iter().find(|other| alike(other, name));
            let (other, which) = match (known, twice) {
                (Some(known), _) => (known, b"an existing".as_slice()),
                (None, Some(twice)) => (twice, b"another provided".as_slice()),
                (None, None) => continue,
            };
            let parts: [&[u8]; 7] = [
                b"ERR Prefix '",
                until_nul(name),
                b"' overlaps with ",
                which,
                b" prefix '",
                until_nul(other),
                b"'. Prefixes for a single client must not overlap.",
            ];
            return Err(parts.concat());
        }
        Ok(())
    }

    /// CLIENT CACHING is on its way, which the server takes or not.
    pub fn cache(&mut self, request: &Request<'_>) {
        let word = request.get(2).unwrap_or_default();
        self.caching |=
            self.on && (self.optin && is(word, b"yes") || self.optout && is(word, b"no"));
    }

    /// CLIENT GETREDIR.
    pub fn redirection(&self) -> i64 {
        match self.on {
            true => i64::try_from(self.redirect).unwrap_or(i64::MAX),
            false => -1,
        }
    }

    /// CLIENT TRACKINGINFO.
    pub fn info(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let flags = [
            (self.on, "on"),
            (!self.on, "off"),
            (self.bcast, "bcast"),
            (self.optin, "optin"),
            (self.optin && self.caching, "caching-yes"),
            (self.optout, "optout"),
            (self.optout && self.caching, "caching-no"),
            (self.noloop, "noloop"),
            (self.broken, "broken_redirect"),
        ];
        let flags: Vec<&str> = flags
            .iter()
            .filter_map(|(set, name)| set.then_some(*name))
            .collect();
        encode::map(protocol, 3, out);
        encode::bulk("flags", out);
        encode::set(protocol, flags.len(), out);
        for flag in flags {
            encode::bulk(flag, out);
        }
        encode::bulk("redirect", out);
        encode::integer(self.redirection(), out);
        encode::bulk("prefixes", out);
        encode::array(self.prefixes.len(), out);
        for prefix in &self.prefixes {
            encode::bulk(prefix, out);
        }
    }
}

impl Change {
    /// The request for the server, which knows the other session's connection as `real`.
    pub fn request(&self, real: u64) -> Vec<u8> {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING"];
        let real = real.to_string();
        words.push(if self.after.on { b"ON" } else { b"OFF" });
        if self.after.redirect != 0 {
            words.extend([b"REDIRECT".as_slice(), real.as_bytes()]);
        }
        let options: [(bool, &[u8]); 4] = [
            (self.after.bcast, b"BCAST"),
            (self.after.optin, b"OPTIN"),
            (self.after.optout, b"OPTOUT"),
            (self.after.noloop, b"NOLOOP"),
        ];
        words.extend(
            options
                .iter()
                .filter_map(|(set, word)| set.then_some(*word)),
        );
        for prefix in &self.stored {
            words.extend([b"PREFIX".as_slice(), prefix]);
        }
        let mut request = Vec::new();
        encode::request(&words, &mut request);
        request
    }
}

#[cfg(test)]
mod tests;
