//! The embedded BPF object, and loading it into the kernel. All of aya is in here and in the maps
//! that it gives out.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use aya::maps::{MapData, RingBuf};
use aya::programs::{Program, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};

use super::InterceptionError;
use super::btf::Layout;
use super::kernel::{AttachType, Map, Plain};
use super::pins::{Pins, step};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/object.rs"));
}

/// Which cgroup a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    ManagedRoot,
    /// Only when the agent's cgroup lies outside the managed root.
    AgentCgroup,
}

/// A program of the object and its link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// Name of the pinned link.
    pub(super) link: &'static str,
    /// Name of the function in flect-ebpf.
    pub(super) program: &'static str,
    pub(super) attach_type: AttachType,
    pub(super) place: Place,
}

const fn hook(
    link: &'static str,
    program: &'static str,
    attach_type: AttachType,
    place: Place,
) -> Hook {
    Hook {
        link,
        program,
        attach_type,
        place,
    }
}

/// In the order of attaching: a socket is stamped before a connect asks for the stamp, and everything
/// that follows a connection is there before the first is redirected.
pub(super) const HOOKS: [Hook; 10] = [
    hook(
        "sock_create",
        "stamp_creator",
        AttachType::SockCreate,
        Place::ManagedRoot,
    ),
    hook(
        "sockops",
        "follow_connection",
        AttachType::SockOps,
        Place::ManagedRoot,
    ),
    hook(
        "sockops_agent",
        "follow_connection",
        AttachType::SockOps,
        Place::AgentCgroup,
    ),
    hook(
        "getpeername4",
        "answer_getpeername4",
        AttachType::Getpeername4,
        Place::ManagedRoot,
    ),
    hook(
        "getpeername6",
        "answer_getpeername6",
        AttachType::Getpeername6,
        Place::ManagedRoot,
    ),
    hook(
        "bind4",
        "guard_bind4",
        AttachType::Bind4,
        Place::ManagedRoot,
    ),
    hook(
        "bind6",
        "guard_bind6",
        AttachType::Bind6,
        Place::ManagedRoot,
    ),
    hook(
        "connect4",
        "redirect_connect4",
        AttachType::Connect4,
        Place::ManagedRoot,
    ),
    hook(
        "connect6",
        "redirect_connect6",
        AttachType::Connect6,
        Place::ManagedRoot,
    ),
    hook(
        "egress",
        "guard_egress",
        AttachType::Egress,
        Place::ManagedRoot,
    ),
];

/// The program of the map SOCKETS.
pub(super) const SK_MSG_PROGRAM: &str = "forward_message";

/// The maps that are pinned: all of them, but the loader's own for constants.
const MAPS: [&str; 12] = [
    "CONFIG",
    "NETWORKS",
    "PORTS",
    "NAMESPACES",
    "EVENTS",
    "CREATORS",
    "MEMORIES",
    "IDENTITIES",
    "PENDING",
    "HANDSHAKES",
    "FLOWS",
    "SOCKETS",
];

/// Lines of the verifier's log that are shown: the refused instruction and its reason stand at the end.
const VERIFIER_LINES: usize = 12;

/// Content hash of the embedded object, for the log; `none` when the agent was built without it.
pub(super) const HASH: &str = embedded::HASH;

/// The object with its maps made and its programs verified.
pub(super) struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Loads the object, its maps pinned or taken from their pins.
    pub(super) fn load_pinned(pins: &Pins) -> Result<Self, InterceptionError> {
        let mut loader = EbpfLoader::new();
        for map in MAPS {
            loader.map_pin_path(map, pins.map(map));
        }
        Self::load(loader)
    }

    /// Loads the object with maps of its own, which end with it.
    pub(super) fn load_private() -> Result<Self, InterceptionError> {
        Self::load(EbpfLoader::new())
    }

    fn load(mut loader: EbpfLoader<'_>) -> Result<Self, InterceptionError> {
        let bytes = embedded::OBJECT.ok_or(InterceptionError::NoPrograms)?;
        // Without the layout the offsets stay 0 and nothing is accelerated: see `attach::verdict`.
        let layout = LAYOUT.as_ref().unwrap_or(&Layout::UNKNOWN);
        #[cfg(feature = "weakened")]
        loader.override_global("WEAKENED", &*super::weaknesses::OF_PROGRAMS, true);
        let mut ebpf = loader
            .override_global("CAN_SET_RETVAL", &*CAN_SET_RETVAL, true)
            .override_global("SK_MSG_SK", &layout.sk_msg_sk, true)
            .override_global("SK_MSG_SK_REDIR", &layout.sk_msg_sk_redir, true)
            .override_global("SOCK_RMEM_ALLOC", &layout.sock_rmem_alloc, true)
            .override_global("TCP_SOCK_WRITE_SEQ", &layout.tcp_sock_write_seq, true)
            .load(bytes)
            .map_err(|error| loader_error("load the BPF object", &error))?;
        for (name, program) in ebpf.programs_mut() {
            load_program(program).map_err(|error| program_error(name, &error))?;
        }
        Ok(Self { ebpf })
    }

    pub(super) fn program(&self, name: &str) -> Result<BorrowedFd<'_>, InterceptionError> {
        let program = self
            .ebpf
            .program(name)
            .ok_or_else(|| missing("program", name))?;
        let fd = program.fd().map_err(|error| program_error(name, &error))?;
        Ok(fd.as_fd())
    }

    /// A map of ours, its types checked against the kernel's word.
    pub(super) fn map<K: Plain, V: Plain>(
        &self,
        name: &str,
    ) -> Result<Map<K, V>, InterceptionError> {
        self.map_fd(name)
            .and_then(Map::new)
            .map_err(step(format!("use the map {name}")))
    }

    pub(super) fn map_fd(&self, name: &str) -> io::Result<OwnedFd> {
        let data = match self.ebpf.map(name) {
            Some(
                aya::maps::Map::Array(data)
                | aya::maps::Map::HashMap(data)
                | aya::maps::Map::LpmTrie(data)
                | aya::maps::Map::SkStorage(data)
                | aya::maps::Map::SockHash(data)
                | aya::maps::Map::RingBuf(data),
            ) => data,
            _ => return Err(io::Error::other("the BPF object does not hold it")),
        };
        data.fd().as_fd().try_clone_to_owned()
    }

    /// The ring buffer of events.
    pub(super) fn take_events(&mut self) -> Result<RingBuf<MapData>, InterceptionError> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .ok_or_else(|| missing("map", "EVENTS"))?;
        RingBuf::try_from(map).map_err(|error| loader_error("use the map EVENTS", &error))
    }
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkMsg(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Whether hooks may choose the errno of a refusal (bpf_set_retval). Asked of the kernel once.
static CAN_SET_RETVAL: LazyLock<u32> = LazyLock::new(|| {
    let supported =
        is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
    u32::from(supported.unwrap_or(false))
});

/// Where this kernel keeps what sk_msg looks at. Read once; it takes some 10 ms.
pub(super) static LAYOUT: LazyLock<io::Result<Layout>> = LazyLock::new(Layout::of_running_kernel);

fn program_error(name: &str, error: &ProgramError) -> InterceptionError {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            InterceptionError::Verifier {
                program: name.to_owned(),
                kernel: rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
                message: io_error.to_string(),
                log_tail: lines[lines.len().saturating_sub(VERIFIER_LINES)..].join("\n"),
            }
        }
        other => loader_error(format!("load the hook '{name}'"), other),
    }
}

fn missing(what: &str, name: &str) -> InterceptionError {
    InterceptionError::Loader {
        action: format!("use the {what} {name}"),
        message: "the BPF object does not hold it".to_owned(),
    }
}

/// The loader's errors tell little at the top: their whole chain is shown.
pub(super) fn loader_error(
    action: impl Into<String>,
    error: &(dyn std::error::Error + 'static),
) -> InterceptionError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    InterceptionError::Loader {
        action: action.into(),
        message,
    }
}
