//! Weaknesses on purpose, in a build of its own, so that the hostile suite can prove that it would see
//! them: an attack that holds here must not hold once its defence is gone.
//!
//! Invariant: without the feature `weakened`, [`has`] is `false` at compile time and nothing reads the
//! environment. No program that is shipped has the feature: `build.rs` refuses it in the profile `dist`.

/// One defence that can be taken away. Attacks meet several, so several can be named at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// The stores' ACL users may do everything with every key and channel.
    Acl,
    /// The rewriter takes a request's last key for an argument and leaves it as it is.
    LastKey,
    /// Integrity mode lets every reply pass.
    Integrity,
    /// Commands of the operator are forwarded as they are.
    Operator,
    /// Commands about a whole server, its keys, clients and users are forwarded as they are.
    Scoped,
    /// The shim leaves scripts the server's own `redis.call`.
    Scripts,
    /// Connects are not redirected: the hooks connect4 and connect6 are missing.
    HookConnect,
    /// Packets to the shared Valkey leave: the hook egress is missing.
    HookEgress,
    /// Every port may be taken: the hooks bind4 and bind6 are missing.
    HookBind,
    /// Apps see where they are really connected: the hooks getpeername4 and 6 are missing.
    HookPeername,
    /// A socket may connect for another cgroup than the one that made it.
    Creator,
    /// The agent's own port may be asked for.
    AgentsPort,
    /// The kernel may give the agent's own port to whoever asks for any.
    ReservedPort,
    /// The same addresses are the same connection in every network namespace.
    Namespace,
    /// One network namespace may hold up any number of handshakes.
    PendingShare,
    /// One app may have listeners in any number of network namespaces.
    NamespaceShare,
    /// A connection whose identity is missing is taken for the last one that had one.
    Identity,
    /// Connections older than the hooks are left open.
    OldConnections,
    /// The hooks are held by their pins alone.
    Pins,
}

impl Weakness {
    /// Its name in `FLECT_WEAKENED`, a comma-separated list.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::LastKey => "last-key",
            Self::Integrity => "integrity",
            Self::Operator => "operator",
            Self::Scoped => "scoped",
            Self::Scripts => "scripts",
            Self::HookConnect => "hook-connect",
            Self::HookEgress => "hook-egress",
            Self::HookBind => "hook-bind",
            Self::HookPeername => "hook-peername",
            Self::Creator => "creator",
            Self::AgentsPort => "agents-port",
            Self::ReservedPort => "reserved-port",
            Self::Namespace => "namespace",
            Self::PendingShare => "pending-share",
            Self::NamespaceShare => "namespace-share",
            Self::Identity => "identity",
            Self::OldConnections => "old-connections",
            Self::Pins => "pins",
        }
    }
}

/// Whether this program has the weakness: never, but in a weakened build that was asked for it.
#[cfg(not(feature = "weakened"))]
#[must_use]
#[inline]
pub const fn has(_weakness: Weakness) -> bool {
    false
}

/// Whether this program has the weakness: never, but in a weakened build that was asked for it.
#[cfg(feature = "weakened")]
#[must_use]
pub fn has(weakness: Weakness) -> bool {
    use std::sync::OnceLock;
    static NAMES: OnceLock<String> = OnceLock::new();
    let names = NAMES.get_or_init(|| std::env::var("FLECT_WEAKENED").unwrap_or_default());
    names.split(',').any(|name| name == weakness.name())
}
