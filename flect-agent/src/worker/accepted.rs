//! A connection on its way from whoever accepted it to the worker that will serve it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Parted, session};
use crate::cgroup::CgroupId;
use crate::environment::{App, Place};
use crate::resp::Protocol;

/// An accepted and identified connection.
pub struct Accepted {
    /// The socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// Who is behind it.
    pub app: Arc<App>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client asked for.
    pub asked: SocketAddr,
    /// The cgroup that connected; none where the connection was not intercepted.
    pub cgroup: Option<CgroupId>,
    /// Its socket is in the sock hash.
    pub accelerated: bool,
    /// What has been read of it already: the requests behind a login, at most
    /// [`EARLY_BYTES_MAX`].
    pub early: Vec<u8>,
    /// What a login has agreed on.
    pub protocol: Protocol,
    /// As whom it has logged in: a store of the app, proven by whoever accepted it, or `default`.
    pub user: Vec<u8>,
    /// A session that goes on, which another process has begun.
    pub resumed: Option<Box<Parted>>,
    /// Its place with a worker, where one was chosen for its store.
    pub place: Option<Place>,
}

/// What [`Accepted::early`] may hold.
pub const EARLY_BYTES_MAX: usize = session::INPUT_BYTES_MAX;

impl Accepted {
    /// A connection that has said nothing yet. It may be one end of any stream socket: options of TCP
    /// are not counted on.
    #[must_use]
    pub fn new(
        stream: std::net::TcpStream,
        app: Arc<App>,
        peer: SocketAddr,
        asked: SocketAddr,
    ) -> Self {
        Self {
            stream,
            app,
            peer,
            asked,
            cgroup: None,
            accelerated: false,
            early: Vec::new(),
            protocol: Protocol::Resp2,
            user: b"default".to_vec(),
            resumed: None,
            place: None,
        }
    }

    /// When the client's connection began.
    pub(super) fn since(&self) -> Instant {
        let now = Instant::now();
        let age = self.resumed.as_ref().map(|state| state.age_ms);
        // A clock that began later than the connection knows no better.
        age.and_then(|ms| now.checked_sub(Duration::from_millis(ms)))
            .unwrap_or(now)
    }

    /// A session that another process has begun, in the app that whoever calls has judged it to be.
    #[must_use]
    pub fn resumed(
        stream: std::net::TcpStream,
        app: Arc<App>,
        state: Parted,
        early: Vec<u8>,
    ) -> Self {
        let protocol = match state.named.protocol() {
            3 => Protocol::Resp3,
            _ => Protocol::Resp2,
        };
        Self {
            cgroup: state.cgroup.map(CgroupId),
            accelerated: state.accelerated,
            early,
            protocol,
            user: state.user.clone(),
            resumed: Some(Box::new(state.clone())),
            ..Self::new(stream, app, state.peer, state.asked)
        }
    }
}
