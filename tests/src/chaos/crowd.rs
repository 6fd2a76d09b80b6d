//! Fills what the hooks share, from inside an app: network namespaces in which the agent must listen, and in
//! the last of them handshakes that never end, beyond what one namespace may have.

#![expect(unsafe_code, reason = "namespaces and TCP_REPAIR have no safe form")]

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bed::Bed;
use crate::child;

/// For [`child::dispatch`].
pub const ROLE: &str = "chaos-crowd";

/// Namespaces: the agent opens two listeners in each, one after the other.
const NAMESPACES: usize = 12;
/// Handshakes: half as many again as one namespace may have (`PENDING_PER_NAMESPACE_MAX`).
const HANDSHAKES: u16 = 1536;
/// Their ports: below those that beds give to agents.
const PORT_FIRST: u16 = 2000;
/// An agent that is busy opens a namespace late.
const OPENED_WITHIN: Duration = Duration::from_secs(20);

/// The process; what it holds goes with it.
#[derive(Debug)]
pub struct Crowd(Child);

impl Crowd {
    /// Starts it in an app and waits until it holds everything.
    ///
    /// # Errors
    /// When it does not get so far.
    pub fn start(bed: &Bed, app: &str) -> Result<Self> {
        let mut command = child::command(ROLE, &[&bed.address().port().to_string()])?;
        bed.place(app, &mut command)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a crowd")?;
        let output = child.stdout.take().context("its output")?;
        let crowd = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the crowd failed, see above");
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Plays [`ROLE`].
///
/// # Errors
/// When the kernel or the agent refuses what must work.
pub fn role(args: &[String]) -> Result<()> {
    let port = args.first().context("which port?")?.parse()?;
    let valkey = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    more_descriptors()?;
    let mut namespaces = Vec::new();
    for _ in 0..NAMESPACES {
        // SAFETY: this process has one thread, so nothing shares what is taken apart.
        done(unsafe { libc::unshare(libc::CLONE_NEWNET) }).context("unshare")?;
        loopback_up()?;
        reach(valkey)?;
        namespaces.push(std::fs::File::open("/proc/self/ns/net")?);
    }
    let held: Vec<OwnedFd> = (PORT_FIRST..PORT_FIRST + HANDSHAKES)
        .map(|source| repaired(source, port))
        .collect::<io::Result<_>>()
        .context("a handshake that nobody ends")?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    drop((held, namespaces));
    Ok(())
}

/// Until the agent has its listeners here, connects are refused.
fn reach(valkey: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + OPENED_WITHIN;
    loop {
        match TcpStream::connect(valkey) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).context("not served"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// An established connection that no handshake has made (TCP_REPAIR; CRIU lives on it).
fn repaired(source: u16, port: u16) -> io::Result<OwnedFd> {
    /// include/uapi/linux/tcp.h
    const TCP_REPAIR: i32 = 19;
    // SAFETY: takes no pointers.
    let number = done(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) })?;
    // SAFETY: the kernel has just given us this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let on: libc::c_int = 1;
    let address = |port: u16| {
        // SAFETY: zeroes are a valid address.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        address
    };
    let (from, to) = (address(source), address(port));
    let bytes = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: option and addresses are valid for the sizes that are told.
    unsafe {
        done(libc::setsockopt(
            number,
            libc::IPPROTO_TCP,
            TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        ))?;
        done(libc::bind(number, (&raw const from).cast(), bytes))?;
        done(libc::connect(number, (&raw const to).cast(), bytes))?;
    }
    Ok(socket)
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is an ifreq, as SIOCSIFFLAGS wants it.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

fn more_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let most = u64::from(HANDSHAKES) + 500;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit).context("raising the number of descriptors")
}

fn done(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
