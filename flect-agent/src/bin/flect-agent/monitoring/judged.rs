//! The socket: who connects is judged by what the kernel tells of it.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};

use crate::bounded::Accept;
use crate::control::{self, Desk, Peer};

/// A unix socket that everybody may connect to.
pub struct Judged {
    listener: UnixListener,
    desk: Arc<Desk>,
}

/// What a connection may see. It ends with its one request, so it is judged once.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// Everything.
    pub is_operator: bool,
}

impl Judged {
    pub fn bind(path: &Path, desk: Arc<Desk>) -> anyhow::Result<Self> {
        let listener = control::bind(path)?;
        Ok(Self { listener, desk })
    }
}

impl Accept for Judged {
    type Stream = UnixStream;
    type Peer = Judgement;

    async fn accept(&self) -> io::Result<(UnixStream, Judgement)> {
        let (stream, _) = self.listener.accept().await?;
        let is_operator = match Peer::of(stream.as_fd()) {
            Ok(peer) => self.desk.is_operator(&peer),
            // Who cannot be seen is nobody.
            Err(_) => false,
        };
        Ok((stream, Judgement { is_operator }))
    }
}
