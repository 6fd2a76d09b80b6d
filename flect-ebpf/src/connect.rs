//! `cgroup/connect4` and `connect6`: hands intercepted connections to the agent, and remembers who
//! asked for what.
//!
//! Invariant: the memory on a socket describes its last connect. It is written anew each time and
//! cleared by every connect that is not intercepted. Whatever is not clear is refused.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use flect_ebpf::{
    Address, LOOPBACK_V4, LOOPBACK_V6, Memory, REFUSED_AGENTS_PORT, REFUSED_BOUND_TO_DEVICE,
    REFUSED_CLOSED_PORT, REFUSED_MULTIPATH, REFUSED_NO_MEMORY, REFUSED_OLD_SOCKET,
    REFUSED_OTHER_CGROUP, REFUSED_UNKNOWN_NAMESPACE, V4_MAPPED, WEAKENED_AGENTS_PORT,
    WEAKENED_CREATOR, v4_mapped,
};

use crate::maps::{
    ALLOW, CREATORS, ECONNREFUSED, MEMORIES, NAMESPACES, config, current_cgroup, is_closed,
    is_intercepted, is_weakened, refuse, report, storage, storage_delete, storage_or_insert,
};

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
/// `lo` is device 1 in every network namespace (LOOPBACK_IFINDEX).
const LOOPBACK_DEVICE: u32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn redirect_connect4(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the context is valid while the program runs. Volatile, here and below: the verifier
    // refuses loads that the compiler has merged ('invalid bpf_context access').
    let (ip4, port) = unsafe {
        (
            read_volatile(&raw const (*address).user_ip4),
            read_volatile(&raw const (*address).user_port),
        )
    };
    let asked = v4_mapped(unspecified_v4_is_loopback(ip4));
    match decide(&ctx, asked, port_of(port)) {
        Decision::Pass => ALLOW,
        Decision::Refuse => refuse(ECONNREFUSED),
        Decision::Redirect { listen_port, .. } => {
            // SAFETY: as above.
            unsafe {
                write_volatile(&raw mut (*address).user_ip4, LOOPBACK_V4);
                write_volatile(&raw mut (*address).user_port, listen_port);
            }
            ALLOW
        }
    }
}

#[cgroup_sock_addr(connect6)]
pub fn redirect_connect6(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: as above.
    let (words, port) = unsafe {
        (
            [
                read_volatile(&raw const (*address).user_ip6[0]),
                read_volatile(&raw const (*address).user_ip6[1]),
                read_volatile(&raw const (*address).user_ip6[2]),
                read_volatile(&raw const (*address).user_ip6[3]),
            ],
            read_volatile(&raw const (*address).user_port),
        )
    };
    let asked = match words {
        [0, 0, V4_MAPPED, ip4] => v4_mapped(unspecified_v4_is_loopback(ip4)),
        // Connecting to :: means ::1 (tcp_v6_connect).
        [0, 0, 0, 0] => LOOPBACK_V6,
        other => other,
    };
    match decide(&ctx, asked, port_of(port)) {
        Decision::Pass => ALLOW,
        Decision::Refuse => refuse(ECONNREFUSED),
        Decision::Redirect { listen_port, v6 } => {
            // A namespace without ::1 takes IPv6 connections on its 127.0.0.1; a socket that may not
            // (IPV6_V6ONLY) is told ENETUNREACH by the kernel.
            let to = if v6 {
                LOOPBACK_V6
            } else {
                v4_mapped(LOOPBACK_V4)
            };
            // SAFETY: as above.
            unsafe {
                write_volatile(&raw mut (*address).user_ip6[0], to[0]);
                write_volatile(&raw mut (*address).user_ip6[1], to[1]);
                write_volatile(&raw mut (*address).user_ip6[2], to[2]);
                write_volatile(&raw mut (*address).user_ip6[3], to[3]);
                write_volatile(&raw mut (*address).user_port, listen_port);
            }
            ALLOW
        }
    }
}

enum Decision {
    Pass,
    Refuse,
    /// The port as `user_port` has it.
    Redirect {
        listen_port: u32,
        v6: bool,
    },
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, asked: Address, port: u16) -> Decision {
    let address = ctx.sock_addr;
    // SAFETY: the context is valid while the program runs.
    let (protocol, sk) = unsafe {
        (
            read_volatile(&raw const (*address).protocol),
            read_volatile(&raw const (*address).__bindgen_anon_1.sk),
        )
    };
    if protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP {
        return Decision::Pass;
    }
    let Some(config) = config() else {
        return Decision::Refuse;
    };
    let cgroup = current_cgroup();
    if cgroup == config.agent_cgroup {
        return Decision::Pass;
    }
    // SAFETY: the helper asks for this program's own context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if !is_intercepted(asked, port) {
        storage_delete(&MEMORIES, sk.cast());
        // Nobody may fill the backlog that neighbours share: only what is redirected comes there.
        if is_agents_port(asked, port, config.listen_port) && !is_weakened(WEAKENED_AGENTS_PORT) {
            report(REFUSED_AGENTS_PORT, netns_cookie, cgroup);
            return Decision::Refuse;
        }
        return Decision::Pass;
    }
    if is_closed(port) {
        storage_delete(&MEMORIES, sk.cast());
        report(REFUSED_CLOSED_PORT, netns_cookie, cgroup);
        return Decision::Refuse;
    }
    match redirect(address, sk, asked, port, cgroup, netns_cookie, protocol) {
        Ok(v6) => Decision::Redirect {
            listen_port: u32::from((config.listen_port as u16).to_be()),
            v6,
        },
        Err(kind) => {
            report(kind, netns_cookie, cgroup);
            Decision::Refuse
        }
    }
}

/// Remembers an intercepted connect, and whether it goes to the agent's IPv6 listener; or why not.
#[inline(always)]
fn redirect(
    address: *mut bpf_sock_addr,
    sk: *mut bpf_sock,
    asked: Address,
    port: u16,
    cgroup: u64,
    netns_cookie: u64,
    protocol: u32,
) -> Result<bool, u32> {
    if protocol == IPPROTO_MPTCP {
        return Err(REFUSED_MULTIPATH);
    }
    match storage(&CREATORS, sk.cast::<c_void>()) {
        None => return Err(REFUSED_OLD_SOCKET),
        Some(creator) if *creator != cgroup && !is_weakened(WEAKENED_CREATOR) => {
            return Err(REFUSED_OTHER_CGROUP);
        }
        Some(_) => {}
    }
    // SAFETY: the verifier proves that sk is a socket.
    let device = unsafe { read_volatile(&raw const (*sk).bound_dev_if) };
    if device != 0 && device != LOOPBACK_DEVICE {
        return Err(REFUSED_BOUND_TO_DEVICE);
    }
    // SAFETY: the agent overwrites entries as a whole, and either state is a true one.
    let Some(namespace) = (unsafe { NAMESPACES.get(netns_cookie) }) else {
        return Err(REFUSED_UNKNOWN_NAMESPACE);
    };
    let v6 = asked[2] != V4_MAPPED || asked[0] != 0 || asked[1] != 0;
    if namespace.v4 == 0 && !(v6 && namespace.v6 != 0) {
        return Err(REFUSED_UNKNOWN_NAMESPACE);
    }
    let memory = Memory {
        asked_address: asked,
        cgroup,
        netns_cookie,
        // SAFETY: the helper asks for this program's own context.
        socket_cookie: unsafe { bpf_get_socket_cookie(address.cast()) },
        asked_port: u32::from(port),
        reserved: 0,
    };
    let Some(slot) = storage_or_insert(&MEMORIES, sk.cast(), memory) else {
        return Err(REFUSED_NO_MEMORY);
    };
    *slot = memory;
    Ok(v6 && namespace.v6 != 0)
}

/// Whether this is where the agent listens, in whatever network namespace.
#[inline(always)]
fn is_agents_port(asked: Address, port: u16, listen_port: u32) -> bool {
    u32::from(port) == listen_port && (asked == LOOPBACK_V6 || asked == v4_mapped(LOOPBACK_V4))
}

/// Connecting to 0.0.0.0 means 127.0.0.1 (ip_route_connect).
#[inline(always)]
fn unspecified_v4_is_loopback(ip4: u32) -> u32 {
    if ip4 == 0 { LOOPBACK_V4 } else { ip4 }
}

/// `user_port` holds the two bytes of the port in network order, then zeroes.
#[inline(always)]
pub fn port_of(user_port: u32) -> u16 {
    u16::from_be(user_port as u16)
}
