//! Removing a bed, however it ends.
//!
//! Invariant: [`Inner`] alone owns what must be removed; it removes it once, from whichever thread
//! comes first: the bed's drop, the thread that waits for signals, or the sweep of another process.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{env, fs, process, thread};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, test_kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::agent::Agent;
use super::cgroups::{self, Groups};
use super::name::Name;
use super::ports::Reserved;
use super::valkey::Valkey;

/// The beds of this process.
static BEDS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// What is removed with a bed.
#[derive(Debug)]
pub struct Inner {
    name: Name,
    folder: PathBuf,
    groups: Option<Groups>,
    detach: Option<PathBuf>,
    stores: usize,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    valkey: Option<Valkey>,
    agent: Option<Agent>,
    others: Vec<Child>,
    /// Ports of processes besides their own.
    ports: Vec<Reserved>,
    torn_down: bool,
}

/// Removes a bed that could not be finished.
pub struct Guard(pub Option<Arc<Inner>>);

impl Guard {
    /// The bed is finished: somebody else removes it.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "only this function takes the value, and it takes self"
    )]
    pub fn release(mut self) -> Arc<Inner> {
        self.0.take().expect("held until released")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.tear_down();
        }
    }
}

impl Inner {
    /// Registers a bed, so that signals remove it, and makes its folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        name: Name,
        groups: Option<Groups>,
        detach: Option<PathBuf>,
        stores: usize,
    ) -> Result<Arc<Self>> {
        let folder = name.folder();
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let inner = Arc::new(Self {
            name,
            folder,
            groups,
            detach,
            stores,
            processes: Mutex::default(),
        });
        lock(&BEDS).push(Arc::downgrade(&inner));
        Ok(inner)
    }

    /// The bed's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its cgroups; a direct bed has none.
    #[must_use]
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// The number of app1's stores.
    #[must_use]
    pub fn stores(&self) -> usize {
        self.stores
    }

    /// Keeps the server.
    ///
    /// # Errors
    /// When the bed is being removed.
    pub fn set_valkey(&self, valkey: Valkey) -> Result<()> {
        let mut processes = lock(&self.processes);
        if processes.torn_down {
            valkey.kill()?;
            bail!("interrupted");
        }
        processes.valkey = Some(valkey);
        Ok(())
    }

    /// Keeps a port until the bed is gone.
    ///
    /// # Errors
    /// When the bed is being removed.
    pub fn hold(&self, port: Reserved) -> Result<()> {
        let mut processes = lock(&self.processes);
        if processes.torn_down {
            bail!("interrupted");
        }
        processes.ports.push(port);
        Ok(())
    }

    /// Keeps the agent.
    ///
    /// # Errors
    /// When the bed is being removed.
    pub fn set_agent(&self, agent: Agent) -> Result<()> {
        let mut processes = lock(&self.processes);
        if processes.torn_down {
            agent.kill()?;
            bail!("interrupted");
        }
        processes.agent = Some(agent);
        Ok(())
    }

    /// Starts a process that ends with the bed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn adopt(&self, mut command: Command, what: &str) -> Result<()> {
        let mut processes = lock(&self.processes);
        if processes.torn_down {
            bail!("interrupted");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        processes.others.push(child);
        Ok(())
    }

    /// Hands the agent's process out, for an end of the caller's choice.
    pub fn take_agent(&self) -> Option<Agent> {
        lock(&self.processes).agent.take()
    }

    /// Hands Valkey's process out, for its end.
    pub fn take_valkey(&self) -> Option<Valkey> {
        lock(&self.processes).valkey.take()
    }

    /// Is there an agent process?
    pub fn has_agent(&self) -> bool {
        lock(&self.processes).agent.is_some()
    }

    /// The agent's process id.
    pub fn agent_pid(&self) -> Option<u32> {
        lock(&self.processes).agent.as_ref().map(Agent::pid)
    }

    /// Valkey's process id.
    pub fn valkey_pid(&self) -> Option<u32> {
        lock(&self.processes).valkey.as_ref().map(Valkey::pid)
    }

    /// The agent's exit status if it ended by itself; it is forgotten then.
    pub fn agent_ended(&self) -> Option<ExitStatus> {
        let mut processes = lock(&self.processes);
        let ended = processes.agent.as_mut().and_then(Agent::ended)?;
        processes.agent = None;
        Some(ended)
    }

    /// Ends every process and removes every trace. Errors are told on stderr: there is nobody
    /// else to tell, and the rest must still be removed.
    pub fn tear_down(&self) {
        let mut processes = lock(&self.processes);
        if processes.torn_down {
            return;
        }
        processes.torn_down = true;
        if let Some(agent) = processes.agent.take() {
            complain(agent.kill());
        }
        for mut child in processes.others.drain(..) {
            complain(child.kill().and_then(|()| child.wait().map(drop)));
        }
        remove_pins(&self.name, self.detach.as_deref());
        if let Some(groups) = &self.groups {
            complain(groups.remove());
        }
        if let Some(valkey) = processes.valkey.take() {
            complain(valkey.kill());
        }
        complain(fs::remove_dir_all(&self.folder));
    }
}

/// Removes every bed of this process.
pub fn tear_down_all() {
    let beds: Vec<_> = lock(&BEDS).drain(..).collect();
    for bed in beds.iter().filter_map(Weak::upgrade) {
        bed.tear_down();
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP remove every bed of this process and then end it.
///
/// # Errors
/// When the handlers cannot be set.
pub fn end_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handling signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tear_down_all();
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Removes the beds of processes that are gone without having done it themselves (SIGKILL).
///
/// Quiet: what cannot be removed belongs to somebody else, and the next sweep tries again.
pub fn sweep() {
    let mut names = HashSet::new();
    let mount = cgroups::mount().ok();
    let folders = [
        mount.clone(),
        Some(PathBuf::from("/sys/fs/bpf")),
        Some(env::temp_dir()),
    ];
    for folder in folders.iter().flatten() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        names.extend(
            entries
                .filter_map(|entry| Name::parse(entry.file_name().to_str()?))
                .filter(|name| !is_alive(name.owner()))
                .map(|name| name.cgroup().to_owned()),
        );
    }
    for name in names.iter().filter_map(|name| Name::parse(name)) {
        if let Ok(groups) = Groups::new(&name) {
            let _ = groups.remove();
        }
        let _ = fs::remove_dir_all(name.pins());
        let _ = fs::remove_dir_all(name.folder());
    }
}

/// Pins go by the agent's own command; what that leaves goes file by file.
fn remove_pins(name: &Name, agent: Option<&Path>) {
    let pins = name.pins();
    if !pins.exists() {
        return;
    }
    if let Some(agent) = agent {
        let output = Command::new(agent)
            .args(["detach", "--pin"])
            .arg(&pins)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!(
                "flect-agent detach: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => eprintln!("flect-agent detach: {error}"),
        }
    }
    if pins.exists() {
        complain(fs::remove_dir_all(&pins));
    }
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| {
        // EPERM: somebody else's, and alive.
        !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    })
}

fn complain<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        eprintln!("cleaning up: {error:#}");
    }
}

/// A thread that panicked while it held the lock must not keep others from cleaning up.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
