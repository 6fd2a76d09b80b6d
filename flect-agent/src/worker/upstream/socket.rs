//! The socket of an upstream connection: TCP, TLS, or a unix socket of this machine.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

use super::tls::TlsStream;
use crate::environment::UpstreamAddress;

/// A server that has taken nothing of what was sent for so long is gone, and its sessions find out by their
/// connection's end. As long as Valkey itself waits for a silent peer (`repl-timeout`); a server that is busy
/// still takes what fits into its buffers.
const UNTAKEN_FOR: Duration = Duration::from_secs(60);

/// A server is asked whether it is there when it has sent nothing for so long, and is gone when it does not
/// answer three times: sessions that wait for a message would wait for ever otherwise.
const SILENT_FOR: Duration = Duration::from_secs(30);
const ASKED_EVERY: Duration = Duration::from_secs(10);
const ASKED: u32 = 3;

/// A connection to the shared Valkey.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

impl Socket {
    /// Begins to connect.
    pub fn connect(address: &UpstreamAddress) -> io::Result<Self> {
        match address {
            UpstreamAddress::Tcp(address) => tcp(*address).map(Self::Tcp),
            UpstreamAddress::Tls(address, tls) => {
                let stream = TlsStream::new(tcp(*address)?, tls)?;
                Ok(Self::Tls(Box::new(stream)))
            }
            UpstreamAddress::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// What has gone wrong while connecting.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Tls(stream) => stream.tcp.take_error(),
            Self::Unix(stream) => stream.take_error(),
        }
    }

    /// Whether there is somebody at the other end.
    pub fn is_connected(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok(),
            Self::Tls(stream) => stream.tcp.peer_addr().is_ok(),
            Self::Unix(stream) => stream.peer_addr().is_ok(),
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket, so that more bytes bring an event.
    /// With TLS only `WouldBlock` says so.
    pub fn is_emptied_by_short_reads(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }
}

fn tcp(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    // The agent flushes once a turn; Nagle would only add a delay.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(SILENT_FOR)
        .with_interval(ASKED_EVERY)
        .with_retries(ASKED);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNTAKEN_FOR))?;
    Ok(stream)
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        match self {
            // What is written is with the kernel.
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Source for Socket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Tls(stream) => stream.tcp.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Tls(stream) => stream.tcp.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.tcp.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}
