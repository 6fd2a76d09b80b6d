//! `cgroup_skb/egress`: the last guard. TCP from a managed workload straight to an intercepted address
//! and port never leaves: connections opened before the hooks, raw sockets, whatever went around
//! connect. The agent is exempt by its socket's cgroup.
//!
//! Resets pass, so that the server forgets connections that are ended here; they carry no data.
//!
//! Packet sockets (AF_PACKET) do not pass this hook; they ask for CAP_NET_RAW.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_skb_cgroup_id;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use flect_ebpf::{Address, v4_mapped};

use crate::maps::{config, is_intercepted};

const PASS: i32 = 1;
const DROP: i32 = 0;

const TCP: u8 = 6;
/// Extension headers of IPv6 in front of TCP that are followed; more of them are no honest packet's.
const EXTENSIONS_MAX: usize = 6;

#[cgroup_skb(egress)]
pub fn guard_egress(ctx: SkBuffContext) -> i32 {
    match destination(&ctx) {
        Destination::Unknown => DROP,
        Destination::Tcp(Segment {
            address,
            port,
            is_reset: false,
        }) if is_intercepted(address, port) => {
            // SAFETY: the helper asks for this program's own context.
            let cgroup = unsafe { bpf_skb_cgroup_id(ctx.as_ptr().cast()) };
            match config() {
                Some(config) if cgroup == config.agent_cgroup => PASS,
                _ => DROP,
            }
        }
        _ => PASS,
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
    address: Address,
    /// Host order.
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
        6 => return destination_v6(ctx).unwrap_or(Destination::Elsewhere),
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
    let ip4: u32 = ctx.load(16).ok()?;
    segment(ctx, v4_mapped(ip4), header_bytes)
}

#[inline(always)]
fn destination_v6(ctx: &SkBuffContext) -> Option<Destination> {
    let mut next: u8 = ctx.load(6).ok()?;
    let mut offset = 40usize;
    for _ in 0..EXTENSIONS_MAX {
        match next {
            TCP => {
                let address: Address = ctx.load(24).ok()?;
                return segment(ctx, address, offset).map(Destination::Tcp);
            }
            // Hop-by-hop, routing, destination options: their length counts 8-byte units after the
            // first.
            0 | 43 | 60 => {
                next = ctx.load(offset).ok()?;
                let units: u8 = ctx.load(offset + 1).ok()?;
                offset += (usize::from(units) + 1) * 8;
            }
            // Fragment: 8 bytes.
            44 => {
                let fragment: u16 = ctx.load(offset + 2).ok()?;
                if u16::from_be(fragment) & 0xfff8 != 0 {
                    return None;
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
            _ => return None,
        }
    }
    // The receiver would follow any number of them.
    Some(Destination::Unknown)
}

/// The TCP header at an offset. One too short to have flags is taken for no reset.
#[inline(always)]
fn segment(ctx: &SkBuffContext, address: Address, offset: usize) -> Option<Segment> {
    const RST: u8 = 4;
    let port: u16 = ctx.load(offset + 2).ok()?;
    let flags: u8 = ctx.load(offset + 13).unwrap_or(0);
    Some(Segment {
        address,
        port: u16::from_be(port),
        is_reset: flags & RST != 0,
    })
}
