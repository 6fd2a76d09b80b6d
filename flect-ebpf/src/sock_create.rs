//! `cgroup/sock_create`: stamps each new socket with its creator's cgroup.
//!
//! A socket keeps its cgroup, hooks run for that one, but `bpf_get_current_cgroup_id` names the
//! caller's: they differ for a socket that was passed on and for a process that has moved. connect
//! compares them, so that neither can speak for the other.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::maps::{ALLOW, CREATORS, current_cgroup, storage_or_insert};

#[cgroup_sock(sock_create)]
pub fn stamp_creator(ctx: SockContext) -> i32 {
    // Without memory for the stamp the socket works, but for intercepted connects.
    let _stamp = storage_or_insert(&CREATORS, ctx.as_ptr(), current_cgroup());
    ALLOW
}
