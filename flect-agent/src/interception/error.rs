//! What can go wrong with the hooks, whose fault it is, and what to do.

use std::io;
use std::path::PathBuf;

use crate::cgroup::CgroupError;

/// The hooks cannot be put in place. Nothing is half attached: what was pinned before still holds.
#[derive(Debug, thiserror::Error)]
pub enum InterceptionError {
    /// The agent was built on a machine without the BPF toolchain.
    #[error(
        "this flect-agent was built without its BPF programs; run `cargo xtask setup`, then `cargo xtask build`"
    )]
    NoPrograms,
    /// The pin folder holds what is not the agent's. (Hooks of another agent version are exchanged.)
    #[error(
        "{} holds '{found}', which is no folder of hooks such as {ours}: remove it, or choose another intercept.pin \
         (what hooks there are refuse intercepted connections)", pin.display()
    )]
    OtherSchema {
        /// The pin folder.
        pin: PathBuf,
        /// What is pinned.
        found: String,
        /// What this agent would pin.
        ours: String,
    },
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The kernel's verifier refused a program.
    #[error(
        "this kernel ({kernel}) refuses the hook '{program}': {message}. Flect needs Linux 5.15 or newer with CONFIG_CGROUP_BPF \
         and root; if the kernel is that new, report it with these lines of the verifier:\n{log_tail}"
    )]
    Verifier {
        /// The hook.
        program: String,
        /// `uname -r`.
        kernel: String,
        /// The system's answer.
        message: String,
        /// The last lines of the verifier's log.
        log_tail: String,
    },
    /// A step failed.
    #[error("cannot {action}: {source}")]
    Step {
        /// What was tried, as a verb.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A step of the BPF loader failed.
    #[error("cannot {action}: {message}")]
    Loader {
        /// What was tried, as a verb.
        action: String,
        /// The loader's words.
        message: String,
    },
    /// Something about cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// An accepted connection has no valid identity: it is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// It was not made through the hooks, or was identified before.
    #[error("no intercepted connect belongs to this connection")]
    Unknown,
    /// The memory was made in another network namespace than the socket lives in.
    #[error("its memory belongs to network namespace {remembered}, the socket to {actual}")]
    ForeignNamespace {
        /// Cookie in the memory.
        remembered: u64,
        /// Cookie of the socket.
        actual: u64,
    },
    /// The kernel refused to answer.
    #[error("cannot read the connection's memory: {0}")]
    Io(#[from] io::Error),
}
