//! `sk_msg`: hands bytes straight to the other end's socket, past TCP/IP.
//!
//! A reader empties what was redirected to it before what came through TCP (tcp_bpf_recvmsg). So
//! going from TCP to the fast path can put later bytes before earlier ones, and nothing tells when it
//! would not. Hence the invariant: a direction takes the fast path from its first byte on or never,
//! and once on TCP it stays there. The way from the fast path to TCP is safe at any time, for the
//! same reason.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action::SK_PASS};
use aya_ebpf::helpers::generated::bpf_msg_redirect_hash;
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;
use flect_ebpf::{
    ACCELERATE_AGENT_TO_CLIENT, ACCELERATE_CLIENT_TO_AGENT, AGENT_SIDE, FLOW_PLAIN, FLOW_REDIRECT,
    FLOW_UNDECIDED, Flow,
};

use crate::maps::{FLOWS, SOCKETS, config, storage};

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
    {
        flow.decision = if may_redirect(flow) && redirect(&ctx, flow.peer) {
            FLOW_REDIRECT
        } else {
            FLOW_PLAIN
        };
    }
    SK_PASS
}

#[inline(always)]
fn may_redirect(flow: &Flow) -> bool {
    if flow.decision != FLOW_UNDECIDED {
        return true;
    }
    // The peer is the agent when its key bears the agent's mark.
    let needed = if flow.peer & AGENT_SIDE != 0 {
        ACCELERATE_CLIENT_TO_AGENT
    } else {
        ACCELERATE_AGENT_TO_CLIENT
    };
    config().is_some_and(|config| config.flags & needed != 0)
}

/// Whether the peer was there to take the message; otherwise it goes through TCP.
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
