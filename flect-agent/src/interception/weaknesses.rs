//! What a weakened build takes away from the hooks; see [`crate::weakened`].
//!
//! Invariant: in any other build every answer here is a constant that changes nothing.

use super::object::Hook;
use crate::weakened::{Weakness, has};

/// Whether a hook is left out.
pub(super) fn leaves_out(hook: Hook) -> bool {
    match hook.link {
        "connect4" | "connect6" => has(Weakness::HookConnect),
        "egress" => has(Weakness::HookEgress),
        "bind4" | "bind6" => has(Weakness::HookBind),
        "getpeername4" | "getpeername6" => has(Weakness::HookPeername),
        _ => false,
    }
}

/// `WEAKENED_*` for the programs.
#[cfg(feature = "weakened")]
pub(super) static OF_PROGRAMS: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
    [
        (Weakness::Creator, flect_ebpf::WEAKENED_CREATOR),
        (Weakness::AgentsPort, flect_ebpf::WEAKENED_AGENTS_PORT),
        (Weakness::Namespace, flect_ebpf::WEAKENED_NAMESPACE),
        (Weakness::PendingShare, flect_ebpf::WEAKENED_PENDING_SHARE),
    ]
    .into_iter()
    .filter(|(weakness, _)| has(*weakness))
    .fold(0, |all, (_, flag)| all | flag)
});

/// The identity that a connection without one is given.
#[cfg(feature = "weakened")]
#[derive(Debug, Default)]
pub(super) struct LastIdentity(std::sync::Mutex<Option<flect_ebpf::Memory>>);

#[cfg(feature = "weakened")]
impl LastIdentity {
    /// The identity, or the last one where it is missing and that is the weakness.
    pub(super) fn or_guess(
        &self,
        identity: Option<flect_ebpf::Memory>,
    ) -> Option<flect_ebpf::Memory> {
        let mut last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if identity.is_some() {
            *last = identity;
        }
        identity.or(last.filter(|_| has(Weakness::Identity)))
    }
}
