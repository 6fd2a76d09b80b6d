//! `cgroup/getpeername4` and `getpeername6`: an app that asks whom it is connected to is told the
//! address that it asked for. Only sockets with a memory of ours are touched.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use flect_ebpf::Memory;

use crate::maps::{ALLOW, MEMORIES, storage};

#[cgroup_sock_addr(getpeername4)]
pub fn answer_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(memory) = memory(&ctx) {
        // SAFETY: the context is valid while the program runs; volatile as in connect.rs.
        unsafe {
            write_volatile(&raw mut (*ctx.sock_addr).user_ip4, memory.asked_address[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, asked_port(memory));
        }
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn answer_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(memory) = memory(&ctx) {
        let asked = memory.asked_address;
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*ctx.sock_addr).user_ip6[0], asked[0]);
            write_volatile(&raw mut (*ctx.sock_addr).user_ip6[1], asked[1]);
            write_volatile(&raw mut (*ctx.sock_addr).user_ip6[2], asked[2]);
            write_volatile(&raw mut (*ctx.sock_addr).user_ip6[3], asked[3]);
            write_volatile(&raw mut (*ctx.sock_addr).user_port, asked_port(memory));
        }
    }
    ALLOW
}

#[inline(always)]
fn memory(ctx: &SockAddrContext) -> Option<&'static Memory> {
    // SAFETY: the context is valid while the program runs.
    let sk = unsafe { read_volatile(&raw const (*ctx.sock_addr).__bindgen_anon_1.sk) };
    storage(&MEMORIES, sk.cast()).map(|memory| &*memory)
}

/// As `user_port` has it.
#[inline(always)]
fn asked_port(memory: &Memory) -> u32 {
    u32::from((memory.asked_port as u16).to_be())
}
