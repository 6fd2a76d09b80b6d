//! Attacks by how a connection is asked for: addresses that mean the same, options of the socket,
//! other protocols, other ways to call connect.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use flect_agent::weakened::Weakness;
use rustix::net::connect_unspec;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::ground::{
    Answer, Ground, PATIENCE, ask, dial, first_served, open, read_mark, request, sock_addr, tcp, v6,
};
use super::{APP, Attack, By, Falls, uring};

/// Without these nothing stands between an app and the shared Valkey.
pub(super) const AROUND: Falls = Falls::Under(&[Weakness::HookConnect, Weakness::HookEgress]);
const NOT_TCP: Falls = Falls::Never("Valkey takes TCP only, so there is nobody to reach");
const NO_ROUTE: Falls =
    Falls::Never("the kernel connects TCP to no such address, whatever listens behind it");

const fn attack(name: &'static str, body: super::Body, falls: Falls) -> Attack {
    Attack {
        name,
        by: By::App(body),
        may_be: &[APP],
        falls,
    }
}

pub(super) const ATTACKS: [Attack; 18] = [
    attack("addresses_that_mean_the_same", same_address, AROUND),
    attack("unspecified_from_a_bound_source", bound_source, AROUND),
    attack("v4_in_other_v6_addresses", translated, NO_ROUTE),
    attack("multicast_broadcast_link_local", nobodys, NO_ROUTE),
    attack("bound_to_a_device", bound_to_device, AROUND),
    attack("marked_freebound_transparent", options, AROUND),
    attack("a_source_port_of_its_own", source_port, AROUND),
    attack("fast_open", fast_open, AROUND),
    attack("multipath", multipath, AROUND),
    attack("sctp_and_dccp", other_streams, NOT_TCP),
    attack("udp_on_the_same_port", udp, NOT_TCP),
    attack("smc", smc, AROUND),
    attack("io_uring", uring::connects, AROUND),
    attack("connect_twice", twice, AROUND),
    attack("unspec_and_again", unspec, AROUND),
    attack("an_accepted_socket_connects", accepted, AROUND),
    Attack {
        name: "a_closed_port",
        by: By::App(closed_port),
        may_be: &[],
        falls: AROUND,
    },
    Attack {
        name: "the_address_that_is_told",
        by: By::App(told),
        may_be: &[APP],
        falls: Falls::Under(&[Weakness::HookPeername]),
    },
];

fn same_address(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let mut answers = Vec::new();
    for text in [
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
    ] {
        answers.push(open(v6(text, port)?));
    }
    // Each is the app's own; the first that is not, is the answer.
    let strange = answers
        .iter()
        .position(|answer| *answer != Answer::Served(APP.to_owned()));
    Ok(answers.swap_remove(strange.unwrap_or(0)))
}

/// 0.0.0.0 is then the source's own address, and `::` of a v4-mapped source is 127.0.0.1.
fn bound_source(ground: &Ground) -> Result<Answer> {
    let mut answers = Vec::new();
    for (source, to) in [
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.5", "0.0.0.0"),
        ("::ffff:127.0.0.1", "::"),
        ("::1", "::"),
    ] {
        let to = v6(to, ground.valkey_port)?;
        let socket = tcp(to)?;
        socket.bind(&v6(source, 0)?.into())?;
        answers.push(dial(&socket, to));
    }
    Ok(first_not_own(answers))
}

/// The first answer that is neither a refusal nor the app's own; else the last.
fn first_not_own(mut answers: Vec<Answer>) -> Answer {
    let strange = answers.iter().position(|answer| {
        !matches!(answer, Answer::Refused(_)) && *answer != Answer::Served(APP.to_owned())
    });
    let index = strange.unwrap_or(answers.len() - 1);
    answers.swap_remove(index)
}

/// What no app has to say anything to, though it is where the shared Valkey is: the bus of a cluster.
fn closed_port(ground: &Ground) -> Result<Answer> {
    let mut refused = Vec::new();
    for text in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
        let address = v6(text, ground.closed_port)?;
        match tcp(address)?.connect_timeout(&address.into(), PATIENCE) {
            Ok(()) => return Ok(Answer::Crossed(format!("connected to {text}"))),
            Err(error) => refused.push(error.to_string()),
        }
    }
    Ok(Answer::Refused(refused.join(", ")))
}

fn translated(ground: &Ground) -> Result<Answer> {
    let mut answers = Vec::new();
    for text in [
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::ffff:0:127.0.0.1",
    ] {
        let address = v6(text, ground.valkey_port)?;
        // With a way out to the internet the SYN goes there, and nowhere else: not waited for.
        let socket = tcp(address)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                answers.push(Answer::Refused(error.to_string()));
            }
            _ => {
                let arrived = socket.peer_addr().is_ok();
                answers.push(if arrived {
                    Answer::of(ask(&socket))
                } else {
                    Answer::Refused(format!("{text} did not answer"))
                });
            }
        }
    }
    Ok(first_not_own(answers))
}

fn nobodys(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let mut answers = Vec::new();
    for text in ["224.0.0.1", "255.255.255.255", "127.255.255.255", "ff02::1"] {
        answers.push(open(v6(text, port)?));
    }
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse()?, port, 0, 1);
    answers.push(open(scoped.into()));
    for answer in &answers {
        ensure!(
            matches!(answer, Answer::Refused(_)),
            "a connection to nobody: {answer}"
        );
    }
    Ok(first_not_own(answers))
}

fn bound_to_device(ground: &Ground) -> Result<Answer> {
    let to = ground.valkey();
    let socket = tcp(to)?;
    socket.bind_device(Some(b"lo"))?;
    Ok(first_served([dial(&socket, to)]))
}

/// What other meshes take for a sign that a connection is exempt, and addresses that are not ours.
fn options(ground: &Ground) -> Result<Answer> {
    let to = ground.valkey();
    let mut answers = Vec::new();
    // 1337 and 0x539 are Istio's, 0x200 and 0xe00 Cilium's.
    for mark in [1, 0x539, 0x200, 0xe00, u32::MAX] {
        let socket = tcp(to)?;
        socket.set_mark(mark)?;
        answers.push(dial(&socket, to));
    }
    let socket = tcp(to)?;
    socket.set_freebind_v4(true)?;
    socket.bind(&v6("127.9.9.9", 0)?.into())?;
    answers.push(dial(&socket, to));
    let socket = tcp(to)?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&v6("127.8.8.8", 0)?.into())?;
    answers.push(dial(&socket, to));
    Ok(first_not_own(answers))
}

fn source_port(ground: &Ground) -> Result<Answer> {
    let to = ground.valkey();
    let socket = tcp(to)?;
    socket.set_reuse_address(true)?;
    socket.bind(&sock_addr((Ipv4Addr::LOCALHOST, 0).into()))?;
    ensure!(socket.local_addr()?.as_socket().is_some());
    Ok(dial(&socket, to))
}

/// Data in the SYN: by sendto without connect, and by the option that defers connect.
fn fast_open(ground: &Ground) -> Result<Answer> {
    /// include/uapi/linux/tcp.h
    const TCP_FASTOPEN_CONNECT: i32 = 30;
    let to = ground.valkey();
    let socket = tcp(to)?;
    let sent = socket.send_to_with_flags(request().as_bytes(), &to.into(), libc::MSG_FASTOPEN);
    let by_send = Answer::of(sent.and_then(|_| read_mark(&socket)));
    let socket = tcp(to)?;
    super::system::set_option(&socket, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
    let by_option = dial(&socket, to);
    Ok(first_not_own(vec![by_option, by_send]))
}

fn multipath(ground: &Ground) -> Result<Answer> {
    let mut answers = Vec::new();
    for to in [ground.valkey(), ground.valkey_v6()] {
        let made = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::MPTCP));
        match made {
            Ok(socket) => answers.push(dial(&socket, to)),
            Err(error) => return absent(&error),
        }
    }
    Ok(first_not_own(answers))
}

/// Only these errnos say that a kernel lacks a protocol.
fn absent(error: &io::Error) -> Result<Answer> {
    let known = [
        libc::EPROTONOSUPPORT,
        libc::ESOCKTNOSUPPORT,
        libc::ENOPROTOOPT,
        libc::EAFNOSUPPORT,
    ];
    let errno = error.raw_os_error().context("an errno")?;
    ensure!(known.contains(&errno), "no socket: {error}");
    Ok(Answer::Absent(error.to_string()))
}

fn other_streams(ground: &Ground) -> Result<Answer> {
    /// include/linux/socket.h
    const SOCK_DCCP: i32 = 6;
    let to = ground.valkey();
    let sctp = (Type::STREAM, libc::IPPROTO_SCTP);
    let dccp = (Type::from(SOCK_DCCP), libc::IPPROTO_DCCP);
    let mut answers = Vec::new();
    for (kind, protocol) in [sctp, dccp] {
        match Socket::new(Domain::IPV4, kind, Some(Protocol::from(protocol))) {
            Ok(socket) => answers.push(dial(&socket, to)),
            Err(error) => answers.push(absent(&error)?),
        }
    }
    let served = answers
        .iter()
        .position(|answer| matches!(answer, Answer::Served(_)));
    Ok(answers.swap_remove(served.unwrap_or(0)))
}

fn udp(ground: &Ground) -> Result<Answer> {
    let to = ground.valkey();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.connect(&to.into())?;
    Ok(Answer::of(ask(&socket)))
}

/// Shared memory communications fall back to a TCP socket that the kernel makes.
fn smc(ground: &Ground) -> Result<Answer> {
    /// include/linux/socket.h
    const AF_SMC: i32 = 43;
    match Socket::new(Domain::from(AF_SMC), Type::STREAM, None) {
        Ok(socket) => Ok(dial(&socket, ground.valkey())),
        Err(error) => absent(&error),
    }
}

/// The second connect comes while the first is on its way, and asks for the agent's port.
fn twice(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    socket.set_nonblocking(true)?;
    let first = socket.connect(&ground.valkey().into());
    let second = socket.connect(&ground.agent().into());
    let on_its_way = |result: &io::Result<()>| {
        result.as_ref().err().and_then(io::Error::raw_os_error) == Some(libc::EINPROGRESS)
    };
    if let (Err(error), false) = (&first, on_its_way(&first)) {
        return Ok(Answer::Refused(error.to_string()));
    }
    // On loopback the first is there by now, so the second may merely say so.
    ensure!(
        second.as_ref().map_or_else(
            |error| matches!(error.raw_os_error(), Some(libc::EISCONN | libc::EALREADY)),
            |()| true
        ),
        "the second connect: {second:?}"
    );
    Ok(Answer::of(ask(&socket)))
}

/// What a socket was connected to says nothing about what it is connected to next.
fn unspec(ground: &Ground) -> Result<Answer> {
    let socket = tcp(ground.valkey())?;
    let first = dial(&socket, ground.valkey());
    let mut answers = vec![first];
    for to in [ground.agent(), ground.valkey()] {
        // A socket that was refused is not connected to anything.
        let _unconnected = connect_unspec(&socket);
        answers.push(dial(&socket, to));
    }
    Ok(first_not_own(answers))
}

/// A socket out of accept was never made by anybody.
fn accepted(ground: &Ground) -> Result<Answer> {
    let listener = tcp(ground.valkey())?;
    listener.bind(&sock_addr((Ipv4Addr::LOCALHOST, 0).into()))?;
    listener.listen(1)?;
    let address: SocketAddr = listener.local_addr()?.as_socket().context("an address")?;
    let other = tcp(address)?;
    other.connect(&address.into())?;
    let (socket, _) = listener.accept()?;
    connect_unspec(&socket)?;
    Ok(dial(&socket, ground.valkey()))
}

fn told(ground: &Ground) -> Result<Answer> {
    for to in [ground.valkey(), ground.valkey_v6()] {
        let stream = std::net::TcpStream::connect_timeout(&to, PATIENCE)?;
        let told = stream.peer_addr()?;
        if told != to {
            return Ok(Answer::Crossed(format!("{to} is {told}")));
        }
        let own = stream.local_addr()?;
        ensure!(own.ip() == to.ip(), "its own end is {own}");
        if let answer @ Answer::Refused(_) = Answer::of(ask(&SockRef::from(&stream))) {
            return Ok(answer);
        }
    }
    Ok(Answer::Served(APP.to_owned()))
}
