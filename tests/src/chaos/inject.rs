//! Carries out a fault and undoes it.
//!
//! Invariant: when [`inject`] returns, nothing of the fault is left but its consequences: processes run,
//! limits are as before, bytes pass. An agent that ended under a fault that excuses it is started again;
//! one that ended under any other is a violation.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::client::stores;
use super::crowd::Crowd;
use super::ledger::Ledger;
use super::plan::{Fault, Kind};
use super::relay::{Mode, Relay};
use crate::bed::Bed;

/// How many connections a storm opens: above the agent's workers and pools, below a backlog.
const STORM: usize = 100;
/// What each connection of a storm sends where memory is short: together far more than allocators keep.
const LARGE_BYTES: usize = 400_000;
/// Years: beyond every wait and every number of milliseconds in 32 bits.
const AHEAD_SECONDS: u64 = 100_000_000;
/// Nobody waits long in a storm.
const STORM_PATIENCE: Duration = Duration::from_millis(20);
/// Nothing of it is a reply: each begins with no type of RESP, or lies about its length.
const GARBAGE: [&[u8]; 4] = [b"hello\r\n", b"?1\r\n", b"$x\r\n\r\n", b"\0\0\0\r\n"];

/// Carries out one fault, from its beginning to its end.
///
/// # Errors
/// When a part of the bed cannot be started or asked.
pub fn inject(bed: &Bed, relay: &Relay, ledger: &Ledger, fault: &Fault) -> Result<()> {
    let hold = || thread::sleep(fault.hold);
    let held = |mode: Mode| {
        relay.set(mode);
        hold();
        relay.set(Mode::Pass);
    };
    match fault.kind {
        Kind::AgentKilled => {
            bed.kill_agent()?;
            hold();
            bed.start_agent()?;
        }
        Kind::AgentEnded => {
            bed.stop_agent()?;
            hold();
            bed.start_agent()?;
        }
        Kind::AgentFollowed => drop(bed.upgrade_agent()?),
        Kind::ClockMoved => {
            bed.kill_agent()?;
            bed.start_agent_ahead(AHEAD_SECONDS)?;
        }
        Kind::AgentStopped => stopped(bed.agent_pid()?, hold)?,
        Kind::ValkeyKilled => {
            bed.kill_valkey()?;
            hold();
            bed.start_valkey()?;
        }
        Kind::ValkeyStopped => stopped(bed.valkey_pid()?, hold)?,
        Kind::ValkeyReloaded => {
            // It ends the connections of nobody; the answer comes after the load.
            let said = bed.operator()?.command(&["DEBUG", "RELOAD"])?;
            ensure!(said.text() == "OK", "DEBUG RELOAD: {said}");
        }
        Kind::UpstreamsKilled => {
            let kill = ["CLIENT", "KILL", "SKIPME", "yes", "TYPE"];
            for class in ["normal", "pubsub"] {
                let request: Vec<_> = kill.into_iter().chain([class]).collect();
                bed.operator()?.command(&request)?;
            }
        }
        Kind::Reset => relay.reset(),
        Kind::Stall => held(Mode::Stall),
        Kind::ShortWrites => held(Mode::Drip(1 + fault.bytes % 3)),
        Kind::Late => held(Mode::Late(Duration::from_millis(fault.bytes as u64))),
        Kind::Garbage => held(Mode::Garbage(GARBAGE[fault.bytes % GARBAGE.len()].to_vec())),
        Kind::Cut => held(Mode::Cut(fault.bytes)),
        Kind::Refused => {
            relay.set(Mode::Refuse);
            relay.reset();
            hold();
            relay.set(Mode::Pass);
        }
        Kind::NoDescriptors => {
            // Whatever it opens next has a number that is not allowed.
            limited(bed, ledger, Resource::Nofile, 3, 0, hold)?;
        }
        Kind::NoMemory => {
            let status = std::fs::read_to_string(format!("/proc/{}/status", bed.agent_pid()?))?;
            let data = status.lines().find_map(|line| line.strip_prefix("VmData:"));
            let kib = data.and_then(|rest| rest.split_whitespace().next());
            let now = kib.context("no VmData")?.parse::<u64>()? * 1024;
            // RLIMIT_AS would do nothing: an allocator's arenas have their addresses already.
            limited(bed, ledger, Resource::Data, now, LARGE_BYTES, hold)?;
            // Rust ends a process that gets no memory; an agent that does so comes again, as with systemd.
            if let Some(status) = bed.agent_ended() {
                ledger.count("the agent ended for lack of memory");
                ledger.event(format!("the agent ended: {status}"));
                bed.start_agent()?;
            }
        }
        Kind::Storm => storm(bed, ledger, 0),
        Kind::FullMaps => {
            let _crowd = Crowd::start(bed, stores()[2].app)?;
            hold();
        }
        Kind::Registry => registry(bed, fault)?,
    }
    if let Some(status) = bed.agent_ended() {
        ledger.violation(format!(
            "the agent ended by itself ({status}) at fault {fault}"
        ));
        bed.start_agent()?;
    }
    Ok(())
}

fn process(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")
}

fn stopped(pid: u32, hold: impl FnOnce()) -> Result<()> {
    kill_process(process(pid)?, Signal::STOP)?;
    hold();
    kill_process(process(pid)?, Signal::CONT)?;
    Ok(())
}

fn limited(
    bed: &Bed,
    ledger: &Ledger,
    what: Resource,
    most: u64,
    bytes: usize,
    hold: impl FnOnce(),
) -> Result<()> {
    let pid = process(bed.agent_pid()?)?;
    let own = getrlimit(what);
    let lower = Rlimit {
        current: Some(most),
        maximum: own.maximum,
    };
    let before = prlimit(Some(pid), what, lower)?;
    // New connections are what takes both.
    storm(bed, ledger, bytes);
    hold();
    // The agent may have ended of it.
    let _ = prlimit(Some(pid), what, before);
    Ok(())
}

/// Connections of the emptied store's app that come, ask once and go. What they are told is judged; that
/// they are told nothing is not, since the agent may be short of everything.
fn storm(bed: &Bed, ledger: &Ledger, bytes: usize) {
    let store = &stores()[2];
    let connect = |_| bed.connect(store.app).ok();
    let mut all: Vec<_> = (0..STORM).filter_map(connect).collect();
    let tag = |number: usize| {
        let tag = format!("<{}.storm.{number}>", store.letter);
        tag.repeat(1 + bytes / tag.len())
    };
    for (number, wire) in all.iter_mut().enumerate() {
        let _ = wire.set_patience(STORM_PATIENCE);
        let _ = wire.stream().set_write_timeout(Some(STORM_PATIENCE));
        let _ = wire.send(&["ECHO", &tag(number)]);
    }
    for (number, wire) in all.iter_mut().enumerate() {
        if let Ok(reply) = wire.read().map(|reply| reply.text())
            && reply != tag(number)
            && !reply.starts_with("-LOADING")
        {
            let said: String = reply.chars().take(60).collect();
            ledger.violation(format!("ECHO of storm {number} is answered with {said}"));
        }
    }
    ledger.add("storm connections", all.len() as u64);
}

/// Stores come and go, tokens are made and taken, limits change: beside the stores that are in use, and at
/// the one that is emptied.
fn registry(bed: &Bed, fault: &Fault) -> Result<()> {
    let extra = format!("extra-{}", fault.number);
    let limited = stores()[2].name;
    let steps: [&[&str]; 6] = [
        &["kv", "create", &extra, "--max-memory", "1mb"],
        &[
            "kv",
            "set",
            limited,
            "--max-connections",
            "150",
            "--rate",
            "100000",
        ],
        &["kv", "token", &extra, "--new"],
        &["kv", "set", &extra, "--rate", "10"],
        &[
            "kv",
            "set",
            limited,
            "--max-connections",
            "none",
            "--rate",
            "none",
        ],
        &["kv", "rm", &extra, "--yes"],
    ];
    for arguments in steps {
        let output = flect(bed, arguments)?;
        ensure!(
            output.status.success(),
            "flect {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn flect(bed: &Bed, arguments: &[&str]) -> Result<Output> {
    let mut command: Command = bed.flect()?;
    command.args(arguments).stdin(Stdio::null());
    command.output().context("starting flect")
}
