//! Attacks that have the kernel give the agent's port away by itself, to a socket that listens or connects
//! without bind: no hook sees that. The namespace's range of such ports holds the agent's.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use flect_agent::weakened::Weakness;
use socket2::Socket;

use super::ground::{Answer, Ground, sock_addr, tcp};
use super::namespaces::served_here;
use super::scene::Scene;
use super::{Attack, By, Falls, system};

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// As wide as it goes without the ports of services.
const WIDE: &str = "1024 65535";

pub(super) const ATTACKS: [Attack; 2] = [
    attack("the_agents_port_without_bind", |scene| {
        after_the_agent(scene, "part_listen_unbound")
    }),
    attack("the_agents_port_as_a_source", |scene| {
        after_the_agent(scene, "part_connect_unbound")
    }),
];

const fn attack(name: &'static str, body: super::Staged) -> Attack {
    Attack {
        name,
        by: By::Staged(body),
        may_be: &[],
        falls: Falls::Under(&[Weakness::ReservedPort]),
    }
}

/// While the agent is away its port is free.
fn after_the_agent(scene: &Scene, part: &str) -> Result<Answer> {
    let mut app = scene.start(part, true)?;
    app.answer()?;
    scene.bed.kill_agent()?;
    app.go_on()?;
    app.answer()
}

/// Waits in a namespace of its own, in which the agent has listened, until the agent is gone.
fn wait_for_its_end(ground: &Ground) -> Result<()> {
    system::own_network()?;
    fs::write(PORT_RANGE, WIDE).context("widening the range")?;
    let served = served_here(ground);
    ensure!(matches!(served, Answer::Served(_)), "the app: {served}");
    println!("{}", Answer::Refused("ready".to_owned()));
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// A socket to which the kernel gives no port but the agent's: by its own option, or, before Linux 6.3, by
/// the range of the namespace.
fn only_the_agents_port(ground: &Ground, like: SocketAddr) -> Result<Socket> {
    /// include/uapi/linux/in.h
    const IP_LOCAL_PORT_RANGE: i32 = 51;
    let socket = tcp(like)?;
    let port = i32::from(ground.agent_port);
    let both = port | port << 16;
    match system::set_option(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, both) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            fs::write(PORT_RANGE, format!("{port} {port}")).context("narrowing the range")?;
        }
        result => result?,
    }
    Ok(socket)
}

fn tell(ground: &Ground, socket: &Socket, done: io::Result<()>) -> Result<()> {
    let answer = match done {
        Err(error) => Answer::Refused(error.to_string()),
        Ok(()) => {
            let own = socket.local_addr()?.as_socket().context("an address")?;
            ensure!(own.port() == ground.agent_port, "the kernel gave {own}");
            Answer::Crossed(format!("it has {own}"))
        }
    };
    println!("{answer}");
    Ok(())
}

pub(super) fn listen_unbound(ground: &Ground) -> Result<()> {
    wait_for_its_end(ground)?;
    let socket = only_the_agents_port(ground, ground.agent())?;
    let done = socket.listen(8);
    tell(ground, &socket, done)
}

/// To a listener of its own, which nobody intercepts.
pub(super) fn connect_unbound(ground: &Ground) -> Result<()> {
    wait_for_its_end(ground)?;
    let listener = tcp(ground.agent())?;
    listener.bind(&sock_addr((Ipv4Addr::LOCALHOST, 0).into()))?;
    listener.listen(8)?;
    let to = listener.local_addr()?.as_socket().context("an address")?;
    let socket = only_the_agents_port(ground, to)?;
    let done = socket.connect(&to.into());
    tell(ground, &socket, done)
}
