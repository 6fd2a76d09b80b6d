//! Messages with a descriptor each, over a unix socket that keeps their bounds (SOCK_SEQPACKET).
//!
//! Invariant: every message and every wait is bounded. What is not understood is an error, and ends the
//! conversation.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use flect_agent::worker::EARLY_BYTES_MAX;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Word;

/// A session's state in JSON is some KiB, since what clients say of themselves is bounded there.
const MESSAGE_BYTES_MAX: usize = EARLY_BYTES_MAX + 64 * 1024;

/// What a socket must hold for that: the kernel's books count more than the bytes.
const BUFFER_BYTES: usize = 4 * MESSAGE_BYTES_MAX;

/// A conversation.
pub struct Channel(Socket);

/// What was received.
pub struct Received {
    pub word: Word,
    pub bytes: Vec<u8>,
    pub descriptor: Option<OwnedFd>,
}

/// Listens at a path, for this user alone.
pub fn listen(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Between the two calls it takes no connection: it does not listen yet.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    socket.listen(1)?;
    Ok(socket)
}

impl Channel {
    /// Over a connection; `patience` bounds each wait.
    pub fn new(socket: Socket, patience: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        // Less, where the machine allows less, is enough for most sessions.
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
        Ok(Self(socket))
    }

    /// To whoever listens at a path.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::new(socket, patience)
    }

    /// How long each wait may take from now on.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))?;
        self.0.set_write_timeout(Some(patience))
    }

    /// Sends one message.
    pub fn send(
        &self,
        word: &Word,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut head = serde_json::to_vec(word)?;
        head.push(b'\n');
        let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Says hello and hears the answer, also of who has answered and gone before it heard the hello: the end is
    /// told once as an error (`sock_error` in the kernel's net/unix/af_unix.c), and what was said before after it.
    pub fn greet(&self, hello: &Word) -> io::Result<Option<Received>> {
        let answer = self.send(hello, b"", None).and_then(|()| self.receive());
        match answer {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.receive()
            }
            answer => answer,
        }
    }

    /// The next message; `None` when the other side has ended the conversation.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        let message = recvmsg(&self.0, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let descriptor = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .next();
        if message.bytes == 0 {
            return Ok(None);
        }
        if message.bytes > buffer.len() {
            return Err(io::Error::other("a message is too long"));
        }
        buffer.truncate(message.bytes);
        // JSON has no line breaks of its own.
        let end = memchr::memchr(b'\n', &buffer)
            .ok_or_else(|| io::Error::other("a message has no line"))?;
        Ok(Some(Received {
            word: serde_json::from_slice(&buffer[..end])?,
            bytes: buffer[end + 1..].to_vec(),
            descriptor,
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let patience = Duration::from_secs(10);
        (
            Channel::new(a, patience).unwrap(),
            Channel::new(b, patience).unwrap(),
        )
    }

    #[test]
    fn messages_keep_their_bytes_and_their_descriptor() {
        let (here, there) = pair();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        // As much as a session may have received.
        let early = vec![b'\n'; EARLY_BYTES_MAX];
        here.send(&Word::Listener, &early, Some(file.as_fd()))
            .unwrap();
        here.send(&Word::Yield, b"", None).unwrap();
        let first = there.receive().unwrap().unwrap();
        assert!(matches!(first.word, Word::Listener));
        assert_eq!(first.bytes, early);
        let same = rustix::fs::fstat(first.descriptor.unwrap()).unwrap();
        assert_eq!(same.st_ino, rustix::fs::fstat(&file).unwrap().st_ino);
        let second = there.receive().unwrap().unwrap();
        assert!(matches!(second.word, Word::Yield) && second.descriptor.is_none());
        drop(here);
        assert!(there.receive().unwrap().is_none());
    }

    #[test]
    fn a_refusal_is_heard_after_the_end() {
        let why = "no".to_owned();
        let refused = Word::Refused { why };
        for is_unread in [false, true] {
            let (here, there) = pair();
            there.send(&refused, b"", None).unwrap();
            if is_unread {
                here.send(&Word::Yield, b"", None).unwrap();
            }
            drop(there);
            let word = here.greet(&Word::Yield).unwrap().unwrap().word;
            assert!(matches!(word, Word::Refused { .. }), "{word:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let (here, there) = pair();
        for bytes in [
            b"{\"word\":\"yield\"}".as_slice(),
            b"{\"word\":\"nothing\"}\n",
            b"\n",
        ] {
            here.0.send(bytes).unwrap();
            assert!(there.receive().is_err());
        }
    }
}
