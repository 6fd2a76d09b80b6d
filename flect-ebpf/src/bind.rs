//! `cgroup/bind4` and `bind6`: nobody but the agent takes the agent's port, on any address, with or
//! without SO_REUSEPORT, also while the agent is away.
//!
//! The hook guards processes under the managed root, where it is attached. A process outside of it
//! could take the port while the agent is away; it then gets connections, but it could reach the
//! Valkey without any of this.

use core::ptr::read_volatile;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::connect::port_of;
use crate::maps::{ALLOW, EADDRINUSE, config, current_cgroup, refuse};

const SOCK_STREAM: u32 = 1;

#[cgroup_sock_addr(bind4)]
pub fn guard_bind4(ctx: SockAddrContext) -> i32 {
    guard(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn guard_bind6(ctx: SockAddrContext) -> i32 {
    guard(&ctx)
}

#[inline(always)]
fn guard(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs; volatile as in connect.rs.
    let (kind, port) = unsafe {
        (
            read_volatile(&raw const (*ctx.sock_addr).type_),
            read_volatile(&raw const (*ctx.sock_addr).user_port),
        )
    };
    let Some(config) = config() else {
        return ALLOW;
    };
    let agents_port = kind == SOCK_STREAM && u32::from(port_of(port)) == config.listen_port;
    if agents_port && current_cgroup() != config.agent_cgroup {
        return refuse(EADDRINUSE);
    }
    ALLOW
}
