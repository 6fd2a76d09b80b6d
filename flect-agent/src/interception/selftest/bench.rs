//! A private instance of the hooks, and pairs of sockets connected through it.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use flect_ebpf::{
    ACCELERATE_AGENT_TO_CLIENT, ACCELERATE_CLIENT_TO_AGENT, Config, Namespace,
    PENDING_OWN_NAMESPACE_MAX, PORT_SERVED,
};

use crate::cgroup::CgroupMount;
use crate::interception::InterceptionError;
use crate::interception::attach::{SPILL_BYTES, network_key};
use crate::interception::kernel::{self, AttachType, Map, NetworkKey};
use crate::interception::object::{Object, SK_MSG_PROGRAM};
use crate::interception::pins::step;

/// No scenario waits longer for anything. What is waited for comes within a millisecond; a busy machine
/// may take its time, and a direction that is off for that alone would be a pity.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Which way the bytes go that a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ClientToAgent,
    AgentToClient,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientToAgent => "client to agent",
            Self::AgentToClient => "agent to client",
        })
    }
}

/// A connected pair.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) agent: TcpStream,
}

impl Pair {
    /// The end that sends in this direction, and the one that receives.
    pub(super) fn ends(self, direction: Direction) -> (TcpStream, TcpStream) {
        match direction {
            Direction::ClientToAgent => (self.client, self.agent),
            Direction::AgentToClient => (self.agent, self.client),
        }
    }
}

pub(super) struct Bench {
    config: Map<u32, Config>,
    listener: TcpListener,
    /// Where clients connect to; nobody accepts here, the hooks lead elsewhere.
    asked: TcpListener,
    _links: Vec<OwnedFd>,
    _object: Object,
}

impl Bench {
    pub(super) fn set_up(mount: &CgroupMount) -> Result<Self, InterceptionError> {
        let object = Object::load_private()?;
        let listener = listen()?;
        let asked = listen()?;
        let working = || step("fill the maps of the self-test");
        let asked_port = port(&asked).map_err(working())?;
        let cookie = kernel::netns_cookie(listener.as_fd()).map_err(working())?;
        let host = ipnet::IpNet::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        object
            .map::<NetworkKey, u32>("NETWORKS")?
            .set(&network_key(&host), &1)
            .and(
                object
                    .map::<u16, u32>("PORTS")?
                    .set(&asked_port, &PORT_SERVED),
            )
            .and(object.map::<u64, Namespace>("NAMESPACES")?.set(
                &cookie,
                &Namespace {
                    v4: 1,
                    v6: 0,
                    pending_max: PENDING_OWN_NAMESPACE_MAX,
                },
            ))
            .map_err(working())?;
        let bench = Self {
            config: object.map("CONFIG")?,
            listener,
            asked,
            _links: link(mount, &object)?,
            _object: object,
        };
        bench.configure(None).map_err(working())?;
        Ok(bench)
    }

    fn configure(&self, direction: Option<Direction>) -> io::Result<()> {
        self.config.set(
            &0,
            &Config {
                // Nobody is exempt: here the agent plays the app too.
                agent_cgroup: 0,
                listen_port: u32::from(port(&self.listener)?),
                flags: match direction {
                    None => 0,
                    Some(Direction::ClientToAgent) => ACCELERATE_CLIENT_TO_AGENT,
                    Some(Direction::AgentToClient) => ACCELERATE_AGENT_TO_CLIENT,
                },
                spill_bytes: SPILL_BYTES,
                reserved: 0,
            },
        )
    }

    /// Where a client connects to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.asked.local_addr()
    }

    /// Takes the agent's end of the next connection.
    pub(super) fn accept(&self) -> io::Result<TcpStream> {
        // Where the hooks let no connection through, none ever comes.
        if wait_for(&self.listener, PollFlags::IN, PATIENCE)?.is_empty() {
            return Err(io::Error::other("the agent's end did not come"));
        }
        let (agent, _) = self.listener.accept()?;
        patient(&agent)?;
        Ok(agent)
    }

    /// Decides over the connections that are made from now on.
    pub(super) fn prepare(&self, direction: Direction, is_fast: bool) -> io::Result<()> {
        self.configure(is_fast.then_some(direction))
    }

    pub(super) fn pair(&self, direction: Direction, is_fast: bool) -> io::Result<Pair> {
        self.prepare(direction, is_fast)?;
        let client = TcpStream::connect_timeout(&self.address()?, PATIENCE)?;
        patient(&client)?;
        Ok(Pair {
            client,
            agent: self.accept()?,
        })
    }
}

/// The hooks that make a connection, in the cgroup of this process.
fn link(mount: &CgroupMount, object: &Object) -> Result<Vec<OwnedFd>, InterceptionError> {
    let attaching = || step("attach the hooks of the self-test");
    let sockets = object.map_fd("SOCKETS").map_err(attaching())?;
    kernel::attach_to_map(
        object.program(SK_MSG_PROGRAM)?,
        sockets.as_fd(),
        AttachType::SkMsgVerdict,
    )
    .map_err(attaching())?;
    let cgroup = File::open(mount.directory(&mount.current()?)?).map_err(attaching())?;
    [
        ("stamp_creator", AttachType::SockCreate),
        ("follow_connection", AttachType::SockOps),
        ("redirect_connect4", AttachType::Connect4),
    ]
    .into_iter()
    .map(|(program, attach_type)| {
        kernel::link_create(object.program(program)?, cgroup.as_fd(), attach_type)
            .map_err(attaching())
    })
    .collect()
}

fn listen() -> Result<TcpListener, InterceptionError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(step("listen for the self-test"))
}

fn port(listener: &TcpListener) -> io::Result<u16> {
    listener.local_addr().map(|address| address.port())
}

/// No read or write of a scenario hangs.
pub(super) fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Waits for events; none have come when the time is over.
pub(super) fn wait_for(
    socket: &impl AsFd,
    events: PollFlags,
    patience: Duration,
) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(socket, events)];
    let timeout = Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    poll(&mut fds, Some(&timeout))?;
    Ok(fds[0].revents())
}
