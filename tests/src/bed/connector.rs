//! Connections that are an app's, in the hands of the test.
//!
//! A child process inside the app's cgroup makes and connects the socket, then hands it to the
//! test's process (SCM_RIGHTS). For the kernel it stays what it was made as, so a trial can hold
//! connections of several apps at once, from as many threads as it likes, and need not start an
//! interpreter for each: that takes seconds in an emulated machine.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::child;

/// The role's name for [`child::dispatch`].
pub const ROLE: &str = "connector";
/// The longest request: an address with a scope.
const REQUEST_BYTES_MAX: usize = 100;

/// A child process that connects for the test.
#[derive(Debug)]
pub struct Connector {
    child: Child,
    channel: Mutex<UnixStream>,
}

impl Connector {
    /// The command of the child; `place` it, then [`start`](Self::start).
    ///
    /// # Errors
    /// When the path of the running executable cannot be told.
    pub fn command() -> Result<Command> {
        child::command(ROLE, &[])
    }

    /// Starts the child.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = command
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .context("starting a connector")?;
        Ok(Self {
            child,
            channel: Mutex::new(ours),
        })
    }

    /// Connects from inside the app.
    ///
    /// # Errors
    /// What connect said inside, with its error number; or that the child is gone.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        io::Write::write_all(&mut &*channel, address.to_string().as_bytes())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut errno = [0; 4];
        let mut parts = [IoSliceMut::new(&mut errno)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&*channel, &mut parts, &mut control, flags)?;
        if received.bytes != errno.len() {
            return Err(io::Error::other("the connector is gone"));
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut sockets) = message
                && let Some(socket) = sockets.next()
            {
                return Ok(TcpStream::from(socket));
            }
        }
        Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // The bed's end would end it as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the connector until the other side is gone.
///
/// # Errors
/// When the channel breaks.
pub fn role(_: &[String]) -> Result<()> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let channel = UnixStream::from(channel);
    let mut request = [0; REQUEST_BYTES_MAX];
    loop {
        // One request at a time: the other side waits for the answer.
        let length = io::Read::read(&mut &channel, &mut request)?;
        if length == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&request[..length])?;
        let Ok(address) = text.parse::<SocketAddr>() else {
            bail!("no address: {text:?}");
        };
        let answer = TcpStream::connect(address);
        let errno = match &answer {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(-1),
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<_> = answer.iter().map(AsFd::as_fd).collect();
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            bail!("the control buffer is too small");
        }
        let errno = i32::to_ne_bytes(errno);
        let parts = [IoSlice::new(&errno)];
        sendmsg(&channel, &parts, &mut control, SendFlags::empty())?;
    }
}
