//! Finding the primary of a replicated Valkey: by asking Sentinels, or the nodes themselves.
//!
//! What a Sentinel tells is believed once the node says `master` in answer to ROLE, as Valkey's guidelines for
//! Sentinel clients ask for. Of Sentinels that disagree, the one with the newest configuration is right
//! (`config-epoch` in sentinel.c): one that is cut off tells of an earlier primary.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult, Value};

use super::{Login, Reach, UpstreamAddress, dial};
use crate::config::Endpoint;

/// How long one node may take to answer: one that hangs must not keep flect from the others.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Sentinels, and what they call the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    pub master: String,
    pub addresses: Vec<Endpoint>,
    pub login: Login,
    pub tls: bool,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It follows another, or nobody yet.
    Replica,
    /// It takes writes. Of two, the one with more replicas is the primary, then the one with more history:
    /// a former primary that has come back has none yet.
    Primary { replicas: usize, offset: i64 },
}

/// Asks one question over a connection of its own.
pub(super) async fn ask<T: FromRedisValue>(
    address: &UpstreamAddress,
    login: &Login,
    question: &Cmd,
) -> RedisResult<T> {
    let asked = async {
        let stream = dial(address).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_WITHIN));
        let login = login.to_redis();
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, config).await?;
        // It ends with the connection.
        tokio::spawn(driver);
        question.query_async(&mut connection).await
    };
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Reads a reply to ROLE.
pub fn standing(role: &Value) -> Option<Standing> {
    let Value::Array(fields) = role else {
        return None;
    };
    let word: String = redis::from_redis_value(fields.first()?.clone()).ok()?;
    if word != "master" {
        return Some(Standing::Replica);
    }
    let offset = redis::from_redis_value(fields.get(1)?.clone()).ok()?;
    let replicas = match fields.get(2) {
        Some(Value::Array(replicas)) => replicas.len(),
        _ => 0,
    };
    Some(Standing::Primary { replicas, offset })
}

/// The standing of the node at an address.
async fn standing_at(address: &UpstreamAddress, login: &Login) -> io::Result<Standing> {
    let role = ask(address, login, &redis::cmd("ROLE")).await;
    let role: Value = role.map_err(io::Error::other)?;
    standing(&role).ok_or_else(|| io::Error::other("it does not say what it is"))
}

impl Reach {
    /// The primary among these nodes.
    pub(super) async fn primary_of(
        &self,
        nodes: &[Endpoint],
        login: &Login,
    ) -> io::Result<UpstreamAddress> {
        let asked = nodes.iter().map(|node| async move {
            let mut failure = None;
            for address in self.resolve(node).await? {
                match standing_at(&address, login).await {
                    Ok(standing) => return Ok((standing, address)),
                    Err(error) => failure = Some(error),
                }
            }
            Err(failure.unwrap_or_else(|| io::Error::other("it has no address")))
        });
        let mut failures = Vec::new();
        let mut best: Option<(Standing, UpstreamAddress)> = None;
        for (node, answer) in nodes.iter().zip(join_all(asked).await) {
            match answer {
                Ok((Standing::Replica, _)) => failures.push(format!("{node} is a replica")),
                // Of equals the first in the configuration.
                Ok(found) if best.as_ref().is_none_or(|best| found.0 > best.0) => {
                    best = Some(found);
                }
                Ok(_) => {}
                Err(error) => failures.push(format!("{node}: {error}")),
            }
        }
        best.map(|(_, address)| address)
            .ok_or_else(|| io::Error::other(format!("no primary: {}", failures.join("; "))))
    }

    /// Where Sentinels say that the primary is; not asked itself yet.
    pub(super) async fn told_by(&self, sentinels: &Sentinels) -> io::Result<Vec<UpstreamAddress>> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("MASTER").arg(&sentinels.master);
        let question = &question;
        let asked = sentinels.addresses.iter().map(|sentinel| async move {
            let mut failure = None;
            for address in self.resolve_with(sentinel, sentinels.tls).await? {
                match ask(&address, &sentinels.login, question).await {
                    Ok(told) => return told_place(&told),
                    Err(error) => failure = Some(io::Error::other(error)),
                }
            }
            Err(failure.unwrap_or_else(|| io::Error::other("it has no address")))
        });
        let mut failures = Vec::new();
        let mut newest: Option<(u64, Endpoint)> = None;
        for (sentinel, answer) in sentinels.addresses.iter().zip(join_all(asked).await) {
            match answer {
                Ok(told) if newest.as_ref().is_none_or(|newest| told.0 > newest.0) => {
                    newest = Some(told);
                }
                Ok(_) => {}
                Err(error) => failures.push(format!("{sentinel}: {error}")),
            }
        }
        let Some((_, place)) = newest else {
            let text = format!("no Sentinel answers: {}", failures.join("; "));
            return Err(io::Error::other(text));
        };
        self.resolve(&place).await
    }

    /// The same, believed: the node there says so too.
    pub(super) async fn primary_by(
        &self,
        sentinels: &Sentinels,
        login: &Login,
    ) -> io::Result<UpstreamAddress> {
        let mut failures = Vec::new();
        for address in self.told_by(sentinels).await? {
            match standing_at(&address, login).await {
                Ok(Standing::Primary { .. }) => return Ok(address),
                Ok(Standing::Replica) => {
                    failures.push(format!(
                        "{address} is a replica, though Sentinels tell of it"
                    ));
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(io::Error::other(failures.join("; ")))
    }
}

/// Address and `config-epoch` in the reply to SENTINEL MASTER.
fn told_place(told: &HashMap<String, String>) -> io::Result<(u64, Endpoint)> {
    let field = |name: &str| {
        let text = told.get(name).map(String::as_str);
        text.ok_or_else(|| io::Error::other(format!("its answer has no '{name}'")))
    };
    let number = |text: &str| {
        let number = text.parse::<u64>();
        number.map_err(|_| io::Error::other(format!("'{text}' is no number")))
    };
    let port = number(field("port")?)?;
    let port = u16::try_from(port).map_err(io::Error::other)?;
    let host = field("ip")?.to_owned();
    Ok((number(field("config-epoch")?)?, Endpoint { host, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings_are_read_and_compared() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let replica = Value::Array(vec![text("127.0.0.1"), text("6380"), text("5")]);
        let check = |role: Vec<Value>, expect: Option<Standing>| {
            assert_eq!(standing(&Value::Array(role)), expect);
        };
        let primary = |replicas, offset| Standing::Primary { replicas, offset };
        check(
            vec![text("master"), Value::Int(7), Value::Array(vec![replica])],
            Some(primary(1, 7)),
        );
        check(
            vec![text("master"), Value::Int(0), Value::Array(Vec::new())],
            Some(primary(0, 0)),
        );
        check(
            vec![text("slave"), text("127.0.0.1")],
            Some(Standing::Replica),
        );
        check(Vec::new(), None);
        assert_eq!(standing(&Value::Okay), None);
        assert!(primary(0, 0) > Standing::Replica);
        assert!(primary(1, 3) > primary(0, 9));
        assert!(primary(0, 9) > primary(0, 3));
    }

    #[test]
    fn a_sentinels_answer_is_read() {
        let told = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            told_place(&pairs.collect()).map(|(epoch, place)| format!("{epoch} {place}"))
        };
        let whole = [
            ("ip", "::1"),
            ("port", "6379"),
            ("config-epoch", "3"),
            ("name", "x"),
        ];
        assert_eq!(told(&whole).unwrap(), "3 [::1]:6379");
        for missing in 0..3 {
            let mut pairs = whole.to_vec();
            pairs.remove(missing);
            assert!(told(&pairs).is_err());
        }
        assert!(told(&[("ip", "h"), ("port", "70000"), ("config-epoch", "3")]).is_err());
    }
}
