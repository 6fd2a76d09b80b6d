//! A store through the agent and a private Valkey of the same version, side by side.
//!
//! The project's one promise is that an app cannot tell them apart, so a trial holds the same
//! conversation with both and whatever differs is a bug.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
#[cfg(feature = "trials")]
use libtest_mimic::Trial;

use crate::bed::builder::Builder;
use crate::bed::{APP1, Acceleration, Bed};
#[cfg(feature = "trials")]
use crate::setting::Setting;
use crate::wire::Wire;

/// A store and a private Valkey.
#[derive(Debug)]
pub struct Pair {
    /// The bed with the agent.
    pub bed: Bed,
    /// Valkey alone.
    pub private: Bed,
    /// What no reply may hold.
    prefix: String,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `store1` through the agent, as app1.
    Store,
    /// Valkey of one's own.
    Private,
}

/// What a trial does with a pair.
pub type Body = fn(&Pair) -> Result<()>;

/// Growth of the agent's memory that one client may cause, whatever it does: the reply buffer that
/// a client who does not read may fill (64 MiB) and change.
pub const RSS_GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Private, Self::Store];
}

impl Pair {
    /// Makes both beds.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn start(acceleration: Acceleration) -> Result<Self> {
        Self::of(Bed::builder().acceleration(acceleration))
    }

    /// Makes both beds, the store's as told and the other one with the same server.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn of(builder: Builder) -> Result<Self> {
        let private = builder.clone().direct(true).start()?;
        let bed = builder.stores(2).start()?;
        let prefix = bed.prefix("store1")?;
        Ok(Self {
            bed,
            private,
            prefix,
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn connect(&self, side: Side) -> io::Result<Wire> {
        Wire::new(self.stream(side)?)
    }

    /// A new connection, without a client.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn stream(&self, side: Side) -> io::Result<TcpStream> {
        match side {
            Side::Store => self.bed.connector(APP1)?.connect(self.bed.address()),
            Side::Private => TcpStream::connect(self.private.address()),
        }
    }

    /// A connection with operator rights to the server behind a side.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn operator(&self, side: Side) -> io::Result<Wire> {
        match side {
            Side::Store => self.bed.operator(),
            Side::Private => self.private.operator(),
        }
    }

    /// Takes away all data of a side.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn empty(&self, side: Side) -> io::Result<()> {
        self.connect(side)?.command(&["FLUSHALL"]).map(drop)
    }

    /// Whether bytes name the store as the server knows it.
    #[must_use]
    pub fn leaks(&self, bytes: &[u8]) -> bool {
        let inside = self.secret();
        bytes.windows(inside.len()).any(|window| window == inside)
    }

    /// The store's name as the server knows it, without its braces.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.prefix.trim_matches(['{', '}']).as_bytes()
    }

    /// The agent's memory now, as `flect status` says.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.bed.status()?["rss_bytes"]
            .as_u64()
            .context("`flect status` says no rss_bytes")
    }

    /// Does something and checks that the agent's memory was bounded all the while, by its peak.
    ///
    /// # Errors
    /// What `body` says, or that the agent grew.
    pub fn with_bounded_memory(&self, body: impl FnOnce() -> Result<()>) -> Result<()> {
        self.with_memory_below(RSS_GROWTH_BYTES_MAX, body)
    }

    /// As [`Self::with_bounded_memory`], with a bound of one's own.
    ///
    /// # Errors
    /// What `body` says, or that the agent grew.
    pub fn with_memory_below(&self, bytes: u64, body: impl FnOnce() -> Result<()>) -> Result<()> {
        let pid = self.bed.agent_pid()?;
        let before = self.rss_bytes()?;
        // "5" makes the peak what is in use now (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak")?;
        body()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("no VmHWM")?;
        let growth = (peak * 1024).saturating_sub(before);
        ensure!(
            growth < bytes,
            "the agent grew by {growth} bytes at its peak, from {before}"
        );
        Ok(())
    }
}

/// One trial per body and acceleration, each with a pair of its own.
#[cfg(feature = "trials")]
#[must_use]
pub fn trials(module: &str, bodies: &[(&str, Body)]) -> Vec<Trial> {
    let settings = Setting::OF_EVERY_KERNEL.into_iter();
    settings
        .flat_map(|setting| trials_of(setting, module, bodies))
        .collect()
}

/// One trial per body, each with a pair of its own.
#[cfg(feature = "trials")]
#[must_use]
pub fn trials_of(setting: Setting, module: &str, bodies: &[(&str, Body)]) -> Vec<Trial> {
    let trial = |&(name, body): &(&str, Body)| {
        setting.trial(&format!("{module}::{name}"), move |builder| {
            let pair = Pair::of(builder)?;
            body(&pair).with_context(|| format!("the agent's log:\n{}", pair.bed.agent_log()))
        })
    };
    bodies.iter().map(trial).collect()
}

/// Bytes as text for a message: printable as they are, the rest escaped, the middle of long ones
/// left out.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 600;
    if bytes.len() <= BYTES_MAX {
        return bytes.escape_ascii().to_string();
    }
    let (head, tail) = (
        &bytes[..BYTES_MAX / 2],
        &bytes[bytes.len() - BYTES_MAX / 2..],
    );
    format!(
        "{} ... {} bytes ... {}",
        head.escape_ascii(),
        bytes.len() - BYTES_MAX,
        tail.escape_ascii()
    )
}

/// Long enough for any reply of an idle server on a loaded machine, where nothing is expected.
pub const SILENCE: Duration = Duration::from_millis(150);
