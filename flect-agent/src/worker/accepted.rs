//! A connection on its way from whoever accepted it to the worker that will serve it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::session;
use crate::environment::App;
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
    /// Its socket is in the sock hash.
    pub accelerated: bool,
    /// What has been read of it already: the requests behind a login, at most
    /// [`EARLY_BYTES_MAX`].
    pub early: Vec<u8>,
    /// What a login has agreed on.
    pub protocol: Protocol,
    /// As whom it has logged in: a store of the app, proven by whoever accepted it, or `default`.
    pub user: Vec<u8>,
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
            accelerated: false,
            early: Vec::new(),
            protocol: Protocol::Resp2,
            user: b"default".to_vec(),
        }
    }
}
