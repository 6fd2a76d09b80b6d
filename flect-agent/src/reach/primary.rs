//! Finding the primary of a replicated Valkey: by asking Sentinels, or the nodes themselves.
//!
//! What a Sentinel tells is believed once the node says `master` in answer to ROLE, as Valkey's guidelines for
//! Sentinel clients ask for. Of Sentinels that disagree, the one with the newest configuration is right
//! (`config-epoch` in sentinel.c): one that is cut off tells of an earlier primary.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult, Value};

use super::{Login, Place, Reach, UpstreamAddress, dial};
use crate::config::Endpoint;

/// How long one node may take to answer: one that hangs must not keep flect from the others.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long the last ones are waited for when most Sentinels have answered: those that have not are mostly gone
/// with the machine whose primary is being replaced, and no primary is replaced without most of them.
const LAST_WITHIN: Duration = Duration::from_millis(100);

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

/// A connection for a few questions, each to be answered within 2 seconds.
///
/// # Errors
/// When the server cannot be reached within 2 seconds or refuses the login.
async fn converse(address: &UpstreamAddress, login: &Login) -> RedisResult<MultiplexedConnection> {
    let connected = async {
        let stream = dial(address).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_WITHIN));
        let login = login.to_redis();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, config).await?;
        // It ends with the connection.
        tokio::spawn(driver);
        Ok(connection)
    };
    in_time(connected).await
}

/// Asks one question over a connection of its own.
pub(super) async fn ask<T: FromRedisValue>(
    address: &UpstreamAddress,
    login: &Login,
    question: &Cmd,
) -> RedisResult<T> {
    let asked = async {
        let mut connection = converse(address, login).await?;
        question.query_async(&mut connection).await
    };
    in_time(asked).await
}

async fn in_time<T>(work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(ANSWER_WITHIN, work).await {
        Ok(done) => done,
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
        let mut failures = Vec::new();
        let mut newest: Option<(u64, Endpoint)> = None;
        for answer in self.ask_sentinels(sentinels, &question).await {
            match answer.and_then(|told| told_place(&told)) {
                Ok(told) if newest.as_ref().is_none_or(|newest| told.0 > newest.0) => {
                    newest = Some(told);
                }
                Ok(_) => {}
                Err(error) => failures.push(error.to_string()),
            }
        }
        let Some((_, place)) = newest else {
            let text = format!("no Sentinel answers: {}", failures.join("; "));
            return Err(io::Error::other(text));
        };
        self.resolve(&place).await
    }

    /// What Sentinels answer. When most have, the last ones have little time.
    async fn ask_sentinels<T: FromRedisValue>(
        &self,
        sentinels: &Sentinels,
        question: &Cmd,
    ) -> Vec<io::Result<T>> {
        let all = &sentinels.addresses;
        let asked = all.iter().map(|sentinel| async move {
            let mut failure = io::Error::other("it has no address");
            for address in self.resolve_with(sentinel, sentinels.tls).await? {
                match ask(&address, &sentinels.login, question).await {
                    Ok(told) => return Ok(told),
                    Err(error) => failure = io::Error::other(format!("{sentinel}: {error}")),
                }
            }
            Err(failure)
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut answers = Vec::new();
        let mut heard = 0;
        loop {
            let next = asked.next();
            let answer = if 2 * heard > all.len() {
                match tokio::time::timeout(LAST_WITHIN, next).await {
                    Ok(answer) => answer,
                    Err(_) => return answers,
                }
            } else {
                next.await
            };
            let Some(answer) = answer else {
                return answers;
            };
            heard += usize::from(answer.is_ok());
            answers.push(answer);
        }
    }

    /// A connection of the operator's to one of several servers, for a few questions.
    ///
    /// # Errors
    /// When it cannot be reached within 2 seconds or refuses the login, or there is only one.
    pub(super) async fn converse(
        &self,
        address: &UpstreamAddress,
    ) -> RedisResult<MultiplexedConnection> {
        match &self.place {
            Place::Nodes(_, login) | Place::Told(_, login) => converse(address, login).await,
            _ => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }

    /// Where servers are that may take the primary's place, as far as that is known.
    ///
    /// # Errors
    /// When nobody who knows answers.
    pub async fn others(&self, primary: &UpstreamAddress) -> io::Result<Vec<UpstreamAddress>> {
        let places = match &self.place {
            // All nodes of a cluster get users as soon as they are seen.
            Place::Socket(_) | Place::One(_) | Place::Cluster(_) | Place::At(_) => Vec::new(),
            Place::Nodes(nodes, _) => nodes.clone(),
            Place::Told(sentinels, _) => {
                let mut question = redis::cmd("SENTINEL");
                question.arg("REPLICAS").arg(&sentinels.master);
                // Each knows them all, but for one that was cut off.
                let answers: Vec<io::Result<Vec<HashMap<String, String>>>> =
                    self.ask_sentinels(sentinels, &question).await;
                let told = answers.iter().flatten().flatten();
                told.filter_map(told_replica).collect()
            }
        };
        let mut found: Vec<UpstreamAddress> = Vec::new();
        for place in places {
            // One that has no address now has one later.
            for address in self.resolve(&place).await.unwrap_or_default() {
                if address != *primary && !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        Ok(found)
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

/// Where a replica is, in the reply to SENTINEL REPLICAS; none where it is known to be down.
fn told_replica(told: &HashMap<String, String>) -> Option<Endpoint> {
    let is_down = told.get("flags")?.split(',').any(|flag| flag == "s_down");
    let port = told.get("port")?.parse().ok()?;
    let host = told.get("ip")?.clone();
    (!is_down).then_some(Endpoint { host, port })
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
    fn replicas_that_are_down_are_left_out() {
        let told = |flags: &str| {
            let pairs = [("ip", "::1"), ("port", "6380"), ("flags", flags)];
            let pairs = pairs.map(|(k, v)| (k.to_owned(), v.to_owned()));
            told_replica(&HashMap::from(pairs)).map(|place| place.to_string())
        };
        assert_eq!(told("slave"), Some("[::1]:6380".to_owned()));
        assert_eq!(told("s_down,slave,disconnected"), None);
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
