//! Connections besides the operator's: a store's own user, and other servers.

use std::time::Duration;

use super::TransferError;
use crate::config::{Endpoint, Tls, Valkey};
use crate::environment::Credentials;
use crate::reach::{Link, Login, Reach, Times};

const TIMES: Times = Times {
    // Values of hundreds of megabytes take seconds each.
    answer: Duration::from_secs(120),
    connect: Duration::from_secs(6),
};

/// Another server's database.
#[derive(Clone)]
pub struct Source {
    /// Where it is.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user; none is the default one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// The database.
    pub database: u32,
    /// How it is told from others, where it speaks TLS.
    pub tls: Option<Tls>,
}

impl Source {
    /// Reads `redis://[user[:password]@]host[:port][/database]`; `valkey://` is the same, `rediss://` and
    /// `valkeys://` are with TLS, by the authorities that the system trusts.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, TransferError> {
        let wrong = |reason: &str| {
            // The text may hold a password: it is not repeated.
            TransferError::Address(format!(
                "--from: {reason}; expected redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// with TLS"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no address"))?;
        let tls = match scheme {
            "redis" | "valkey" => None,
            "rediss" | "valkeys" => Some(Tls::default()),
            _ => return Err(wrong("the address does not begin with redis://")),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (decoded(user), decoded(password)),
            None => (None, None),
        };
        let (place, database) = place.split_once('/').unwrap_or((place, ""));
        let database = match database.split('?').next().unwrap_or_default() {
            "" => 0,
            digits => digits
                .parse()
                .map_err(|_| wrong("the database is no number"))?,
        };
        let (host, port) = match place.rsplit_once(':') {
            // Of [::1] the last colon is no port's.
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| wrong("the port is no number"))?;
                (host, port)
            }
            _ => (place, 6379),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            user,
            password,
            database,
            tls,
        })
    }

    /// Where it is, without the password.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

/// Text with `%40` and the like, as URLs have it; nothing is none.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        match (
            first,
            digits.and_then(|two| u8::from_str_radix(two, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (!text.is_empty()).then_some(text)
}

/// Connects to another server.
///
/// # Errors
/// When it cannot be reached, does not prove itself or refuses the password, or a file of `tls` cannot be used.
pub async fn connect_to(source: &Source) -> Result<Link, TransferError> {
    let login = Login::new(source.user.clone(), source.password.clone());
    let login = login.to_redis().set_db(i64::from(source.database));
    let endpoint = Endpoint {
        host: source.host.clone(),
        port: source.port,
    };
    let reach = Reach::single(endpoint, source.tls.as_ref())?;
    Ok(Link::open(reach, login, TIMES).await?)
}

/// Connects to the environment's Valkey as a store's own user.
///
/// # Errors
/// When it cannot be reached or does not know the user.
pub async fn connect_as(valkey: &Valkey, credentials: &Credentials) -> Result<Link, TransferError> {
    // A store's user may not say CLIENT SETINFO to the server itself, nor need it: its refusal is passed over.
    let login = Login::from(credentials).to_redis();
    Ok(Link::open(Reach::of(valkey)?, login, TIMES).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls() {
        let check = |text: &str, expect: &str| {
            let source = Source::parse(text).ok();
            let found = source.map_or_else(String::new, |s| {
                let login = format!(
                    "{}/{}",
                    s.user.unwrap_or_default(),
                    s.password.unwrap_or_default()
                );
                let tls = if s.tls.is_some() { " TLS" } else { "" };
                format!("{} {} {login} {}{tls}", s.host, s.port, s.database)
            });
            assert_eq!(found, expect, "{text}");
        };
        check("redis://h", "h 6379 / 0");
        check("redis://h:7/3", "h 7 / 3");
        check("valkey://:p%40x@h/", "h 6379 /p@x 0");
        check("redis://u:p@[::1]:7/1", "::1 7 u/p 1");
        check("redis://[::1]", "::1 6379 / 0");
        check("rediss://u@h:7", "h 7 u/ 0 TLS");
        check("valkeys://h", "h 6379 / 0 TLS");
        for wrong in [
            "h:1",
            "http://h",
            "redisss://h",
            "redis://",
            "redis://h:x",
            "redis://h/x",
        ] {
            check(wrong, "");
        }
        let error = Source::parse("http://u:secret@h")
            .err()
            .unwrap()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
