//! A connection's way from its first bytes to a worker, where it has to prove itself.
//!
//! Invariant: before it has, a connection costs at most its buffer and its time; nothing it sends
//! reaches a store.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use flect_agent::worker::{Accepted, Handle, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::login::{Admitted, Doorkeeper, LOGIN_BYTES_MAX, Login, Step};

/// How long a client has for TLS and login together: a round trip across the world is 0.3 s.
pub const LOGIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a wrong password waits: unnoticed by people, and tokens cannot be tried fast. (They are
/// 256 random bits, so this protects the log rather than the store.)
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_millis(200);

/// How long a refused client gets to read why.
const REFUSAL_WITHIN: Duration = Duration::from_secs(2);

/// Reads and answers until the connection has proved itself; `None` when it has not and ends.
///
/// # Errors
/// When the connection breaks.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    door: &dyn Doorkeeper,
) -> io::Result<Option<(Admitted, Vec<u8>)>> {
    let mut login = Login::default();
    let mut buffer = vec![0; LOGIN_BYTES_MAX];
    loop {
        let mut replies = Vec::new();
        let step = login.step(door, &mut replies);
        if matches!(step, Step::Ask)
            && let Some(news) = door.news()
        {
            news.look().await;
            continue;
        }
        if matches!(step, Step::Pause) {
            tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
        }
        stream.write_all(&replies).await?;
        stream.flush().await?;
        match step {
            Step::Pause | Step::Ask => {}
            Step::Open(admitted, early) => return Ok(Some((admitted, early))),
            Step::End => {
                leave(stream).await;
                return Ok(None);
            }
            Step::Read => {
                let count = stream.read(&mut buffer[..login.room()]).await?;
                if count == 0 {
                    return Ok(None);
                }
                login.take(&buffer[..count]);
            }
        }
    }
}

/// Closing with unread bytes would reset the connection and take the last reply with it.
async fn leave<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let read_on = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Either way the connection ends here.
    let _ = tokio::time::timeout(REFUSAL_WITHIN, read_on).await;
}

/// Gives a connection to one of the workers that its store is with.
pub fn hand_over(workers: &[Handle], mut accepted: Accepted) {
    let loads: Vec<usize> = workers.iter().map(Handle::sessions).collect();
    // Whoever logs in as no store of its app is turned away by any worker.
    let store = accepted.app.store(&accepted.user);
    let store = store.unwrap_or_else(|| accepted.app.default_store());
    accepted.place = store.places.choose(&loads);
    if let Some(place) = &accepted.place {
        workers[place.worker()].send(Message::Accept(Box::new(accepted)));
    }
}

/// A connection that has logged in, for a worker.
pub fn accepted(
    stream: std::net::TcpStream,
    ends: Ends,
    admitted: Admitted,
    early: Vec<u8>,
) -> Accepted {
    let mut accepted = Accepted::new(stream, admitted.app, ends.peer, ends.asked);
    accepted.user = admitted.user;
    accepted.early = early;
    accepted
}

/// Who is at both ends of a connection, as the session shows it.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// The address that it asked for.
    pub asked: SocketAddr,
}

/// Gives the worker one end of a pair of sockets and carries bytes between the other and a stream that
/// is not a socket (TLS), until one of them ends.
///
/// # Errors
/// When there is no pair, or the connection breaks.
pub async fn hand_over_stream<S: AsyncRead + AsyncWrite + Unpin>(
    workers: &[Handle],
    stream: S,
    ends: Ends,
    admitted: Admitted,
    early: Vec<u8>,
) -> io::Result<()> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    // A worker reads, writes and closes its sockets and asks for nothing that TCP alone has.
    let theirs = std::net::TcpStream::from(OwnedFd::from(theirs));
    hand_over(workers, accepted(theirs, ends, admitted, early));
    carry(stream, tokio::net::UnixStream::from_std(ours)?).await
}

/// As large as a worker's reads.
const CARRIED_BYTES: usize = 64 * 1024;

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    client: S,
    session: tokio::net::UnixStream,
) -> io::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_session, mut to_session) = session.into_split();
    let requests = async {
        let mut from_client = tokio::io::BufReader::with_capacity(CARRIED_BYTES, from_client);
        // A client that breaks off is a client that ends: the session closes its side then.
        let _ = tokio::io::copy_buf(&mut from_client, &mut to_session).await;
        let _ = to_session.shutdown().await;
        // The session may still have replies for it, and closes when they are out.
        std::future::pending::<()>().await;
    };
    let replies = async {
        let mut from_session = tokio::io::BufReader::with_capacity(CARRIED_BYTES, from_session);
        tokio::io::copy_buf(&mut from_session, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        () = requests => Ok(()),
        result = replies => result,
    }
}
