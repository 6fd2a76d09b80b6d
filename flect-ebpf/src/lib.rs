//! Types that the BPF programs share with the agent.
//!
//! Invariant: plain integers in C layout, no implicit padding, sizes asserted below. Whoever changes
//! one of them, or a map, raises [`SCHEMA`]: pinned maps outlive the agent that made them.
#![no_std]

/// Version of everything that is pinned: names and layouts of maps, and what programs and agent take
/// for granted of each other. Pins of another schema are never reused.
pub const SCHEMA: u32 = 3;

/// An IPv6 address in network order, as four words just as `bpf_sock_addr` has them; IPv4 is v4-mapped.
pub type Address = [u32; 4];

/// The third word of a v4-mapped address (`::ffff:a.b.c.d`).
pub const V4_MAPPED: u32 = 0xffff_u32.to_be();
/// 127.0.0.1
pub const LOOPBACK_V4: u32 = 0x7f00_0001_u32.to_be();
/// `::1`
pub const LOOPBACK_V6: Address = [0, 0, 0, 1_u32.to_be()];

/// An IPv4 address in network order as a v4-mapped one.
#[must_use]
pub const fn v4_mapped(ip4: u32) -> Address {
    [0, 0, V4_MAPPED, ip4]
}

/// `Config::flags`: the app's requests go straight to the agent's socket.
pub const ACCELERATE_CLIENT_TO_AGENT: u32 = 1;
/// `Config::flags`: the agent's replies go straight to the app's socket.
pub const ACCELERATE_AGENT_TO_CLIENT: u32 = 2;

/// What the agent tells all programs; the single element of the map CONFIG, written before the first
/// link is attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cgroup that is exempt.
    pub agent_cgroup: u64,
    /// Host order.
    pub listen_port: u32,
    /// `ACCELERATE_*`
    pub flags: u32,
    /// Bytes waiting for a reader at which its connection leaves the fast path; see `sk_msg.rs`.
    pub spill_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// What connect4/6 remembers of a client's socket; the same travels through PENDING into the storage
/// of the accepted socket, where the agent takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Destination that the app asked for.
    pub asked_address: Address,
    /// The cgroup that connected, which is the one that made the socket.
    pub cgroup: u64,
    /// The network namespace of the client's socket.
    pub netns_cookie: u64,
    /// The client's socket.
    pub socket_cookie: u64,
    /// Host order.
    pub asked_port: u32,
    /// Zero.
    pub reserved: u32,
}

/// An established client connection that the agent's side has not met yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingKey {
    /// Loopback addresses repeat in every network namespace.
    pub netns_cookie: u64,
    /// The client's end.
    pub client_address: Address,
    /// The agent's end.
    pub agent_address: Address,
    /// Host order.
    pub client_port: u32,
    /// Host order.
    pub agent_port: u32,
}

/// Which listeners the agent has in a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Not 0: on 127.0.0.1.
    pub v4: u32,
    /// Not 0: on ::1.
    pub v6: u32,
    /// How many entries of this namespace there may be in PENDING; HANDSHAKES counts them.
    pub pending_max: i64,
}

/// The agent's sockets stand in SOCKETS under their client's cookie with this bit; the client's own
/// under the cookie itself. So each end knows the other's key without having to be told. Cookies
/// count up from 1 (`__sock_gen_cookie`), so none ever has the bit.
pub const AGENT_SIDE: u64 = 1 << 63;

/// The fast path of one direction of one connection, in the storage of the sending socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The other end's key in SOCKETS.
    pub peer: u64,
    /// `tcp_sock.write_seq` before the first byte.
    pub first_write_seq: u32,
    /// One of `FLOW_*`.
    pub decision: u32,
}

/// No message has been sent yet.
pub const FLOW_UNDECIDED: u32 = 0;
/// Every message so far went past TCP.
pub const FLOW_REDIRECT: u32 = 1;
/// Messages go through TCP, for good: see `sk_msg.rs` for why there is no way back.
pub const FLOW_PLAIN: u32 = 2;

/// Something that the agent should know of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// One of `REFUSED_*`.
    pub kind: u32,
    /// The thread that was refused, in the initial pid namespace.
    pub thread: u32,
    /// Where it was refused.
    pub netns_cookie: u64,
    /// Its cgroup.
    pub cgroup: u64,
}

/// The agent has no listener in the network namespace yet.
pub const REFUSED_UNKNOWN_NAMESPACE: u32 = 1;
/// The socket is older than the hooks, or came out of `accept`.
pub const REFUSED_OLD_SOCKET: u32 = 2;
/// The socket was made in another cgroup than the one that connects.
pub const REFUSED_OTHER_CGROUP: u32 = 3;
/// The socket is bound to a device other than loopback, so it cannot reach the agent.
pub const REFUSED_BOUND_TO_DEVICE: u32 = 4;
/// Multipath TCP, whose subflows carry no identity.
pub const REFUSED_MULTIPATH: u32 = 5;
/// The kernel had no memory for the connection's identity.
pub const REFUSED_NO_MEMORY: u32 = 6;
/// It asked for the agent's own port, where only what was redirected has any business.
pub const REFUSED_AGENTS_PORT: u32 = 7;
/// Its network namespace, or the whole node, has as many handshakes under way as it may.
pub const REFUSED_HANDSHAKES: u32 = 8;
/// It asked for a port of the shared Valkey's machines that is no app's business.
pub const REFUSED_CLOSED_PORT: u32 = 9;

/// A defence that the programs of a weakened build can be told to leave out: the socket's maker is not
/// compared with who connects.
pub const WEAKENED_CREATOR: u32 = 1;
/// The agent's own port may be asked for.
pub const WEAKENED_AGENTS_PORT: u32 = 2;
/// The same addresses are the same connection in every network namespace.
pub const WEAKENED_NAMESPACE: u32 = 4;
/// A namespace may have any number of entries in PENDING.
pub const WEAKENED_PENDING_SHARE: u32 = 8;

/// Intercepted networks; each is one rule an operator wrote.
pub const NETWORKS_MAX: usize = 1024;
/// Intercepted ports, likewise.
pub const PORTS_MAX: usize = 1024;
/// What PORTS says of a port: connections to it are the agent's.
pub const PORT_SERVED: u32 = 1;
/// Connections to it are refused.
pub const PORT_CLOSED: u32 = 2;
/// Network namespaces with listeners: far above the pods of a node (110 by Kubernetes' default).
pub const NAMESPACES_MAX: usize = 8192;
/// Connections between the two ends' handshakes: microseconds on loopback, longer only while the
/// agent's backlog is full. Not preallocated, so the number costs 4 MiB until it is needed.
pub const PENDING_MAX: usize = 262_144;
/// Of them in one workload's network namespace, whose root can hold up as many handshakes as it likes
/// (TCP_REPAIR, a filter that drops the last acknowledgement): more than storms of connects have been
/// seen to need, and no single namespace can take another's place.
pub const PENDING_PER_NAMESPACE_MAX: i64 = 1024;
/// Of them in the agent's own network namespace, which many apps may share; nobody but the node's root
/// can hold up a handshake there, but for a full backlog.
pub const PENDING_OWN_NAMESPACE_MAX: i64 = 65_536;
/// Namespaces with a count of handshakes: those with listeners, and as many that have lost them while
/// somebody still holds a handshake there.
pub const HANDSHAKES_MAX: usize = 2 * NAMESPACES_MAX;
/// Sockets with a fast path, two per connection; later ones go through TCP.
pub const SOCKETS_MAX: usize = 131_072;
/// Room for 2,048 events; more within one turn of the agent's watcher are dropped, and retried by the
/// refused clients themselves.
pub const EVENTS_BYTES: usize = 65536;

const _: () = assert!(size_of::<Config>() == 24);
const _: () = assert!(size_of::<Memory>() == 48);
const _: () = assert!(size_of::<PendingKey>() == 48);
const _: () = assert!(size_of::<Namespace>() == 16);
const _: () = assert!(size_of::<Flow>() == 16);
const _: () = assert!(size_of::<Event>() == 24);
