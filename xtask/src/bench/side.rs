//! A side of the comparison, running: a Valkey of its own, and what stands in front of it.
//!
//! Each side has its own Valkey, with the same options, so that its CPU time is that side's alone; those of
//! other sides wait meanwhile. Everything is in the bed's cgroups and goes with the bed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flect_tests::bed::{APP1, Acceleration, Bed, cgroups};
use flect_tests::tools::Programs;
use flect_tests::wire::{Value, Wire};

use super::cases::{BESIDE_BYTES, BESIDE_KEY, Case, Seed, Way};
use super::peers::{self, Peer};

/// More than any case opens; beside them Valkey and the agent need some descriptors.
const CONNECTIONS_MAX: &str = "11000";
/// Requests that are sent before their replies are read while data is stored.
const SEED_BATCH: usize = 500;

/// What stands between app and Valkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Direct,
    /// An agent with its hooks.
    Flect {
        /// sk_msg.
        acceleration: Acceleration,
        /// The second look at replies.
        integrity: bool,
    },
    /// Another proxy.
    Peer(Peer),
}

/// A side by name.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// In tables, short.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Only in cases that are measured with all variants.
    pub variant: bool,
}

const fn flect(name: &'static str, acceleration: Acceleration, integrity: bool) -> Side {
    Side {
        name,
        kind: Kind::Flect {
            acceleration,
            integrity,
        },
        variant: !integrity || matches!(acceleration, Acceleration::Off),
    }
}

impl Side {
    /// Is it somebody else's?
    pub fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Peer(_))
    }
}

/// The side that goals are about.
pub const SHIPPED: &str = "as shipped";
/// Flect's own sides.
pub const FLECT: &[Side] = &[
    flect(SHIPPED, Acceleration::Auto, true),
    flect("accel on", Acceleration::On, true),
    flect("accel on, int off", Acceleration::On, false),
    flect("accel off", Acceleration::Off, true),
    flect("accel off, int off", Acceleration::Off, false),
];

/// The others, with `--peers`.
pub const PEERS: &[Side] = &[
    peer("nutcracker", Peer::Nutcracker),
    peer("haproxy", Peer::Haproxy),
    peer("envoy", Peer::Envoy),
];

const fn peer(name: &'static str, peer: Peer) -> Side {
    Side {
        name,
        kind: Kind::Peer(peer),
        variant: false,
    }
}

/// A side that runs. The order of the fields is that of their end.
pub struct Running {
    peer: Option<peers::Running>,
    bed: Bed,
    kind: Kind,
    /// The memory of what stands in front, before anybody came.
    own_bytes_before: u64,
}

impl Running {
    /// Starts it with so many stores.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(kind: Kind, stores: usize, programs: &Programs) -> Result<Self> {
        let builder = Bed::builder()
            .programs(programs.clone())
            .apps(&[APP1])
            .stores(stores)
            .valkey_option("--maxclients", CONNECTIONS_MAX)
            // PUBLISH must meet what the case measures, not a limit for clients that are slow.
            .valkey_option("--client-output-buffer-limit", "pubsub 0 0 0")
            .config_tail(&format!("\n[limits]\nconnections = {CONNECTIONS_MAX}\n"));
        let (bed, peer) = match kind {
            Kind::Direct => (builder.agent_later().start()?, None),
            Kind::Flect {
                acceleration,
                integrity,
            } => {
                let keys = format!("integrity = {integrity}");
                let builder = builder.acceleration(acceleration).agent_keys(&keys);
                (builder.start()?, None)
            }
            Kind::Peer(peer) => {
                let bed = builder.agent_later().start()?;
                let running = peers::Running::start(peer, &bed)?;
                (bed, Some(running))
            }
        };
        let mut running = Self {
            peer,
            bed,
            kind,
            own_bytes_before: 0,
        };
        running.own_bytes_before = running.own_memory()?.unwrap_or_default().now;
        Ok(running)
    }

    /// Where the load connects.
    pub fn address(&self) -> SocketAddr {
        match &self.peer {
            Some(peer) => peer.address(),
            None => self.bed.address(),
        }
    }

    /// Lets a command start where this side's clients live.
    ///
    /// # Errors
    /// When the cgroup cannot be entered.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        match self.kind {
            Kind::Flect { .. } => self.bed.place(APP1, command),
            Kind::Direct | Kind::Peer(_) => Ok(()),
        }
    }

    /// Can a client choose among stores?
    pub fn has_stores(&self) -> bool {
        matches!(self.kind, Kind::Flect { .. })
    }

    /// The CPU time of Valkey so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn server_cpu(&self) -> Result<Duration> {
        cpu_time(self.bed.valkey_pid()?)
    }

    /// The CPU time of what stands in front, so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn own_cpu(&self) -> Result<Option<Duration>> {
        self.own_pid()?.map(cpu_time).transpose()
    }

    /// The memory of what stands in front.
    ///
    /// # Errors
    /// When it is gone.
    pub fn own_memory(&self) -> Result<Option<Memory>> {
        self.own_pid()?.map(Memory::of).transpose()
    }

    /// Its memory before anybody came.
    pub fn own_bytes_before(&self) -> u64 {
        self.own_bytes_before
    }

    /// Forgets the highest use of memory so far.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_peak(&self) -> Result<()> {
        if let Some(pid) = self.own_pid()? {
            // proc_pid_clear_refs(5): 5 resets VmHWM.
            fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting VmHWM")?;
        }
        Ok(())
    }

    /// Requests that the agent has served so far; `None` where there is none.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn requests_seen(&self) -> Result<Option<u64>> {
        let Kind::Flect { .. } = self.kind else {
            return Ok(None);
        };
        let mut stream = BufReader::new(UnixStream::connect(self.bed.socket())?);
        stream.get_mut().write_all(b"{\"op\":\"metrics\"}\n")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let answer: serde_json::Value = serde_json::from_str(&line)?;
        let stores = answer["ok"]["stores"]
            .as_array()
            .with_context(|| format!("no metrics: {line}"))?;
        Ok(Some(
            stores
                .iter()
                .filter_map(|store| store["requests"].as_u64())
                .sum(),
        ))
    }

    /// Names withheld by the integrity mode: anything but 0 is a bug.
    ///
    /// # Errors
    /// When the agent does not answer, or withheld something.
    pub fn check_integrity(&self) -> Result<()> {
        let Kind::Flect { .. } = self.kind else {
            return Ok(());
        };
        let status = self.bed.status()?;
        let stores = status["stores"].as_array().into_iter().flatten();
        let withheld: u64 = stores
            .filter_map(|store| store["integrity_violations"].as_u64())
            .sum();
        ensure!(withheld == 0, "integrity mode withheld {withheld} replies");
        Ok(())
    }

    /// What the agent's self-test made of the acceleration; empty where there is none.
    pub fn acceleration(&self) -> String {
        match (self.kind, self.bed.status()) {
            (Kind::Flect { .. }, Ok(status)) => status["acceleration"]["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            _ => String::new(),
        }
    }

    /// Stores what a case needs. A peer's data goes straight to its Valkey, since not every peer can.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn seed(&self, case: &Case) -> Result<()> {
        let mut wire = match self.kind {
            Kind::Flect { .. } => self.bed.connect(APP1)?,
            Kind::Direct | Kind::Peer(_) => Wire::connect(self.bed.address())?,
        };
        tell(&mut wire, &[vec![b"FLUSHALL".to_vec()]])?;
        if let Way::Beside { .. } = case.way {
            let value = vec![b'x'; BESIDE_BYTES];
            tell(&mut wire, &[words(&["SET", BESIDE_KEY], value)])?;
        }
        let all: Vec<Vec<Vec<u8>>> = match case.seed {
            Seed::Nothing => Vec::new(),
            Seed::Keys { count, bytes } => (0..count)
                .map(|key| words(&["SET", &format!("key:{key:012}")], vec![b'x'; bytes]))
                .collect(),
            Seed::Hash(fields) => (0..fields)
                .map(|n| words(&["HSET", "hash", &format!("field{n}")], value(case)))
                .collect(),
            Seed::List(elements) => (0..elements)
                .map(|_| words(&["RPUSH", "list"], value(case)))
                .collect(),
        };
        for batch in all.chunks(SEED_BATCH) {
            tell(&mut wire, batch)?;
        }
        Ok(())
    }

    fn own_pid(&self) -> Result<Option<u32>> {
        match (&self.peer, self.kind) {
            (Some(peer), _) => Ok(Some(peer.pid())),
            (None, Kind::Flect { .. }) => self.bed.agent_pid().map(Some),
            (None, _) => Ok(None),
        }
    }
}

fn words(words: &[&str], value: Vec<u8>) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    all.push(value);
    all
}

fn value(case: &Case) -> Vec<u8> {
    vec![b'x'; case.value_bytes]
}

fn tell(wire: &mut Wire, requests: &[Vec<Vec<u8>>]) -> Result<()> {
    for request in requests {
        wire.send(request)?;
    }
    for _ in requests {
        if let Value::Error(error) = wire.read()? {
            anyhow::bail!("storing the case's data: {error}");
        }
    }
    Ok(())
}

/// A process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// At present.
    pub now: u64,
    /// At its highest.
    pub peak: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            let kibibytes: u64 = number.with_context(|| format!("no {name}"))?.parse()?;
            Ok(kibibytes * 1024)
        };
        Ok(Self {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

/// The CPU time of the cgroup that a process has for itself: to the microsecond, where /proc/PID/stat
/// has hundredths of a second. `cpu.stat` is there also without the controller.
fn cpu_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let folder: PathBuf = cgroups::mount()?.join(path.context("no cgroup v2")?);
    let text = fs::read_to_string(folder.join("cpu.stat"))?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    Ok(Duration::from_micros(
        number.context("no usage_usec")?.parse()?,
    ))
}
