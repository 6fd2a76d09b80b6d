//! A process that plays an app: it does with sockets what the trial tells it, one line a command, and
//! answers `ok ...` or `err ERRNO`.

#![expect(
    unsafe_code,
    reason = "bringing up `lo` in a new network namespace takes an ioctl"
)]

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::UnshareFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::child;

use super::stage::PATIENCE;

/// The trial's hold on such a process.
pub(super) struct Puppet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Puppet {
    /// Starts one in a cgroup.
    pub(super) fn start(procs: Option<&Path>) -> Result<Self> {
        let mut child = child::command(super::PUPPET, &[])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a puppet")?;
        let orders = child.stdin.take().context("its stdin")?;
        let answers = BufReader::new(child.stdout.take().context("its stdout")?);
        let mut puppet = Self {
            child,
            orders,
            answers,
        };
        if let Some(procs) = procs {
            puppet.go(&format!("join {}", procs.display()))?;
        }
        Ok(puppet)
    }

    /// Orders something that must work, and returns what it says.
    pub(super) fn go(&mut self, order: &str) -> Result<String> {
        match self.try_go(order)? {
            Ok(said) => Ok(said),
            Err(error) => bail!("`{order}`: {error}"),
        }
    }

    /// Orders something that may fail.
    pub(super) fn try_go(&mut self, order: &str) -> Result<io::Result<String>> {
        self.order(order)?;
        self.answer()
    }

    /// Orders without waiting for the answer.
    pub(super) fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the puppet is gone")
    }

    /// The answer to the oldest order without one.
    pub(super) fn answer(&mut self) -> Result<io::Result<String>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim_end_matches('\n').split_once(' ') {
            Some(("ok", said)) => Ok(Ok(said.to_owned())),
            Some(("err", errno)) => Ok(Err(io::Error::from_raw_os_error(errno.parse()?))),
            _ => bail!("the puppet answered {line:?}"),
        }
    }

    /// Orders a connect that must be refused as if nobody listened there.
    pub(super) fn is_refused(&mut self, order: &str) -> Result<()> {
        match self.try_go(order)? {
            // Kernels before 5.18 do not let hooks choose the errno.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EPERM)) =>
            {
                Ok(())
            }
            other => bail!("`{order}` was not refused: {other:?}"),
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The puppet's own process.
pub(super) fn role(_args: &[String]) -> Result<()> {
    let mut actor = Actor::default();
    for order in io::stdin().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        match actor.obey(&words) {
            Ok(said) => println!("ok {said}"),
            Err(error) => match error.downcast_ref::<io::Error>() {
                Some(io) if io.raw_os_error().is_some() => {
                    println!("err {}", io.raw_os_error().unwrap_or_default());
                }
                _ => return Err(error.context(order)),
            },
        }
    }
    Ok(())
}

#[derive(Default)]
struct Actor {
    sockets: HashMap<String, Socket>,
    mailbox: Option<UnixDatagram>,
}

impl Actor {
    fn obey(&mut self, words: &[&str]) -> Result<String> {
        let done = Ok(String::new());
        match *words {
            ["join", procs] => {
                std::fs::write(procs, "0")?;
                done
            }
            // A network namespace of its own, with a loopback.
            ["unshare"] => {
                // SAFETY: this process has one thread, so nothing shares what is taken apart.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                    .map_err(io::Error::from)?;
                loopback_up()?;
                done
            }
            ["socket", slot, address] => self.put(slot, socket(address.parse()?, Protocol::TCP)?),
            ["connect", slot, address] => {
                let address: SocketAddr = address.parse()?;
                self.socket(slot)?.connect(&address.into())?;
                done
            }
            ["disconnect", slot] => {
                disconnect(self.socket(slot)?)?;
                done
            }
            ["open", slot, address] => {
                let address: SocketAddr = address.parse()?;
                let socket = socket(address, Protocol::TCP)?;
                socket.connect(&address.into())?;
                self.put(slot, socket)
            }
            ["multipath", slot, address] => {
                let address: SocketAddr = address.parse()?;
                let socket = socket(address, Protocol::MPTCP)?;
                socket.connect(&address.into())?;
                self.put(slot, socket)
            }
            ["from", slot, local, address] => {
                let (local, address): (SocketAddr, SocketAddr) = (local.parse()?, address.parse()?);
                let socket = socket(address, Protocol::TCP)?;
                socket.set_reuse_address(true)?;
                socket.bind(&local.into())?;
                socket.connect(&address.into())?;
                self.put(slot, socket)
            }
            ["listen", slot, address, ref options @ ..] => {
                let address: SocketAddr = address.parse()?;
                let socket = socket(address, Protocol::TCP)?;
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(options.contains(&"reuseport"))?;
                socket.bind(&address.into())?;
                socket.listen(1)?;
                self.put(slot, socket)
            }
            ["peer", slot] => {
                let peer = self.socket(slot)?.peer_addr()?;
                Ok(peer.as_socket().context("an IP address")?.to_string())
            }
            ["write", slot, text] => {
                self.socket(slot)?.write_all(text.as_bytes())?;
                done
            }
            ["read", slot] => {
                let mut buffer = [0; 4096];
                let read = self.socket(slot)?.read(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..read]).trim().to_owned())
            }
            ["close", slot] => {
                self.sockets.remove(slot);
                done
            }
            ["reset", slot] => {
                self.socket(slot)?.set_linger(Some(Duration::ZERO))?;
                self.sockets.remove(slot);
                done
            }
            // A SYN that no socket of the kernel's TCP stands behind.
            ["raw", address] => {
                send_raw_syn(address.parse()?)?;
                done
            }
            ["mailbox", name] => {
                let address = UnixAddress::from_abstract_name(name)?;
                self.mailbox = Some(UnixDatagram::bind_addr(&address)?);
                done
            }
            ["send", slot, name] => {
                send_descriptor(self.socket(slot)?, name)?;
                done
            }
            ["receive", slot] => {
                let mailbox = self.mailbox.as_ref().context("no mailbox")?;
                let socket = receive_descriptor(mailbox)?;
                self.put(slot, socket)
            }
            ["storm", count, address, expect] => storm(count.parse()?, address.parse()?, expect),
            ["transcript", address] => super::acceleration::transcript(address.parse()?),
            _ => bail!("no such order"),
        }
    }

    fn put(&mut self, slot: &str, socket: Socket) -> Result<String> {
        self.sockets.insert(slot.to_owned(), socket);
        Ok(String::new())
    }

    fn socket(&mut self, slot: &str) -> Result<&mut Socket> {
        self.sockets.get_mut(slot).context("no such socket")
    }
}

fn socket(address: SocketAddr, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Connects and reads who it is, again and again; every other connection ends with a reset, so that
/// its addresses are free at once.
fn storm(count: usize, address: SocketAddr, expect: &str) -> Result<String> {
    let mut wrong = 0;
    for turn in 0..count {
        let mut socket = socket(address, Protocol::TCP)?;
        socket.connect(&address.into())?;
        let mut line = [0; 128];
        let read = socket.read(&mut line)?;
        let told = String::from_utf8_lossy(&line[..read]);
        if told.split(' ').next() != Some(expect) {
            wrong += 1;
        }
        if turn % 2 == 0 {
            socket.set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(format!("{wrong} wrong"))
}

fn disconnect(socket: &Socket) -> io::Result<()> {
    let unspecified = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: the address is valid for its size.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            &raw const unspecified,
            size_of::<libc::sockaddr>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Brings up `lo`, which is down in a new network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is an ifreq, as SIOCSIFFLAGS wants it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A TCP header with SYN; the kernel adds the IP header. Its checksum is not looked at on the way out.
fn send_raw_syn(to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    let mut header = [0u8; 20];
    header[..2].copy_from_slice(&40_000u16.to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[12] = 5 << 4;
    header[13] = 2;
    let to = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    socket.send_to(&header, &to).map(drop)
}

fn send_descriptor(socket: &Socket, name: &str) -> Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.connect_addr(&UnixAddress::from_abstract_name(name)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [socket.as_fd()];
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "no room for a descriptor"
    );
    sendmsg(
        &sender,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )
    .map_err(io::Error::from)?;
    Ok(())
}

fn receive_descriptor(mailbox: &UnixDatagram) -> Result<Socket> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        mailbox,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::empty(),
    )
    .map_err(io::Error::from)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(Socket::from(fd));
        }
    }
    bail!("no descriptor came")
}

/// Waits until something holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(std::time::Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
