//! A stream to a server, for conversations that are not per request.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::UpstreamAddress;

/// Bytes to and from a server, however they travel.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. With TLS, the server has proven itself when this returns.
///
/// # Errors
/// What the system says, or why the server's certificate is not trusted.
pub async fn dial(address: &UpstreamAddress) -> io::Result<Box<dyn Stream>> {
    match address {
        UpstreamAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        UpstreamAddress::Tls(address, tls) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(tls.config.clone());
            Ok(Box::new(connector.connect(tls.name.clone(), stream).await?))
        }
        UpstreamAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}
