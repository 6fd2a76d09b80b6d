use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// What travels each way: more than sockets and either side's buffers take at once.
const BYTES: usize = 8 * 1024 * 1024;

struct Server {
    address: std::net::SocketAddr,
    thread: JoinHandle<()>,
    tls: Tls,
}

/// A server of one connection that does `work` with it.
fn server(
    work: impl FnOnce(&mut StreamOwned<ServerConnection, std::net::TcpStream>) + Send + 'static,
) -> Server {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    let key = made.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        work(&mut StreamOwned::new(connection, stream));
    });
    Server {
        address,
        thread,
        tls: Tls {
            config: Arc::new(client),
            name: ServerName::try_from("localhost").unwrap(),
        },
    }
}

/// A client in a loop as a worker's: it writes and reads when the kernel says so, and gets all until the end.
fn talk(server: &Server, mut request: &[u8]) -> io::Result<Vec<u8>> {
    let mut poll = Poll::new().unwrap();
    let mut stream = TlsStream::new(TcpStream::connect(server.address)?, &server.tls)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream.tcp, Token(0), both)?;
    let mut events = Events::with_capacity(8);
    let mut got = Vec::new();
    let mut scratch = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(30)))?;
        assert!(
            !events.is_empty(),
            "nothing happens any more; {} bytes came",
            got.len()
        );
        loop {
            match stream.read(&mut scratch) {
                Ok(0) => return Ok(got),
                Ok(count) => got.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while !request.is_empty() {
            match stream.write(request) {
                Ok(count) => request = &request[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        stream.flush()?;
    }
}

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

#[test]
fn everything_comes_through_both_ways() {
    let server = server(|stream| {
        let mut seen = vec![0; BYTES];
        stream.read_exact(&mut seen).unwrap();
        assert!(seen == pattern());
        stream.write_all(&seen).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let got = talk(&server, &pattern()).unwrap();
    assert!(got == pattern(), "{} bytes", got.len());
    server.thread.join().unwrap();
}

#[test]
fn a_server_that_is_just_gone_is_an_end() {
    let server = server(|stream| {
        let mut seen = [0; 4];
        stream.read_exact(&mut seen).unwrap();
        stream.write_all(b"part").unwrap();
    });
    assert_eq!(talk(&server, b"ping").unwrap(), b"part");
    server.thread.join().unwrap();
}

#[test]
fn another_servers_certificate_is_refused() {
    let mut one = server(|stream| {
        let _ = stream.read(&mut [0; 4]);
    });
    let other = server(|_| {});
    one.tls = other.tls.clone();
    let error = talk(&one, b"secret").unwrap_err().to_string();
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
    drop(std::net::TcpStream::connect(other.address));
    one.thread.join().unwrap();
    other.thread.join().unwrap();
}
