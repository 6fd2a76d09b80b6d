//! Attacks from inside a container: root there, with network, user, mount and cgroup namespaces of its
//! own, and from network namespaces in which the same addresses are somebody else's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use flect_agent::weakened::Weakness;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::Socket;

use super::connecting::AROUND;
use super::ground::{Answer, Ground, dial, open, sock_addr, tcp};
use super::system::{self, Bpf};
use super::{APP, Attack, By, Falls, NEIGHBOUR};

/// How long a namespace may wait for the agent's listeners: the refused connect reports it.
const OPENED_WITHIN: Duration = Duration::from_secs(30);

/// Handshakes that one app holds up: far more than its namespace's share.
const HELD_UP: u16 = 3000;
/// Their ports: below those that beds give to agents.
const HELD_UP_FIRST: u16 = 2000;

pub(super) const ATTACKS: [Attack; 6] = [
    Attack {
        name: "root_of_a_container",
        by: By::App(contained),
        may_be: &[APP],
        falls: Falls::Never(
            "in a network namespace of its own there is no other way to the shared Valkey",
        ),
    },
    Attack {
        name: "a_cgroup_namespace",
        by: By::App(cgroup_namespace),
        may_be: &[APP],
        falls: AROUND,
    },
    Attack {
        name: "the_hooks_from_inside",
        by: By::App(hooks_from_inside),
        may_be: &[],
        falls: Falls::Never("the kernel itself keeps BPF objects from all but the node's root"),
    },
    Attack {
        name: "the_same_tuple_elsewhere",
        by: By::Outsider(same_tuple),
        may_be: &[],
        falls: Falls::Under(&[Weakness::Namespace]),
    },
    Attack {
        name: "the_agents_port",
        by: By::App(agents_port),
        may_be: &[],
        falls: Falls::Under(&[Weakness::AgentsPort, Weakness::Identity]),
    },
    Attack {
        name: "the_agents_port_from_outside",
        by: By::Outsider(agents_port),
        may_be: &[],
        falls: Falls::Under(&[Weakness::Identity]),
    },
];

/// Until the agent has its listeners there, connects are refused.
pub(super) fn served_here(ground: &Ground) -> Answer {
    let deadline = Instant::now() + OPENED_WITHIN;
    loop {
        match open(ground.valkey()) {
            Answer::Refused(_) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

fn contained(ground: &Ground) -> Result<Answer> {
    system::enter_container()?;
    let answer = served_here(ground);
    if let Answer::Refused(why) = &answer {
        bail!("the app is not served in its container: {why}");
    }
    Ok(answer)
}

fn cgroup_namespace(ground: &Ground) -> Result<Answer> {
    system::own_cgroup_namespace()?;
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    ensure!(own.contains("0::/\n"), "its cgroup is {own}");
    Ok(open(ground.valkey()))
}

/// By their pins and by their numbers.
fn hooks_from_inside(ground: &Ground) -> Result<Answer> {
    system::enter_container()?;
    let mut failures = Vec::new();
    let listed = std::fs::read_dir(&ground.pins).map(drop);
    let removed = std::fs::remove_dir_all(&ground.pins);
    for (what, result) in [("list the pins", listed), ("remove the pins", removed)] {
        match result {
            Ok(()) => return Ok(Answer::Crossed(format!("it could {what}"))),
            Err(error) => failures.push(error),
        }
    }
    for command in [Bpf::NextProg, Bpf::ProgById, Bpf::MapById, Bpf::LinkById] {
        for id in 0..64 {
            match system::bpf_by_id(command, id) {
                Ok(_) => return Ok(Answer::Crossed(format!("{command:?} of {id}"))),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
                Err(error) => bail!("{command:?}: {error}"),
            }
        }
    }
    for error in failures {
        ensure!(
            error.kind() == std::io::ErrorKind::PermissionDenied,
            "the pins: {error}"
        );
    }
    Ok(Answer::Refused("no permission".to_owned()))
}

/// Straight to the agent, on every address that it listens on.
fn agents_port(ground: &Ground) -> Result<Answer> {
    let mut answer = Answer::Refused("nothing was tried".to_owned());
    for text in ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
        answer = open(super::ground::v6(text, ground.agent_port)?);
        if !matches!(answer, Answer::Refused(_)) {
            break;
        }
    }
    Ok(answer)
}

/// An established connection that no handshake has made (tcp(7) does not know it; CRIU lives on it).
pub(super) fn repaired(ground: &Ground, source_port: u16) -> Result<Socket> {
    /// include/uapi/linux/tcp.h
    const TCP_REPAIR: i32 = 19;
    let socket = tcp(ground.valkey())?;
    socket.set_reuse_address(true)?;
    system::set_option(&socket, libc::IPPROTO_TCP, TCP_REPAIR, 1)?;
    socket.bind(&sock_addr((Ipv4Addr::LOCALHOST, source_port).into()))?;
    socket.connect(&ground.valkey().into())?;
    Ok(socket)
}

/// The neighbour's handshake waits in a namespace of its own; somebody who no hook knows has the same
/// four numbers in the agent's.
fn same_tuple(ground: &Ground) -> Result<Answer> {
    let source = {
        let free = tcp(ground.valkey())?;
        free.bind(&sock_addr((Ipv4Addr::LOCALHOST, 0).into()))?;
        let address = free.local_addr()?.as_socket();
        address.context("an address")?.port()
    };
    let (ready, waits) = UnixStream::pair()?;
    let (done, ends) = UnixStream::pair()?;
    waits.set_read_timeout(Some(OPENED_WITHIN))?;
    ends.set_read_timeout(Some(OPENED_WITHIN))?;
    let neighbour = system::start_child(|| {
        ground.join(NEIGHBOUR)?;
        system::own_network()?;
        let served = served_here(ground);
        ensure!(
            matches!(served, Answer::Served(_)),
            "the neighbour: {served}"
        );
        let _held = repaired(ground, source)?;
        (&ready).write_all(b"x")?;
        Ok((&ends).read_exact(&mut [0])?)
    })?;
    (&waits).read_exact(&mut [0])?;
    let socket = tcp(ground.agent())?;
    socket.set_reuse_address(true)?;
    socket.bind(&sock_addr((Ipv4Addr::LOCALHOST, source).into()))?;
    let answer = dial(&socket, ground.agent());
    (&done).write_all(b"x")?;
    neighbour.end()?;
    Ok(answer)
}

/// As many established connections without an agent's end, in a namespace of the app's own.
pub(super) fn hold_up_handshakes(ground: &Ground) -> Result<Vec<Socket>> {
    system::own_network()?;
    let served = served_here(ground);
    ensure!(matches!(served, Answer::Served(_)), "the app: {served}");
    hold_up_from(ground, HELD_UP_FIRST)
}

fn hold_up_from(ground: &Ground, first_port: u16) -> Result<Vec<Socket>> {
    (first_port..first_port + HELD_UP)
        .map(|source| repaired(ground, source))
        .collect()
}

/// The same twice, in one namespace that is left meanwhile with all its sockets: nobody lives there then.
pub(super) fn hold_up_twice(
    ground: &Ground,
    wait: impl FnOnce() -> Result<()>,
) -> Result<Vec<Socket>> {
    let enter = |namespace: &File| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
    };
    let outside = File::open("/proc/self/ns/net")?;
    let mut all = hold_up_handshakes(ground)?;
    let own = File::open("/proc/self/ns/net")?;
    enter(&outside)?;
    wait()?;
    enter(&own)?;
    // Where the agent listens again, it has no room for this app's handshakes and resets them.
    let deadline = Instant::now() + OPENED_WITHIN;
    while let Answer::Refused(text) = open(ground.valkey())
        && text.contains("refused")
    {
        ensure!(Instant::now() < deadline, "nobody listens: {text}");
        thread::sleep(Duration::from_millis(20));
    }
    all.extend(hold_up_from(ground, HELD_UP_FIRST + HELD_UP)?);
    Ok(all)
}
