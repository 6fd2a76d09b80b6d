//! Attacks without a connection: segments made by hand. They ask for CAP_NET_RAW.
//!
//! The oracle is the shared Valkey's own kernel: a SYN that arrives is answered, and a raw socket
//! hears the answer. What is answered by nobody must not leave at all: a packet socket hears it there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use flect_agent::weakened::Weakness;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::ground::Answer;
use super::ground::Ground;
use super::{Attack, By, Falls};

const GUARD: Falls = Falls::Under(&[Weakness::HookEgress]);
/// How long an answer is waited for; the loopback brings it before the packet is sent.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// Nobody's port: outside of the ephemeral range, and not below it where services are.
const SOURCE_PORT: u16 = 61_441;
const TCP: u8 = 6;
const DESTINATION_OPTIONS: u8 = 60;

pub(super) const ATTACKS: [Attack; 9] = [
    attack("a_raw_syn", raw_syn, GUARD),
    attack("a_raw_syn_over_ipv6", raw_syn_v6, GUARD),
    attack("a_raw_header_with_options", header_with_options, GUARD),
    attack("a_raw_first_fragment", first_fragment, GUARD),
    attack("behind_extension_headers", extensions, GUARD),
    attack("behind_a_header_that_is_cut", cut_header, GUARD),
    attack("a_raw_reset", raw_reset, GUARD),
    attack("a_raw_reset_in_valkeys_name", reset_in_its_name, GUARD),
    attack(
        "a_packet_socket",
        packet_socket,
        Falls::Limit(
            "packet sockets pass no hook of a cgroup; they ask for CAP_NET_RAW where Valkey's address can be reached, and \
             Valkey asks for a password",
        ),
    ),
];

const fn attack(name: &'static str, body: super::Body, falls: Falls) -> Attack {
    Attack {
        name,
        by: By::App(body),
        may_be: &[],
        falls,
    }
}

/// Sends, and listens whether the shared Valkey answers the SYN.
fn heard(
    family: Domain,
    valkey_port: u16,
    send: impl FnOnce() -> io::Result<usize>,
) -> Result<Answer> {
    let ear = Socket::new(family, Type::RAW, Some(Protocol::TCP))?;
    ear.attach_filter(&only_to_source_port(family))?;
    ear.set_read_timeout(Some(Duration::from_millis(50)))?;
    if let Err(error) = send() {
        return Ok(Answer::Refused(error.to_string()));
    }
    let deadline = Instant::now() + HEARD_WITHIN;
    let mut buffer = [0u8; 2048];
    while Instant::now() < deadline {
        let Ok(read) = io::Read::read(&mut &ear, &mut buffer) else {
            continue;
        };
        // Raw sockets give IPv4 headers and leave IPv6 headers out.
        let header = if family == Domain::IPV4 {
            usize::from(buffer[0] & 15) * 4
        } else {
            0
        };
        let segment = &buffer[header.min(read)..read];
        let is_answer = segment.len() >= 14
            && segment[..2] == valkey_port.to_be_bytes()
            && segment[2..4] == SOURCE_PORT.to_be_bytes()
            && segment[13] & 0x12 == 0x12;
        if is_answer {
            return Ok(Answer::Crossed("the shared Valkey answered".to_owned()));
        }
    }
    Ok(Answer::Refused("no answer".to_owned()))
}

/// Sends, and listens whether a packet with this end leaves.
fn leaves(ethertype: i32, end: &[u8], send: impl FnOnce() -> io::Result<usize>) -> Result<Answer> {
    let ear = super::system::loopback_packets(ethertype as u16)?;
    ear.set_read_timeout(Some(Duration::from_millis(50)))?;
    if let Err(error) = send() {
        return Ok(Answer::Refused(error.to_string()));
    }
    let deadline = Instant::now() + HEARD_WITHIN;
    let mut buffer = [0u8; 2048];
    while Instant::now() < deadline {
        if let Ok(read) = io::Read::read(&mut &ear, &mut buffer)
            && buffer[..read].ends_with(end)
        {
            return Ok(Answer::Crossed("it left".to_owned()));
        }
    }
    Ok(Answer::Refused("it did not leave".to_owned()))
}

/// Raw sockets hear all TCP of the machine, which would crowd out the answer.
fn only_to_source_port(family: Domain) -> Vec<SockFilter> {
    /// Instructions of classic BPF (linux/bpf_common.h).
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const LOAD_HALF: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = SockFilter::new;
    let mut program = if family == Domain::IPV4 {
        vec![
            step(LOAD_HEADER_LENGTH, 0, 0, 0),
            step(LOAD_HALF_BEHIND_HEADER, 0, 0, 2),
        ]
    } else {
        vec![step(LOAD_HALF, 0, 0, 2)]
    };
    program.extend([
        step(JUMP_IF_EQUAL, 0, 1, u32::from(SOURCE_PORT)),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]);
    program
}

fn syn(source: &[u8], destination: &[u8], port: u16) -> Vec<u8> {
    const SYN: u8 = 2;
    segment(source, destination, (SOURCE_PORT, port), SYN)
}

/// A segment with its checksum, over a pseudo header (RFC 9293, 3.1).
fn segment(source: &[u8], destination: &[u8], ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut segment = vec![0u8; 20];
    segment[..2].copy_from_slice(&ports.0.to_be_bytes());
    segment[2..4].copy_from_slice(&ports.1.to_be_bytes());
    segment[4..8].copy_from_slice(&std::process::id().to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let pseudo = [source, destination, &[0, TCP, 0, 20]].concat();
    let checksum = checksum(&[&pseudo[..], &segment].concat());
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn syn_v4(port: u16) -> Vec<u8> {
    let address = Ipv4Addr::LOCALHOST.octets();
    syn(&address, &address, port)
}

fn syn_v6(port: u16) -> Vec<u8> {
    let address = Ipv6Addr::LOCALHOST.octets();
    syn(&address, &address, port)
}

fn to_v4() -> SockAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
}

fn to_v6() -> SockAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()
}

fn raw_syn(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    heard(Domain::IPV4, port, || {
        socket.send_to(&syn_v4(port), &to_v4())
    })
}

fn raw_syn_v6(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::TCP))?;
    heard(Domain::IPV6, port, || {
        socket.send_to(&syn_v6(port), &to_v6())
    })
}

/// An IPv4 header of our own; the kernel fills in its checksum and length.
fn packet_v4(options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0u8; 20];
    packet[0] = 0x40 | (5 + options.len() / 4) as u8;
    // Of this process alone: fragments wait for their like for half a minute.
    packet[4..6].copy_from_slice(&(std::process::id() as u16 | 1).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[8] = 64;
    packet[9] = TCP;
    packet[12..16].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    packet[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    packet.extend_from_slice(options);
    packet.extend_from_slice(payload);
    packet
}

/// IPPROTO_RAW: the header is the sender's.
fn raw(family: Domain) -> io::Result<Socket> {
    Socket::new(family, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
}

/// The TCP header does not stand where it usually does.
fn header_with_options(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let socket = raw(Domain::IPV4)?;
    // 40 bytes of 'no operation'.
    let packet = packet_v4(&[1; 40], 0, &syn_v4(port));
    heard(Domain::IPV4, port, || socket.send_to(&packet, &to_v4()))
}

/// In two fragments: the first has the ports and no flags.
fn first_fragment(ground: &Ground) -> Result<Answer> {
    /// `IP_MF`: more fragments follow.
    const MORE: u16 = 0x2000;
    let port = ground.valkey_port;
    let socket = raw(Domain::IPV4)?;
    let segment = syn_v4(port);
    let (first, second) = (
        packet_v4(&[], MORE, &segment[..8]),
        packet_v4(&[], 1, &segment[8..]),
    );
    heard(Domain::IPV4, port, || {
        socket.send_to(&second, &to_v4())?;
        socket.send_to(&first, &to_v4())
    })
}

/// An IPv6 packet with extension headers, each of 8 bytes of padding.
fn packet_v6(headers: usize, payload: &[u8]) -> Vec<u8> {
    let first = if headers == 0 {
        TCP
    } else {
        DESTINATION_OPTIONS
    };
    let length = (headers * 8 + payload.len()) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([first, 64]);
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    for left in (0..headers).rev() {
        let next = if left == 0 { TCP } else { DESTINATION_OPTIONS };
        // PadN (RFC 8200, 4.2) of 6 bytes.
        packet.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    packet.extend_from_slice(payload);
    packet
}

/// As many as the guard follows, one more, and many.
fn extensions(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let socket = raw(Domain::IPV6)?;
    let mut answer = Answer::Refused("nothing was tried".to_owned());
    for headers in [1, 5, 6, 7, 20] {
        let packet = packet_v6(headers, &syn_v6(port));
        answer = heard(Domain::IPV6, port, || socket.send_to(&packet, &to_v6()))?;
        if !matches!(answer, Answer::Refused(_)) {
            break;
        }
    }
    Ok(answer)
}

/// A first fragment that ends within a header, in front of the ports.
fn cut_header(ground: &Ground) -> Result<Answer> {
    const FRAGMENT: u8 = 44;
    let mut packet = packet_v6(0, &[]);
    packet[6] = FRAGMENT;
    // A fragment header with 'more', an id of this process, and destination options that say they are
    // longer than what is there.
    packet.extend([DESTINATION_OPTIONS, 0, 0, 1]);
    packet.extend(std::process::id().to_be_bytes());
    packet.extend([TCP, 1, 1, 12, 0, 0, 0, 0]);
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    let socket = raw(Domain::IPV6)?;
    let rest = syn_v6(ground.valkey_port);
    leaves(libc::ETH_P_IPV6, &packet, || {
        let sent = socket.send_to(&packet, &to_v6())?;
        // So that the attack is a whole one.
        let mut second = packet[..48].to_vec();
        second[42..44].copy_from_slice(&8u16.to_be_bytes());
        second.extend([0; 8]);
        second.extend(&rest);
        let length = (second.len() - 40) as u16;
        second[4..6].copy_from_slice(&length.to_be_bytes());
        socket.send_to(&second, &to_v6())?;
        Ok(sent)
    })
}

/// To the Valkey, as if one of the agent's connections ended.
fn raw_reset(ground: &Ground) -> Result<Answer> {
    reset(SOURCE_PORT, ground.valkey_port)
}

/// The other way: to the agent, as if the Valkey ended it.
fn reset_in_its_name(ground: &Ground) -> Result<Answer> {
    reset(ground.valkey_port, SOURCE_PORT)
}

fn reset(source: u16, destination: u16) -> Result<Answer> {
    const RST: u8 = 4;
    let address = Ipv4Addr::LOCALHOST.octets();
    let segment = segment(&address, &address, (source, destination), RST);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    leaves(libc::ETH_P_IP, &segment, || {
        socket.send_to(&segment, &to_v4())
    })
}

/// A whole frame, straight to the device.
fn packet_socket(ground: &Ground) -> Result<Answer> {
    let port = ground.valkey_port;
    let socket = super::system::loopback_packets(0)?;
    let mut frame = vec![0u8; 12];
    frame.extend((libc::ETH_P_IPV6 as u16).to_be_bytes());
    frame.extend(packet_v6(0, &syn_v6(port)));
    heard(Domain::IPV6, port, || {
        io::Write::write(&mut &socket, &frame)
    })
}
