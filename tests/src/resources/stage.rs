//! A bed with limits, what its agent takes of the machine, and what its audit log says.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bed::builder::Builder;
use crate::bed::{APP1, Bed};
use crate::wire::Wire;

/// What Valkey says beyond `maxclients`.
pub const TOO_MANY: &str = "-ERR max number of clients reached";

/// How long something may take that does not wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A bed with these lines of `[limits]`.
pub fn bed(limits: &str, with: impl FnOnce(Builder) -> Builder) -> Result<Bed> {
    let builder = Bed::builder().config_tail(&format!("\n[limits]\n{limits}\n"));
    with(builder).start()
}

/// So many connections of app1.
pub fn connect(bed: &Bed, count: usize) -> Result<Vec<Wire>> {
    let connect = |_| Ok(bed.connect(APP1)?);
    (0..count).map(connect).collect()
}

/// Adds the agent's log to an error.
pub fn told(bed: &Bed, result: Result<()>) -> Result<()> {
    let log = bed.agent_log();
    let tail = log.len().saturating_sub(4000);
    result.with_context(|| format!("the agent's log ends:\n{}", log.get(tail..).unwrap_or(&log)))
}

/// The lines of the audit log with this reason.
pub fn audited(bed: &Bed, reason: &str) -> Vec<Value> {
    lines(&bed.agent_log())
        .into_iter()
        .filter(|line| line["reason"] == reason)
        .collect()
}

/// The lines of the audit log in a text.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.find('{').map(|at| &line[at..]))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["reason"].is_string())
        .collect()
}

/// Waits for a line of the audit log and checks its fields.
pub fn expect_audit(bed: &Bed, reason: &str, store: &str) -> Result<()> {
    wait_until(|| Ok(!audited(bed, reason).is_empty()))
        .with_context(|| format!("no line with the reason '{reason}'"))?;
    let lines = audited(bed, reason);
    let fits = lines.iter().any(|line| {
        line["app"] == APP1 && line["store"] == store && line["count"].as_u64() > Some(0)
    });
    ensure!(fits, "{reason}: {lines:?}");
    Ok(())
}

/// What `flect status`'s daemon counts of a store.
pub fn metric(bed: &Bed, store: &str, name: &str) -> Result<u64> {
    use std::io::{BufRead, BufReader, Write};
    let mut socket = std::os::unix::net::UnixStream::connect(bed.socket())?;
    socket.write_all(b"{\"op\":\"metrics\"}\n")?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let reply: Value = serde_json::from_str(&line)?;
    let stores = reply["ok"]["stores"].as_array().context("no stores")?;
    let store = stores.iter().find(|found| found["name"] == store);
    store
        .and_then(|store| store[name].as_u64())
        .with_context(|| format!("no {name}: {reply}"))
}

/// Open descriptors of the agent.
pub fn descriptors(bed: &Bed) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", bed.agent_pid()?))?.count())
}

/// A field of the agent's `/proc/PID/status`, in bytes.
fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no {field}"))?;
    Ok(kilobytes * 1024)
}

/// By how many bytes the agent grows at its peak while something is done.
pub fn growth(bed: &Bed, body: impl FnOnce() -> Result<()>) -> Result<u64> {
    let pid = bed.agent_pid()?;
    let before = memory_bytes(pid, "VmRSS:")?;
    // "5" makes the peak what is in use now (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak")?;
    body()?;
    Ok(memory_bytes(pid, "VmHWM:")?.saturating_sub(before))
}

/// Waits for a condition.
pub fn wait_until(condition: impl FnMut() -> Result<bool>) -> Result<()> {
    crate::bed::agent::wait_until(PATIENCE, condition)
}

/// Lets others go on for a moment.
pub fn breathe() {
    thread::sleep(Duration::from_millis(20));
}
