//! `sockops`: ties an established connection to the memory that connect left on the client's socket.
//!
//! The client's end publishes the memory under its tuple, the agent's end takes it off again into the
//! accepted socket's own storage. ACTIVE_ESTABLISHED runs in tcp_finish_connect, before the ACK is
//! sent that makes the other end PASSIVE_ESTABLISHED, so the order is certain; passive fast open,
//! which would break it, is never enabled on the agent's listeners. Where nothing is found the agent
//! refuses the connection.
//!
//! Runs for the managed root and, in case it lies elsewhere, for the agent's cgroup: an accepted
//! socket belongs to its listener's.

use core::ffi::c_void;
use core::intrinsics::AtomicOrdering;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_EXIST, BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    BPF_TCP_CLOSE, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sock_hash_update};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use flect_ebpf::{
    ACCELERATE_AGENT_TO_CLIENT, ACCELERATE_CLIENT_TO_AGENT, AGENT_SIDE, Address, Config,
    FLOW_UNDECIDED, Flow, Memory, PendingKey, REFUSED_HANDSHAKES, WEAKENED_NAMESPACE,
    WEAKENED_PENDING_SHARE, v4_mapped,
};

use crate::maps::{
    FLOWS, HANDSHAKES, IDENTITIES, MEMORIES, NAMESPACES, PENDING, SOCKETS, config, is_weakened,
    report_of, storage, storage_or_insert,
};

const AF_INET: u32 = 2;

#[sock_ops]
pub fn follow_connection(ctx: SockOpsContext) -> u32 {
    if let Some(config) = config() {
        match ctx.op() {
            BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => client_established(&ctx, config),
            BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => agent_established(&ctx, config),
            BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => client_closed(&ctx),
            _ => {}
        }
    }
    1
}

#[inline(always)]
fn client_established(ctx: &SockOpsContext, config: &Config) {
    let Some(sk) = socket(ctx.ops) else { return };
    let Some(memory) = storage(&MEMORIES, sk) else {
        return;
    };
    let ends = Ends::of(ctx);
    if !publish(&ends, memory) {
        // Whichever thread this interrupted; the cgroup is the one that connected.
        report_of(REFUSED_HANDSHAKES, 0, memory.netns_cookie, memory.cgroup);
        return;
    }
    // Tells us when the socket closes, in case the agent's end never came.
    let _refused = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    enrol(
        ctx,
        config,
        sk,
        memory.socket_cookie,
        memory.socket_cookie | AGENT_SIDE,
    );
}

#[inline(always)]
fn agent_established(ctx: &SockOpsContext, config: &Config) {
    let ends = Ends::of(ctx);
    if ends.local_port != config.listen_port {
        return;
    }
    let Some(sk) = socket(ctx.ops) else { return };
    let key = ends.as_agent();
    // SAFETY: only the client's own socket writes this entry, and it has done so before.
    let Some(memory) = (unsafe { PENDING.get(key) }) else {
        return;
    };
    let memory = *memory;
    retract(&ends, key);
    if storage_or_insert(&IDENTITIES, sk, memory).is_none() {
        return;
    }
    enrol(
        ctx,
        config,
        sk,
        memory.socket_cookie | AGENT_SIDE,
        memory.socket_cookie,
    );
}

/// Removes what the agent's end never took; the cookie tells our entry from a successor's.
#[inline(always)]
fn client_closed(ctx: &SockOpsContext) {
    let Some(sk) = socket(ctx.ops) else { return };
    let Some(memory) = storage(&MEMORIES, sk) else {
        return;
    };
    let ends = Ends::of(ctx);
    let key = ends.as_client();
    // SAFETY: the entry is only compared.
    if let Some(pending) = unsafe { PENDING.get(key) }
        && pending.socket_cookie == memory.socket_cookie
    {
        retract(&ends, key);
    }
}

/// Puts an entry into PENDING, within its namespace's share; a connection without one is refused.
#[inline(always)]
fn publish(ends: &Ends, memory: &Memory) -> bool {
    // SAFETY: the agent overwrites entries as a whole, and either state is a true one.
    let Some(namespace) = (unsafe { NAMESPACES.get(ends.netns_cookie) }) else {
        return false;
    };
    let Some(count) = count_of(ends.netns_cookie) else {
        return false;
    };
    // SAFETY: the value lives as long as the program runs; others change it only by atomic additions,
    // and a look that is late by one of them does no harm.
    let is_full = unsafe { read_volatile(count) } >= namespace.pending_max;
    if is_full && !is_weakened(WEAKENED_PENDING_SHARE) {
        return false;
    }
    let key = ends.as_client();
    if PENDING.insert(key, *memory, u64::from(BPF_NOEXIST)).is_ok() {
        add(count, 1);
        return true;
    }
    // Full, or a stale entry of the same tuple. That cannot be: it was deleted before its socket gave
    // the tuple free. Were it there, this is the truth now.
    PENDING.insert(key, *memory, u64::from(BPF_EXIST)).is_ok()
}

#[inline(always)]
fn retract(ends: &Ends, key: PendingKey) {
    // Who removes it counts it; the other end may have been quicker.
    if PENDING.remove(key).is_ok()
        && let Some(count) = HANDSHAKES.get_ptr_mut(ends.netns_cookie)
    {
        add(count, -1);
    }
}

/// The count of a namespace, made with its first handshake.
#[inline(always)]
fn count_of(netns_cookie: u64) -> Option<*mut i64> {
    if let Some(count) = HANDSHAKES.get_ptr_mut(netns_cookie) {
        return Some(count);
    }
    // Another processor may have been quicker; then this one's is not taken.
    let _theirs = HANDSHAKES.insert(netns_cookie, 0, u64::from(BPF_NOEXIST));
    HANDSHAKES.get_ptr_mut(netns_cookie)
}

#[inline(always)]
fn add(count: *mut i64, change: i64) {
    // SAFETY: the value lives as long as the program runs and is aligned. The intrinsic because BPF has
    // atomic addition, but not all that `AtomicI64` asks of a target.
    unsafe {
        core::intrinsics::atomic_xadd::<i64, i64, { AtomicOrdering::Relaxed }>(count, change);
    }
}

/// Gives a socket its fast path, before anything was sent on it: sk_msg.rs relies on that. Where it
/// gets none (map full, another program's socket) it goes through TCP.
#[inline(always)]
fn enrol(ctx: &SockOpsContext, config: &Config, sk: *mut c_void, mut own: u64, peer: u64) {
    if config.flags & (ACCELERATE_CLIENT_TO_AGENT | ACCELERATE_AGENT_TO_CLIENT) == 0 {
        return;
    }
    // SAFETY: the context is valid while the program runs.
    let (sent, received, first_write_seq) = unsafe {
        (
            read_volatile(&raw const (*ctx.ops).data_segs_out),
            read_volatile(&raw const (*ctx.ops).data_segs_in),
            read_volatile(&raw const (*ctx.ops).snd_nxt),
        )
    };
    if sent != 0 || received != 0 {
        return; // Fast open: data is on its way through TCP already.
    }
    let flow = Flow {
        peer,
        first_write_seq,
        decision: FLOW_UNDECIDED,
    };
    if storage_or_insert(&FLOWS, sk, flow).is_none() {
        return;
    }
    // SAFETY: the verifier proves the pointers. NOEXIST: an entry is inserted once and never replaced,
    // since replacing it would throw away what its socket has not read yet.
    unsafe {
        bpf_sock_hash_update(
            ctx.ops,
            core::ptr::from_ref(&SOCKETS).cast_mut().cast(),
            (&raw mut own).cast(),
            u64::from(BPF_NOEXIST),
        )
    };
}

#[inline(always)]
fn socket(ops: *mut bpf_sock_ops) -> Option<*mut c_void> {
    // SAFETY: the context is valid while the program runs.
    let sk = unsafe { read_volatile(&raw const (*ops).__bindgen_anon_2.sk) };
    (!sk.is_null()).then(|| sk.cast())
}

/// The two ends of a socket, v4-mapped, ports in host order.
struct Ends {
    netns_cookie: u64,
    local_address: Address,
    remote_address: Address,
    local_port: u32,
    remote_port: u32,
}

impl Ends {
    #[inline(always)]
    fn of(ctx: &SockOpsContext) -> Self {
        let ops = ctx.ops;
        // SAFETY: the context is valid while the program runs. Volatile: the compiler merges
        // neighbouring words into loads the verifier refuses ('invalid bpf_context access off=24
        // size=8'). Both families' fields are read, whichever counts: a load that is chosen by the
        // family becomes one with a computed offset ('dereference of modified ctx ptr').
        unsafe {
            let local_v4 = v4_mapped(read_volatile(&raw const (*ops).local_ip4));
            let remote_v4 = v4_mapped(read_volatile(&raw const (*ops).remote_ip4));
            let local_v6 = [
                read_volatile(&raw const (*ops).local_ip6[0]),
                read_volatile(&raw const (*ops).local_ip6[1]),
                read_volatile(&raw const (*ops).local_ip6[2]),
                read_volatile(&raw const (*ops).local_ip6[3]),
            ];
            let remote_v6 = [
                read_volatile(&raw const (*ops).remote_ip6[0]),
                read_volatile(&raw const (*ops).remote_ip6[1]),
                read_volatile(&raw const (*ops).remote_ip6[2]),
                read_volatile(&raw const (*ops).remote_ip6[3]),
            ];
            let (local_address, remote_address) =
                if read_volatile(&raw const (*ops).family) == AF_INET {
                    (local_v4, remote_v4)
                } else {
                    (local_v6, remote_v6)
                };
            Self {
                netns_cookie: bpf_get_netns_cookie(ctx.as_ptr()),
                local_address,
                remote_address,
                local_port: read_volatile(&raw const (*ops).local_port),
                // The two bytes in network order stand at the end of a network-order word.
                remote_port: u32::from_be(read_volatile(&raw const (*ops).remote_port)),
            }
        }
    }

    #[inline(always)]
    fn key_of_namespace(&self) -> u64 {
        if is_weakened(WEAKENED_NAMESPACE) {
            return 0;
        }
        self.netns_cookie
    }

    #[inline(always)]
    fn as_client(&self) -> PendingKey {
        PendingKey {
            netns_cookie: self.key_of_namespace(),
            client_address: self.local_address,
            agent_address: self.remote_address,
            client_port: self.local_port,
            agent_port: self.remote_port,
        }
    }

    #[inline(always)]
    fn as_agent(&self) -> PendingKey {
        PendingKey {
            netns_cookie: self.key_of_namespace(),
            client_address: self.remote_address,
            agent_address: self.local_address,
            client_port: self.remote_port,
            agent_port: self.local_port,
        }
    }
}
