//! TLS over a socket that never blocks.
//!
//! What is encrypted and has not gone out yet waits here, not in the connection's outbox: after each write
//! and each turn somebody must call `flush`. What came in and is decrypted waits here too: a short read
//! does not mean that there is no more, only `WouldBlock` does.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::ClientConnection;

use crate::reach::Tls;

/// Bytes that may wait encrypted: as many as the greeting and some turns' requests, so that the outbox holds
/// back the sessions and not this.
const ENCRYPTED_BYTES_MAX: usize = 64 * 1024;

/// An encrypted connection.
#[derive(Debug)]
pub struct TlsStream {
    pub tcp: TcpStream,
    tls: ClientConnection,
}

impl TlsStream {
    /// Speaks TLS once `tcp` is connected.
    pub fn new(tcp: TcpStream, tls: &Tls) -> io::Result<Self> {
        let mut tls = ClientConnection::new(tls.config.clone(), tls.name.clone())
            .map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        Ok(Self { tcp, tls })
    }

    /// Takes what the socket has; how many bytes that was.
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut self.tcp)?;
        if let Err(error) = self.tls.process_new_packets() {
            // The alert says to the server why; whether it gets there matters to nobody here.
            let _ = self.send();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    /// Sends what is encrypted, as far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Nothing more comes, whether the server has said so or has just gone.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            let received = self.receive();
            // Handshakes and key updates are answered without anybody writing.
            self.send()?;
            received?;
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Before the handshake is done, this much waits in the clear.
        let mut count = self.tls.writer().write(bytes)?;
        self.send()?;
        if count == 0 && !bytes.is_empty() {
            // There was no room; now there may be.
            count = self.tls.writer().write(bytes)?;
            self.send()?;
        }
        match count {
            0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests;
