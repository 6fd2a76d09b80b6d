//! `cgroup_skb/egress`: the last guard. TCP from a managed workload straight to an intercepted address
//! and port never leaves: connections opened before the hooks, raw sockets, whatever went around
//! connect. The agent is exempt by its socket's cgroup.
//!
//! Resets of TCP's own pass, so that the server forgets connections that are ended here; they carry no
//! data. A socket that is ended (SOCK_DESTROY, close) sends its reset itself, so what a raw socket sends is
//! somebody's forgery and is judged by both of its ends: a reset in the Valkey's name would end one of the
//! agent's connections.
//!
//! Packet sockets (AF_PACKET) do not pass this hook; they ask for CAP_NET_RAW.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_skb_cgroup_id};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use flect_ebpf::{Address, v4_mapped};

use crate::maps::{config, is_intercepted};

const PASS: i32 = 1;
const DROP: i32 = 0;

const TCP: u8 = 6;
const SOCK_STREAM: u32 = 1;
/// The root of cgroup v2 has this id on every machine. TCP's control sockets belong there, which are raw
/// ones and speak for sockets that are gone (`tcp_v4_send_reset`); no app does.
const ROOT_CGROUP: u64 = 1;
/// Extension headers of IPv6 in front of TCP that are followed; more of them are no honest packet's.
const EXTENSIONS_MAX: usize = 6;

#[cgroup_skb(egress)]
pub fn guard_egress(ctx: SkBuffContext) -> i32 {
    match destination(&ctx) {
        Destination::Unknown => DROP,
        Destination::Elsewhere => PASS,
        Destination::Tcp(segment) => judge(&ctx, &segment),
    }
}

#[inline(always)]
fn judge(ctx: &SkBuffContext, segment: &Segment) -> i32 {
    let is_to = is_intercepted(segment.address, segment.port);
    if !is_to && !is_intercepted(segment.source_address, segment.source_port) {
        return PASS;
    }
    // SAFETY: the helper asks for this program's own context.
    let cgroup = unsafe { bpf_skb_cgroup_id(ctx.as_ptr().cast()) };
    let is_tcps_own = cgroup == ROOT_CGROUP || is_of_tcp(ctx);
    if is_tcps_own && (!is_to || segment.is_reset) {
        // A Valkey below the managed root answers; or a connection ends.
        return PASS;
    }
    match config() {
        Some(config) if cgroup == config.agent_cgroup => PASS,
        _ => DROP,
    }
}

/// Whether a TCP socket sends it. The hook runs for full sockets only (`cgroup_bpf_run_filter_skb`): a
/// listener stands for its half-open connections, and what has no socket any more is not seen here.
#[inline(always)]
fn is_of_tcp(ctx: &SkBuffContext) -> bool {
    // SAFETY: the context is valid while the program runs; volatile as in connect.rs.
    let sk = unsafe { read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk) };
    if sk.is_null() {
        return false;
    }
    // SAFETY: the verifier proves that it is a socket, and checks that the answer is compared with null.
    unsafe {
        let full = bpf_sk_fullsock(sk);
        !full.is_null() && read_volatile(&raw const (*full).type_) == SOCK_STREAM
    }
}

enum Destination {
    Tcp(Segment),
    /// Nothing that a TCP would take for a segment.
    Elsewhere,
    /// It hides where it goes.
    Unknown,
}

struct Segment {
    source_address: Address,
    /// Host order, as below.
    source_port: u16,
    address: Address,
    port: u16,
    is_reset: bool,
}

/// Where a TCP segment goes. Later fragments carry no ports, and come to nothing without the first.
#[inline(always)]
fn destination(ctx: &SkBuffContext) -> Destination {
    let Ok(first) = ctx.load::<u8>(0) else {
        return Destination::Elsewhere;
    };
    let found = match first >> 4 {
        4 => destination_v4(ctx, usize::from(first & 0x0f) * 4),
        6 => return destination_v6(ctx),
        _ => None,
    };
    found.map_or(Destination::Elsewhere, Destination::Tcp)
}

#[inline(always)]
fn destination_v4(ctx: &SkBuffContext, header_bytes: usize) -> Option<Segment> {
    let protocol: u8 = ctx.load(9).ok()?;
    let fragment: u16 = ctx.load(6).ok()?;
    if protocol != TCP || u16::from_be(fragment) & 0x1fff != 0 {
        return None;
    }
    let source: u32 = ctx.load(12).ok()?;
    let ip4: u32 = ctx.load(16).ok()?;
    segment(ctx, v4_mapped(source), v4_mapped(ip4), header_bytes)
}

/// A header that cannot be read hides what follows it, perhaps in a later fragment: unknown, since no
/// honest packet ends before its headers do.
#[inline(always)]
fn destination_v6(ctx: &SkBuffContext) -> Destination {
    follow_v6(ctx).unwrap_or(Destination::Unknown)
}

#[inline(always)]
fn follow_v6(ctx: &SkBuffContext) -> Option<Destination> {
    let mut next: u8 = ctx.load(6).ok()?;
    let mut offset = 40usize;
    for _ in 0..EXTENSIONS_MAX {
        match next {
            TCP => {
                let source: Address = ctx.load(8).ok()?;
                let address: Address = ctx.load(24).ok()?;
                return segment(ctx, source, address, offset).map(Destination::Tcp);
            }
            // Hop-by-hop, routing, destination options: their length counts 8-byte units after the
            // first.
            0 | 43 | 60 => {
                next = ctx.load(offset).ok()?;
                let units: u8 = ctx.load(offset + 1).ok()?;
                offset += (usize::from(units) + 1) * 8;
            }
            // Fragment: 8 bytes. Later ones come to nothing without the first.
            44 => {
                let fragment: u16 = ctx.load(offset + 2).ok()?;
                if u16::from_be(fragment) & 0xfff8 != 0 {
                    return Some(Destination::Elsewhere);
                }
                next = ctx.load(offset).ok()?;
                offset += 8;
            }
            // Authentication header: its length counts 4-byte units after the first two.
            51 => {
                next = ctx.load(offset).ok()?;
                let units: u8 = ctx.load(offset + 1).ok()?;
                offset += (usize::from(units) + 2) * 4;
            }
            _ => return Some(Destination::Elsewhere),
        }
    }
    // The receiver would follow any number of them.
    None
}

/// The TCP header at an offset. One too short to have flags is taken for no reset.
#[inline(always)]
fn segment(
    ctx: &SkBuffContext,
    source_address: Address,
    address: Address,
    offset: usize,
) -> Option<Segment> {
    const RST: u8 = 4;
    let source_port: u16 = ctx.load(offset).ok()?;
    let port: u16 = ctx.load(offset + 2).ok()?;
    let flags: u8 = ctx.load(offset + 13).unwrap_or(0);
    Some(Segment {
        source_address,
        source_port: u16::from_be(source_port),
        address,
        port: u16::from_be(port),
        is_reset: flags & RST != 0,
    })
}
