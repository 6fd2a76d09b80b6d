//! The operator's connection: many users' commands on one, which comes again by itself.
//!
//! In a cluster there is one for each node, and a command takes that of the shard which has the names among its
//! words (see `route`); what has none goes where flect keeps what is its own.
//!
//! Invariant: no command is sent twice. One that was under way when the connection ended is answered with
//! that error; the next one connects. One that a node of a cluster answered with the name of another was not
//! carried out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, RedisFuture,
    RedisResult, Value,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::primary::{Standing, standing};
use super::route::{self, Shards};
use super::{Backoff, Reach, Stream, Topology, UpstreamAddress, dial};

/// How long a server is left alone after it could not be reached: an agent's start and `flect` wait for it.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// An answer.
    pub answer: Duration,
    /// Connecting, login included.
    pub connect: Duration,
}

/// A connection that comes again; clones share it.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    reach: Reach,
    login: RedisConnectionInfo,
    database: i64,
    times: Times,
    current: Mutex<Option<Current>>,
    /// The other nodes, of a cluster.
    shards: Shards,
    /// Held while somebody connects, so that one does it for all.
    connecting: tokio::sync::Mutex<Backoff>,
    /// The primary is another one, as somebody has heard: what is being tried is out of date,
    news: Notify,
    /// and the pause after the last failure over.
    has_news: AtomicBool,
}

struct Current {
    /// Which one it is, so that the end of an earlier one does not end it.
    number: u64,
    connection: MultiplexedConnection,
    /// What reads and writes.
    driver: JoinHandle<()>,
    /// Where it leads.
    address: UpstreamAddress,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the login.
    pub async fn open(reach: Reach, login: RedisConnectionInfo, times: Times) -> RedisResult<Self> {
        let link = Self::new(reach, login, times);
        link.ready().await?;
        if link.is_cluster() {
            link.look_at_cluster().await?;
        }
        Ok(link)
    }

    /// One that connects when it is needed.
    pub(super) fn new(reach: Reach, login: RedisConnectionInfo, times: Times) -> Self {
        Self(Arc::new(Inner {
            reach,
            database: login.db(),
            login,
            times,
            current: Mutex::new(None),
            shards: Shards::default(),
            connecting: tokio::sync::Mutex::new(Backoff::new(RETRY_FIRST, RETRY_MAX)),
            news: Notify::new(),
            has_news: AtomicBool::new(false),
        }))
    }

    /// One to another node of the same cluster.
    pub(super) fn to_node(&self, address: UpstreamAddress, times: Times) -> Self {
        let inner = &self.0;
        Self::new(inner.reach.at(address), inner.login.clone(), times)
    }

    pub(super) fn times(&self) -> Times {
        self.0.times
    }

    /// Whom it logs in as, where the server asks for it.
    pub(crate) fn login(&self) -> &RedisConnectionInfo {
        &self.0.login
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.0.reach
    }

    pub(super) fn shards(&self) -> &Shards {
        &self.0.shards
    }

    /// Whether it leads to a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.0.reach.is_cluster()
    }

    /// Which shard has which slots, as it was last seen; none where it is no cluster.
    #[must_use]
    pub fn topology(&self) -> Option<Arc<Topology>> {
        self.0.shards.topology()
    }

    /// Where it leads now; nowhere between two connections.
    #[must_use]
    pub fn address(&self) -> Option<UpstreamAddress> {
        self.current()
            .as_ref()
            .map(|current| current.address.clone())
    }

    /// The primary is another one: whoever is connecting begins anew, without a pause.
    pub(super) fn look_anew(&self) {
        self.0.has_news.store(true, Ordering::Release);
        self.0.news.notify_waiters();
    }

    /// Where servers are that may take the place of the one that it leads to, as far as that is known.
    ///
    /// # Errors
    /// When there is no connection, or nobody who knows answers.
    pub async fn others(&self) -> io::Result<Vec<UpstreamAddress>> {
        match self.address() {
            Some(address) => self.0.reach.others(&address).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A connection to one of [`others`](Self::others), on which each answer has 2 seconds.
    ///
    /// # Errors
    /// When it cannot be reached within 2 seconds or refuses the login.
    pub async fn converse(&self, other: &UpstreamAddress) -> RedisResult<MultiplexedConnection> {
        self.0.reach.converse(other).await
    }

    /// Where the server is that it leads to, to be tried in turn.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn locate(&self) -> io::Result<Vec<UpstreamAddress>> {
        self.0.reach.locate().await
    }

    /// Whether it leads to one of several servers that change places.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.0.reach.is_followed()
    }

    /// Lets go of a server that is no primary any more, and connects where there is no connection.
    ///
    /// # Errors
    /// When no primary is found, or it cannot be used.
    pub async fn look_for_primary(&self) -> io::Result<()> {
        if let Some(here) = self.address() {
            let left = match self.0.reach.watched().await? {
                Some(watched) => !watched.contains(&here),
                None => self.standing().await == Some(Standing::Replica),
            };
            // It may have come to another meanwhile.
            if left && self.address() == Some(here) {
                self.abandon();
            }
        }
        self.ready().await.map(drop).map_err(io::Error::other)
    }

    /// What the server says of itself, if it says anything.
    async fn standing(&self) -> Option<Standing> {
        let role: RedisResult<Value> = redis::cmd("ROLE").query_async(&mut self.clone()).await;
        standing(&role.ok()?)
    }

    /// A connection of its own that hears messages, to where this one leads.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the login.
    pub async fn listener(&self) -> RedisResult<PubSub> {
        let (stream, _) = self.0.stream().await?;
        within(self.0.times.connect, PubSub::new(&self.0.login, stream)).await
    }

    /// Ends the connection: commands that are under way are answered with an error, the next one connects anew.
    pub fn abandon(&self) {
        if let Some(current) = self.current().take() {
            current.driver.abort();
        }
    }

    /// The connection, made where there is none.
    async fn ready(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(ready) = self.usable() {
            return Ok(ready);
        }
        let mut backoff = self.0.connecting.lock().await;
        // Somebody else may have connected meanwhile.
        if let Some(ready) = self.usable() {
            return Ok(ready);
        }
        let has_news = self.0.has_news.swap(false, Ordering::AcqRel);
        if backoff.is_early(Instant::now()) && !has_news {
            let text = "not connected; it is tried again soon";
            return Err(io::Error::new(io::ErrorKind::NotConnected, text).into());
        }
        let made = loop {
            tokio::select! {
                made = within(self.0.times.connect, self.0.connect()) => break made,
                () = self.0.news.notified() => {}
            }
        };
        backoff.note(Instant::now(), made.is_ok());
        let (connection, driver, address) = made?;
        let number = backoff.tries;
        *self.current() = Some(Current {
            number,
            connection: connection.clone(),
            driver,
            address,
        });
        Ok((number, connection))
    }

    fn usable(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current();
        // One whose end is known already is not worth a command.
        let usable = current.as_ref().filter(|it| !it.driver.is_finished());
        usable.map(|it| (it.number, it.connection.clone()))
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        // Each change is one call, so a panic elsewhere cannot leave it half done.
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command where this very connection leads.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let (number, mut connection) = self.ready().await?;
        // The client library takes a server's error for an answer like any other.
        let answer = connection.req_packed_command(command).await;
        let answer = answer.and_then(Value::extract_error);
        if let Err(error) = &answer {
            self.judge(number, error);
        }
        answer
    }

    async fn send_all(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let (number, mut connection) = self.ready().await?;
        let answer = connection
            .req_packed_commands(pipeline, offset, count)
            .await;
        match &answer {
            Err(error) => self.judge(number, error),
            Ok(answers) => {
                for answer in answers {
                    if let Value::ServerError(error) = answer {
                        self.judge(number, &error.clone().into());
                    }
                }
            }
        }
        answer
    }

    /// Lets go of a connection that an error shows to be useless: it broke, or its server takes no writes.
    fn judge(&self, number: u64, error: &RedisError) {
        let is_elsewhere = matches!(error.code(), Some("READONLY" | "MOVED"));
        if !error.is_unrecoverable_error() && !is_elsewhere {
            return;
        }
        let is_this = self
            .current()
            .as_ref()
            .is_some_and(|it| it.number == number);
        if is_this {
            self.abandon();
        }
    }
}

impl Inner {
    async fn connect(
        &self,
    ) -> RedisResult<(MultiplexedConnection, JoinHandle<()>, UpstreamAddress)> {
        let (stream, address) = self.stream().await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.times.answer));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.login, stream, config).await?;
        Ok((connection, tokio::spawn(driver), address))
    }

    /// A stream to the first address that takes one.
    async fn stream(&self) -> io::Result<(Box<dyn Stream>, UpstreamAddress)> {
        let mut failure = io::Error::other("there is no address");
        for address in self.reach.locate().await? {
            match dial(&address).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            if self.is_cluster() {
                return self.send_to_shard(command).await;
            }
            self.send(command).await
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let link = match pipeline.cmd_iter().next() {
                Some(first) if self.is_cluster() => self.of_slot(route::slot_of(first)),
                _ => self.clone(),
            };
            link.send_all(pipeline, offset, count).await
        })
    }

    fn get_db(&self) -> i64 {
        self.0.database
    }
}
