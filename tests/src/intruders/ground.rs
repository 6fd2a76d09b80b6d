//! What an intruder's process knows, and what it is told when it asks who it is.
//!
//! Invariant: an answer is one of the marks, which the trial wrote beforehand into each store and,
//! without a prefix, into the shared Valkey; whatever else happens is a refusal.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The key that holds the mark.
pub(super) const KEY: &str = "mark";
/// The mark of the shared Valkey itself: who reads it went around the agent.
pub(super) const SHARED: &str = "shared";
/// What is answered at all is answered at once; this is for a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What came of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing was answered, or an error.
    Refused(String),
    /// Requests were answered from the store with this mark.
    Served(String),
    /// This kernel has not got what the attack needs: the errno that says so.
    Absent(String),
    /// The intruder has what it must not have.
    Crossed(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => write!(f, "refused {text}"),
            Self::Served(mark) => write!(f, "served {mark}"),
            Self::Absent(text) => write!(f, "absent {text}"),
            Self::Crossed(text) => write!(f, "crossed {text}"),
        }
    }
}

impl Answer {
    /// Reads what an intruder's process has printed.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let (kind, text) = line.split_once(' ').unwrap_or((line, ""));
        let text = text.to_owned();
        Ok(match kind {
            "refused" => Self::Refused(text),
            "served" => Self::Served(text),
            "absent" => Self::Absent(text),
            "crossed" => Self::Crossed(text),
            _ => bail!("the intruder said {line:?}"),
        })
    }

    /// A connect that failed is a refusal.
    pub(super) fn of(asked: io::Result<Self>) -> Self {
        asked.unwrap_or_else(|error| Self::Refused(error.to_string().replace('\n', " ")))
    }
}

/// What an intruder's process is told by the trial.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// The intercepted port, on 127.0.0.1 and ::1.
    pub(super) valkey_port: u16,
    /// The agent's own port.
    pub(super) agent_port: u16,
    /// A port on 127.0.0.1 that is closed to apps, and on which somebody listens.
    pub(super) closed_port: u16,
    /// The folder of all apps' cgroups.
    pub(super) apps: PathBuf,
    /// The agent's pins.
    pub(super) pins: PathBuf,
}

impl Ground {
    pub(super) fn arguments(&self) -> [String; 5] {
        [
            self.valkey_port.to_string(),
            self.agent_port.to_string(),
            self.closed_port.to_string(),
            self.apps.display().to_string(),
            self.pins.display().to_string(),
        ]
    }

    pub(super) fn parse(args: &[String]) -> Result<Self> {
        let [valkey_port, agent_port, closed_port, apps, pins] = args else {
            bail!("an intruder takes five arguments, not {args:?}");
        };
        Ok(Self {
            valkey_port: valkey_port.parse()?,
            agent_port: agent_port.parse()?,
            closed_port: closed_port.parse()?,
            apps: apps.into(),
            pins: pins.into(),
        })
    }

    /// The shared Valkey.
    pub(super) fn valkey(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.valkey_port).into()
    }

    /// The same over IPv6.
    pub(super) fn valkey_v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.valkey_port).into()
    }

    /// The agent's own port.
    pub(super) fn agent(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.agent_port).into()
    }

    /// Moves this process into the cgroup of an app, or one below it.
    pub(super) fn join(&self, app: &str) -> Result<()> {
        let cgroup = self.apps.join(app);
        std::fs::create_dir_all(&cgroup)?;
        std::fs::write(cgroup.join("cgroup.procs"), "0")
            .with_context(|| format!("joining {}", cgroup.display()))
    }
}

/// A TCP socket for an address.
pub(super) fn tcp(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
}

/// Connects and asks; a SYN that goes nowhere is not waited for until TCP gives up.
pub(super) fn dial(socket: &Socket, address: SocketAddr) -> Answer {
    Answer::of(
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .and_then(|()| ask(socket)),
    )
}

/// The same with a new socket.
pub(super) fn open(address: SocketAddr) -> Answer {
    Answer::of(tcp(address).map(|socket| dial(&socket, address)))
}

/// Asks several ways and returns the first answer that is no refusal, else the last refusal.
pub(super) fn first_served(answers: impl IntoIterator<Item = Answer>) -> Answer {
    let mut last = Answer::Refused("nothing was tried".to_owned());
    for answer in answers {
        if !matches!(answer, Answer::Refused(_)) {
            return answer;
        }
        last = answer;
    }
    last
}

/// Whose mark is read over a connection.
pub(super) fn ask(socket: &Socket) -> io::Result<Answer> {
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    (&mut &*socket).write_all(request().as_bytes())?;
    read_mark(socket)
}

/// The request that [`ask`] sends.
pub(super) fn request() -> String {
    format!("GET {KEY}\r\n")
}

/// Reads the reply to the request.
pub(super) fn read_mark(socket: &Socket) -> io::Result<Answer> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut got = Vec::new();
    let mut buffer = [0; 512];
    loop {
        if let Some(answer) = mark(&got) {
            return Ok(answer);
        }
        let read = (&mut &*socket).read(&mut buffer)?;
        if read == 0 {
            return Ok(Answer::Refused(format!(
                "closed after {:?}",
                String::from_utf8_lossy(&got)
            )));
        }
        got.extend_from_slice(&buffer[..read]);
    }
}

fn mark(got: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(got).ok()?;
    let (first, rest) = text.split_once("\r\n")?;
    if first.starts_with('$') && first != "$-1" {
        let (value, _) = rest.split_once("\r\n")?;
        return Some(Answer::Served(value.to_owned()));
    }
    Some(Answer::Refused(first.to_owned()))
}

/// An IPv4 address in IPv6's clothes, such as `::ffff:127.0.0.1`.
pub(super) fn v6(text: &str, port: u16) -> Result<SocketAddr> {
    Ok((text.parse::<IpAddr>()?, port).into())
}

/// For socket2, of an address.
pub(super) fn sock_addr(address: SocketAddr) -> SockAddr {
    address.into()
}
