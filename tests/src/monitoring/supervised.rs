//! What the supervisor is told, at a real NOTIFY_SOCKET.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Body;
use super::held::Held;
use crate::bed::{APP1, Bed};
use crate::smoke::check;

pub const TRIALS: [(&str, Body); 4] = [
    (
        "an_agent_with_a_wrong_configuration_is_not_started_again",
        not_started_again,
    ),
    (
        "supervisor_hears_ready_once_it_serves",
        hears_ready_once_it_serves,
    ),
    (
        "supervisor_is_pinged_while_workers_turn",
        is_pinged_while_workers_turn,
    ),
    (
        "supervisor_hears_of_valkey_and_the_end",
        hears_of_valkey_and_the_end,
    ),
];

/// A debug build attaches its hooks within seconds, on a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// The other end of NOTIFY_SOCKET.
pub struct Supervisor {
    socket: UnixDatagram,
    /// Lines that nobody has asked for yet.
    lines: VecDeque<String>,
    _folder: tempfile::TempDir,
}

impl Supervisor {
    /// Makes the socket, and an agent for a bed to start that finds it in its environment.
    pub fn of(bed: &Bed, variables: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        bed.spawn_agent_with(&format!("NOTIFY_SOCKET={} {variables}", path.display()))?;
        Ok(Self {
            socket,
            lines: VecDeque::new(),
            _folder: folder,
        })
    }

    /// Takes what has come.
    fn take(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }

    /// Waits for a line, and gives what came before it.
    pub fn expect(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let begun = Instant::now();
        loop {
            self.take();
            if let Some(at) = self.lines.iter().position(|line| fits(line)) {
                let before: Vec<_> = self.lines.drain(..=at).collect();
                return Ok(before);
            }
            if begun.elapsed() > TOLD_WITHIN {
                bail!("{what} is not told, but {:?}", self.lines);
            }
        }
    }

    /// How many pings come within a time.
    fn pings(&mut self, within: Duration) -> usize {
        self.take();
        self.lines.clear();
        let end = Instant::now() + within;
        while Instant::now() < end {
            self.take();
        }
        self.lines
            .iter()
            .filter(|line| *line == "WATCHDOG=1")
            .count()
    }
}

fn is_ready(line: &str) -> bool {
    line == "READY=1"
}

/// Without Valkey there is no READY, and the start is given more time; with it, connections are served.
fn hears_ready_once_it_serves() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    bed.kill_valkey()?;
    let mut supervisor = Supervisor::of(&bed, "")?;
    let before = supervisor.expect("a longer start", |line| {
        line.starts_with("EXTEND_TIMEOUT_USEC=")
    })?;
    ensure!(!before.iter().any(|line| is_ready(line)), "{before:?}");
    ensure!(
        before
            .iter()
            .any(|line| line.starts_with("STATUS=") && line.contains("Valkey")),
        "{before:?}"
    );
    std::thread::sleep(Duration::from_secs(2));
    supervisor.take();
    ensure!(
        !supervisor.lines.iter().any(|line| is_ready(line)),
        "READY without Valkey"
    );
    bed.start_valkey()?;
    let before = supervisor.expect("READY", is_ready)?;
    ensure!(
        !before.iter().any(|line| line == "WATCHDOG=1"),
        "pinged without a watchdog"
    );
    supervisor.expect("a status", |line| {
        line == "STATUS=serving 3 stores to 3 apps"
    })?;
    // READY is true.
    check(&mut bed.connect(APP1)?, "SET a 1", "OK")
}

/// The watchdog is pinged while all workers turn, and not for the sake of a thread that lives.
fn is_pinged_while_workers_turn() -> Result<()> {
    let bed = Bed::builder().workers(2).agent_later().start()?;
    let mut supervisor = Supervisor::of(&bed, "WATCHDOG_USEC=900000")?;
    supervisor.expect("READY", is_ready)?;
    let pings = supervisor.pings(Duration::from_secs(4));
    ensure!(pings >= 3, "{pings} pings in four seconds");
    for worker in ["worker-0", "worker-1"] {
        let held = Held::thread(&bed, worker)?;
        // One may have been under way.
        supervisor.pings(Duration::from_secs(1));
        let pings = supervisor.pings(Duration::from_secs(3));
        ensure!(pings == 0, "{pings} pings while {worker} stands");
        // Connections of the other one go on: only the watchdog can tell.
        drop(held);
        supervisor.expect("a ping", |line| line == "WATCHDOG=1")?;
    }
    Ok(())
}

fn hears_of_valkey_and_the_end() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let mut supervisor = Supervisor::of(&bed, "")?;
    supervisor.expect("READY", is_ready)?;
    bed.kill_valkey()?;
    supervisor.expect("a status", |line| line == "STATUS=Valkey does not answer")?;
    bed.start_valkey()?;
    supervisor.expect("a status", |line| line.starts_with("STATUS=serving"))?;
    bed.stop_agent()?;
    supervisor.expect("STOPPING", |line| line == "STOPPING=1")?;
    Ok(())
}

/// The exit code that the unit knows: started again with the same file, it would only end again.
fn not_started_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, "[valkey]\naddres = \"127.0.0.1:6379\"\n")?;
    let agent = crate::tools::Programs::beside_current()?.agent;
    let output = Command::new(agent)
        .args(["run", "--config"])
        .arg(&config)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().context("ended by a signal")?;
    ensure!(said.contains("unknown field `addres`"), "{said}");
    let unit = include_str!("../../../config/flect-agent.service");
    let line = format!("\nRestartPreventExitStatus={code}\n");
    ensure!(
        code != 1 && unit.contains(&line),
        "it ends with {code}, which the unit does not know"
    );
    Ok(())
}
