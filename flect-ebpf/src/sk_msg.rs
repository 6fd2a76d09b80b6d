//! `sk_msg`: hands bytes straight to the other end's socket, past TCP/IP.
//!
//! A reader empties what was redirected to it before what came through TCP (tcp_bpf_recvmsg). So
//! going from TCP to the fast path can put later bytes before earlier ones, and nothing tells when it
//! would not. Hence the invariant: a direction takes the fast path from its first byte on or never,
//! and once on TCP it stays there.
//!
//! The way from the fast path to TCP is safe at any time, for the same reason, and it is needed: the
//! fast path holds back no sender, so that a slow reader would fill the kernel's memory. Once more
//! than `spill_bytes` wait for a reader, its connection goes on through TCP, whose windows do hold
//! back.
//!
//! What the helpers do not tell (bytes waiting for the other end, bytes ever queued on TCP) is read
//! from the kernel's structures. The loader takes their layout from the kernel's own BTF; without it
//! nothing is accelerated.

use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action::SK_PASS};
use aya_ebpf::helpers::generated::{bpf_msg_redirect_hash, bpf_probe_read_kernel};
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;
use flect_ebpf::{
    ACCELERATE_AGENT_TO_CLIENT, ACCELERATE_CLIENT_TO_AGENT, AGENT_SIDE, Config, FLOW_PLAIN,
    FLOW_REDIRECT, FLOW_UNDECIDED, Flow,
};

use crate::maps::{FLOWS, SOCKETS, config, storage};

/// `offsetof(struct sk_msg, sk)`
#[unsafe(no_mangle)]
static SK_MSG_SK: u32 = 0;
/// `offsetof(struct sk_msg, sk_redir)`
#[unsafe(no_mangle)]
static SK_MSG_SK_REDIR: u32 = 0;
/// `offsetof(struct sock, sk_backlog.rmem_alloc)`
#[unsafe(no_mangle)]
static SOCK_RMEM_ALLOC: u32 = 0;
/// `offsetof(struct tcp_sock, write_seq)`
#[unsafe(no_mangle)]
static TCP_SOCK_WRITE_SEQ: u32 = 0;

#[sk_msg]
pub fn forward_message(ctx: SkMsgContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    let sk = unsafe { read_volatile(&raw const (*ctx.msg).__bindgen_anon_3.sk) };
    if sk.is_null() {
        return SK_PASS;
    }
    // Runs under the socket's lock: no other message decides meanwhile.
    if let Some(flow) = storage(&FLOWS, sk.cast())
        && flow.decision != FLOW_PLAIN
        && let Some(config) = config()
    {
        flow.decision = if may_redirect(&ctx, flow, config)
            && redirect(&ctx, flow.peer)
            && !is_reader_behind(&ctx, config)
        {
            FLOW_REDIRECT
        } else {
            FLOW_PLAIN
        };
    }
    SK_PASS
}

#[inline(always)]
fn may_redirect(ctx: &SkMsgContext, flow: &Flow, config: &Config) -> bool {
    if flow.decision != FLOW_UNDECIDED {
        return true;
    }
    // The peer is the agent when its key bears the agent's mark.
    let needed = if flow.peer & AGENT_SIDE != 0 {
        ACCELERATE_CLIENT_TO_AGENT
    } else {
        ACCELERATE_AGENT_TO_CLIENT
    };
    // A `send` that was waiting for the handshake goes through TCP, past this program; so nothing
    // after it may overtake it here.
    config.flags & needed != 0 && is_first_byte(ctx, flow.first_write_seq)
}

#[inline(always)]
fn is_first_byte(ctx: &SkMsgContext, first_write_seq: u32) -> bool {
    let Some(sock) = peek::<u64>(ctx.msg as u64 + offset(&raw const SK_MSG_SK)) else {
        return false;
    };
    peek::<u32>(sock + offset(&raw const TCP_SOCK_WRITE_SEQ)) == Some(first_write_seq)
}

/// Whether the peer is there to take the message. Where it is not, the message goes through TCP: right
/// for one that was never enrolled, and for one that has closed TCP gives the proper answer.
#[inline(always)]
fn redirect(ctx: &SkMsgContext, mut peer: u64) -> bool {
    // SAFETY: the verifier proves the pointers.
    let verdict = unsafe {
        bpf_msg_redirect_hash(
            ctx.msg,
            core::ptr::from_ref(&SOCKETS).cast_mut().cast(),
            (&raw mut peer).cast(),
            u64::from(BPF_F_INGRESS),
        )
    };
    verdict == i64::from(SK_PASS)
}

/// Whether the peer that this message goes to has left too many bytes unread. The message itself is on
/// its way already; it is the next that goes through TCP.
#[inline(always)]
fn is_reader_behind(ctx: &SkMsgContext, config: &Config) -> bool {
    let Some(peer) = peek::<u64>(ctx.msg as u64 + offset(&raw const SK_MSG_SK_REDIR)) else {
        return true;
    };
    peek::<u32>(peer + offset(&raw const SOCK_RMEM_ALLOC))
        .is_none_or(|waiting| waiting > config.spill_bytes)
}

/// An offset that the loader has set; the verifier takes it for a constant.
#[inline(always)]
fn offset(of: *const u32) -> u64 {
    // SAFETY: one of the statics above. Volatile since the compiler knows only its initial value.
    u64::from(unsafe { read_volatile(of) })
}

/// Reads kernel memory; an address that has gone bad reads as nothing.
#[inline(always)]
fn peek<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value when it returns 0, and checks the address.
    unsafe {
        let result = bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        (result == 0).then(|| value.assume_init())
    }
}
