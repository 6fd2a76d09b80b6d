//! The maps, and what every hook does with them.
//!
//! Invariant: nothing here is an LRU map. A full map refuses; it never forgets a live connection in
//! favour of another.

use core::ffi::c_void;
use core::ptr::{from_ref, null_mut, read_volatile};

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_AVAIL_DATA, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, RingBuf, SkStorage, SockHash};
use aya_ebpf::helpers::generated::{
    bpf_ringbuf_query, bpf_set_retval, bpf_sk_storage_delete, bpf_sk_storage_get,
};
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid};
use aya_ebpf::macros::btf_map;
use flect_ebpf::{
    Address, Config, EVENTS_BYTES, Event, Flow, HANDSHAKES_MAX, Memory, NAMESPACES_MAX,
    NETWORKS_MAX, Namespace, PENDING_MAX, PORT_CLOSED, PORTS_MAX, PendingKey,
    REFUSED_UNKNOWN_NAMESPACE, SOCKETS_MAX,
};

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
static NETWORKS: LpmTrie<Address, u32, NETWORKS_MAX> = LpmTrie::new();
#[btf_map]
static PORTS: HashMap<u16, u32, PORTS_MAX> = HashMap::new();
/// By netns cookie.
#[btf_map]
pub static NAMESPACES: HashMap<u64, Namespace, NAMESPACES_MAX> = HashMap::new();
#[btf_map]
static EVENTS: RingBuf<Event, EVENTS_BYTES> = RingBuf::new();
/// On every socket made under the managed root: its creator's cgroup.
#[btf_map]
pub static CREATORS: SkStorage<u64> = SkStorage::new();
/// On a client's socket.
#[btf_map]
pub static MEMORIES: SkStorage<Memory> = SkStorage::new();
/// On an accepted socket, until the agent takes it.
#[btf_map]
pub static IDENTITIES: SkStorage<Memory> = SkStorage::new();
#[btf_map]
pub static PENDING: HashMap<PendingKey, Memory, PENDING_MAX, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
/// Entries in PENDING by netns cookie. Hooks alone write it, by atomic additions; the agent removes what
/// stands at 0 where it has no listeners.
#[btf_map]
pub static HANDSHAKES: HashMap<u64, i64, HANDSHAKES_MAX> = HashMap::new();
/// On both ends of an accelerated connection.
#[btf_map]
pub static FLOWS: SkStorage<Flow> = SkStorage::new();
/// By client cookie, with `AGENT_SIDE` for the agent's ends.
#[btf_map]
pub static SOCKETS: SockHash<u64, SOCKETS_MAX> = SockHash::new();

/// Set by the loader: this kernel has bpf_set_retval for these hooks (5.18 or later, by probing). The
/// verifier takes it for a constant and never looks at the branch it rules out.
#[unsafe(no_mangle)]
static CAN_SET_RETVAL: u32 = 0;

/// Set by the loader of a weakened build: `WEAKENED_*`.
#[cfg(feature = "weakened")]
#[unsafe(no_mangle)]
static WEAKENED: u32 = 0;

/// Whether a defence has been taken away: never, but in a weakened build that was asked for it.
#[inline(always)]
pub fn is_weakened(_defence: u32) -> bool {
    #[cfg(feature = "weakened")]
    // SAFETY: a static that the loader has set; volatile since the compiler knows only its initial
    // value.
    return unsafe { read_volatile(&raw const WEAKENED) } & _defence != 0;
    #[cfg(not(feature = "weakened"))]
    false
}

/// Return value of a cgroup hook: go on.
pub const ALLOW: i32 = 1;
/// Return value of a cgroup hook: EPERM, unless bpf_set_retval has named another errno.
const DENY: i32 = 0;

/// What `connect` answers to a refused app: just what a dead server would.
pub const ECONNREFUSED: i32 = 111;
/// What `bind` answers on the agent's port: just what the agent's listener would.
pub const EADDRINUSE: i32 = 98;

#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// Whether a destination is to be intercepted; the port in host order.
#[inline(always)]
pub fn is_intercepted(address: Address, port: u16) -> bool {
    // SAFETY: the value is not looked at.
    unsafe { PORTS.get(port) }.is_some() && NETWORKS.get(&Key::new(128, address)).is_some()
}

/// Whether an intercepted port is one that nobody gets through to.
#[inline(always)]
pub fn is_closed(port: u16) -> bool {
    // SAFETY: the agent overwrites entries as a whole, and either state is a true one.
    unsafe { PORTS.get(port) }.is_some_and(|state| *state == PORT_CLOSED)
}

/// Refuses with an errno where the kernel lets us choose, with EPERM elsewhere.
#[inline(always)]
pub fn refuse(errno: i32) -> i32 {
    // SAFETY: a static that the loader has set; volatile since the compiler knows only its initial
    // value.
    if unsafe { read_volatile(&raw const CAN_SET_RETVAL) } != 0 {
        // SAFETY: takes no pointer.
        unsafe { bpf_set_retval(-errno) };
    }
    DENY
}

#[inline(always)]
pub fn current_cgroup() -> u64 {
    // SAFETY: takes no pointer.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Tells the agent of the current thread.
#[inline(always)]
pub fn report(kind: u32, netns_cookie: u64, cgroup: u64) {
    report_of(
        kind,
        bpf_get_current_pid_tgid() as u32,
        netns_cookie,
        cgroup,
    );
}

/// Tells the agent; 0 where no thread can be named. When the ring is full it is not told, and hears of the next try. What is only logged
/// leaves half of the ring to what must be acted upon.
#[inline(always)]
pub fn report_of(kind: u32, thread: u32, netns_cookie: u64, cgroup: u64) {
    // SAFETY: the map is a ring buffer.
    let waiting = unsafe {
        bpf_ringbuf_query(
            from_ref(&EVENTS).cast_mut().cast(),
            u64::from(BPF_RB_AVAIL_DATA),
        )
    };
    if kind != REFUSED_UNKNOWN_NAMESPACE && waiting > EVENTS_BYTES as u64 / 2 {
        return;
    }
    if let Some(mut entry) = EVENTS.reserve(0) {
        entry.write(Event {
            kind,
            thread,
            netns_cookie,
            cgroup,
        });
        entry.submit(0);
    }
}

/// A socket's storage, where it has one. aya's own accessor accepts only `SockAddrContext`.
#[inline(always)]
pub fn storage<T>(map: &SkStorage<T>, sk: *mut c_void) -> Option<&'static mut T> {
    // SAFETY: the verifier proves that sk is a socket and map a socket storage; a storage lives as
    // long as its socket, which outlives the program's run.
    unsafe {
        bpf_sk_storage_get(map_pointer(map), sk, null_mut(), 0)
            .cast::<T>()
            .as_mut()
    }
}

/// A socket's storage, made anew with this value where it has none; the caller overwrites an old one.
#[inline(always)]
pub fn storage_or_insert<T>(
    map: &SkStorage<T>,
    sk: *mut c_void,
    mut value: T,
) -> Option<&'static mut T> {
    // SAFETY: as in `storage`; the kernel copies the value.
    unsafe {
        bpf_sk_storage_get(
            map_pointer(map),
            sk,
            (&raw mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
        .cast::<T>()
        .as_mut()
    }
}

#[inline(always)]
pub fn storage_delete<T>(map: &SkStorage<T>, sk: *mut c_void) {
    // SAFETY: as in `storage`. That there was none is fine.
    unsafe { bpf_sk_storage_delete(map_pointer(map), sk) };
}

#[inline(always)]
fn map_pointer<T>(map: &SkStorage<T>) -> *mut c_void {
    from_ref(map).cast_mut().cast()
}
