//! Handing the service of a node over, from one agent to the next, so that nobody is refused meanwhile.
//!
//! ```text
//! flect-agent upgrade     successor: hello -> listeners -> (hooks, Valkey, workers) -> yield -> sessions
//!                         predecessor: rests, then accepts no more and gives its sessions away
//! systemctl restart       the supervisor keeps the descriptors in between: see `kept`
//! ```
//!
//! Invariant: one agent accepts at a time, and a session is in one agent at a time. Connections that come
//! meanwhile wait in the backlog of the listening sockets, which both have; the hooks hold throughout, so
//! nothing goes past. Until it is told to yield, the predecessor serves on, whatever becomes of the successor.
//!
//! Only root and the agent's own user, outside of apps and containers, may take over: sessions are the apps'
//! connections, and whoever has them is the app.

mod channel;
mod estate;
mod giving;
mod kept;
mod taking;

use std::path::{Path, PathBuf};

use flect_agent::worker::Parted;
use serde::{Deserialize, Serialize};

pub use estate::Estate;
pub use giving::{Ask, Left, Offer, offer};
pub use kept::{Keep, inherit};
pub use taking::{Predecessor, Sessions};

/// What both sides must have in common. Another number is another language: the agents say so, and the
/// predecessor serves on.
const VERSION: u32 = 1;

/// One message. What follows its line are the bytes that a session has received and not taken.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
enum Word {
    /// The successor wants to take over.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Of its hooks ([`flect_ebpf::SCHEMA`]): the predecessor would not know who comes through others.
        schema: u32,
    },
    /// It may not.
    Refused {
        /// In words.
        why: String,
    },
    /// With a listening socket for intercepted connections.
    Listener,
    /// With one of explicit mode.
    Explicit,
    /// There are no more of them.
    Listening,
    /// The successor can serve: accept no more.
    Yield,
    /// From now on the predecessor does not accept.
    Yielded {
        /// Prefixes of stores, and the last CLIENT ID that each has given.
        ids: Vec<(String, u64)>,
    },
    /// With a client's connection.
    Session(Box<Parted>),
    /// There are no more of them, and the predecessor ends.
    Done,
}

/// Where an agent offers to hand over: beside its control socket.
fn place(control: &Path) -> PathBuf {
    control.with_extension("handover")
}
