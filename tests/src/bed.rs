//! The bed: a private Valkey, an agent, cgroups and stores, for one test or one sandbox.
//!
//! ```text
//! <cgroup v2>/flect-PID-RANDOM/agent          the agent (it joins by itself)
//!                             /apps/app1 ...  one per app; `unclaimed` belongs to no app
//! <cgroup v2>/flect-PID-RANDOM.valkey         Valkey, outside of what the agent manages
//! /sys/fs/bpf/flect-PID-RANDOM                the agent's pins
//! $TMPDIR/flect-PID-RANDOM                    configuration, control socket, logs
//! ```
//!
//! Invariant: whatever ends a bed (drop, panic, SIGINT, SIGTERM), all of this is removed again and
//! every process in it is gone; what a killed process left behind is removed by the next bed
//! ([`cleanup`]). Beds share nothing, so several run at once.

pub mod agent;
pub mod builder;
pub mod cgroups;
pub mod cleanup;
pub mod connector;
pub mod name;
pub mod neighbour;
pub mod place;
pub mod ports;
pub mod relay;
mod succession;
pub mod supervisor;
pub mod valkey;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};

use crate::tools::{self, Programs};
use crate::wire::Wire;
use agent::Agent;
pub use builder::Builder;
use cleanup::Inner;
use connector::Connector;
use ports::Reserved;
use relay::Relay;
use valkey::Valkey;

/// The app that sandboxes run their command in.
pub const APP1: &str = "app1";
/// The app whose load disturbs the others.
pub const NEIGHBOUR: &str = "neighbour";
/// A cgroup below the managed root that no app claims.
pub const UNCLAIMED: &str = "unclaimed";

/// The acceleration setting of `agent.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// What passes the agent's self-test.
    Auto,
    /// sk_msg in both directions.
    On,
    /// Plain TCP.
    Off,
}

impl Acceleration {
    /// The word in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// A running bed. Dropping it removes everything.
#[derive(Debug)]
pub struct Bed {
    inner: Arc<Inner>,
    programs: Option<Programs>,
    port: Reserved,
    listen_port: Reserved,
    config: PathBuf,
    socket: PathBuf,
    relay: Relay,
    server: PathBuf,
    server_options: Vec<String>,
    connectors: Mutex<HashMap<String, Arc<Connector>>>,
}

impl Bed {
    /// A bed with app1, app2 and the neighbour, one store each, and acceleration as the kernel
    /// allows.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The address of the shared Valkey, which apps connect to and the agent intercepts.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// The same over IPv6.
    #[must_use]
    pub fn address_v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.port.number()).into()
    }

    /// The agent's own port on loopback.
    #[must_use]
    pub fn listen_port(&self) -> u16 {
        self.listen_port.number()
    }

    /// A plain way to the same Valkey with operator rights, also from inside an app's cgroup.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// A connection with operator rights, from the test's own process.
    ///
    /// # Errors
    /// Whatever connect says.
    pub fn operator(&self) -> io::Result<Wire> {
        Wire::connect(self.relay.address())
    }

    /// The cgroup folder of an app, or of a path below one: `app1`, `app1/worker`. Made if missing.
    ///
    /// # Errors
    /// When the bed is a direct one, or the folder cannot be made.
    pub fn cgroup(&self, app: &str) -> Result<PathBuf> {
        let groups = self.inner.groups().context("a direct bed has no cgroups")?;
        let path = groups.apps().join(app);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Lets a command start inside an app's cgroup, or in one below it.
    ///
    /// # Errors
    /// When the cgroup cannot be made or entered.
    pub fn place(&self, app: &str, command: &mut Command) -> Result<()> {
        place::in_cgroup(command, &self.cgroup(app)?)
    }

    /// A command that starts inside an app's cgroup, with the variables of
    /// [`environment`](Self::environment).
    ///
    /// # Errors
    /// When the cgroup cannot be made or entered.
    pub fn command(&self, app: &str, program: impl AsRef<Path>) -> Result<Command> {
        let mut command = Command::new(program.as_ref());
        command.envs(self.environment());
        self.place(app, &mut command)?;
        Ok(command)
    }

    /// Python inside an app's cgroup, with redis-py; give it `-c` or a file.
    ///
    /// # Errors
    /// When Python is not installed or the cgroup cannot be entered.
    pub fn python(&self, app: &str) -> Result<Command> {
        let mut command = self.command(app, tools::program("python3")?)?;
        command.env("PYTHONPATH", tools::python_packages());
        // The packages' folder may be read-only, and a compiled copy saves nothing here.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// Node.js inside an app's cgroup, with ioredis; give it `-e` or a file.
    ///
    /// # Errors
    /// When Node.js is not installed or the cgroup cannot be entered.
    pub fn node(&self, app: &str) -> Result<Command> {
        let mut command = self.command(app, tools::program("node")?)?;
        command.env("NODE_PATH", tools::node_modules());
        Ok(command)
    }

    /// A connection to Valkey's address that is an app's own, in the hands of this process: made
    /// and connected by a child inside the app's cgroup.
    ///
    /// # Errors
    /// What connect said inside the app, with its error number.
    pub fn connect(&self, app: &str) -> io::Result<Wire> {
        Wire::new(self.connector(app)?.connect(self.address())?)
    }

    /// The child that connects for an app; one per app, started when first asked for.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn connector(&self, app: &str) -> io::Result<Arc<Connector>> {
        let mut all = self
            .connectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = all.get(app) {
            return Ok(Arc::clone(connector));
        }
        let start = || -> Result<Connector> {
            let mut command = Connector::command()?;
            if !self.is_direct() {
                self.place(app, &mut command)?;
            }
            Connector::start(command)
        };
        let connector = Arc::new(start().map_err(io::Error::other)?);
        all.insert(app.to_owned(), Arc::clone(&connector));
        Ok(connector)
    }

    /// `CACHE_URL`, `STORE2_URL` ..., `VALKEY_HOST`, `VALKEY_PORT`, `FLECT_OPERATOR_HOST`,
    /// `FLECT_OPERATOR_PORT`: what an app's process and a sandbox's command find in their
    /// environment.
    ///
    /// A store but the first is named by the URL's user; the password repeats it, because some
    /// clients send AUTH only when there is one. A direct bed has no stores: there the further
    /// URLs name further databases.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
        let address = self.address();
        add("CACHE_URL", format!("redis://{address}"));
        for number in 2..=self.inner.stores() {
            let url = if self.is_direct() {
                format!("redis://{address}/{}", number - 1)
            } else {
                format!("redis://store{number}:store{number}@{address}")
            };
            add(&format!("STORE{number}_URL"), url);
        }
        add("VALKEY_HOST", address.ip().to_string());
        add("VALKEY_PORT", address.port().to_string());
        let operator = self.operator_address();
        add("FLECT_OPERATOR_HOST", operator.ip().to_string());
        add("FLECT_OPERATOR_PORT", operator.port().to_string());
        all
    }

    /// Is this Valkey alone, without an agent?
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.programs.is_none()
    }

    /// The users' command with this bed's environment and agent; give it arguments.
    ///
    /// # Errors
    /// When the bed is a direct one.
    pub fn flect(&self) -> Result<Command> {
        let mut command = Command::new(&self.programs()?.flect);
        // The folder holds the bed's agent.toml, which names the environment `default`.
        command
            .env("FLECT_CONFIG_DIR", self.folder())
            .env_remove("FLECT_ENV")
            .arg("--socket")
            .arg(&self.socket);
        Ok(command)
    }

    /// What `flect status --json` says.
    ///
    /// # Errors
    /// When there is no agent or it does not answer.
    pub fn status(&self) -> Result<serde_json::Value> {
        agent::status(self.programs()?, &self.socket)
    }

    /// The prefix of a store, such as `{k7m2x}`.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the store.
    pub fn prefix(&self, store: &str) -> Result<String> {
        let status = self.status()?;
        status["stores"]
            .as_array()
            .and_then(|stores| stores.iter().find(|s| s["name"] == store))
            .and_then(|found| found["prefix"].as_str())
            .map(str::to_owned)
            .with_context(|| format!("`flect status` knows no store {store}: {status}"))
    }

    /// Starts the agent, or starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds its log.
    pub fn start_agent(&self) -> Result<()> {
        self.start_agent_of(self.programs()?)
    }

    /// Waits until an agent that was spawned is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds its log.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.wait_ready(agent::READY_SECONDS_MAX)
    }

    fn start_agent_of(&self, programs: &Programs) -> Result<()> {
        ensure!(
            !self.inner.has_agent(),
            "the agent of this bed runs already"
        );
        let agent = Agent::spawn(programs, &self.config, &self.agent_log_path())?;
        self.inner.set_agent(agent)?;
        self.wait_ready(agent::READY_SECONDS_MAX)
    }

    /// Starts the agent with monotonic clocks that are ahead of everybody's, in a time namespace of its
    /// own: the clocks of the machine stay.
    ///
    /// # Errors
    /// As [`start_agent`](Self::start_agent), and where the kernel does not let it in by exec.
    pub fn start_agent_ahead(&self, seconds: u64) -> Result<()> {
        let clocks = format!("--monotonic {seconds} --boottime {seconds}");
        let ahead = self.wrapped(&format!("unshare --time {clocks}"))?;
        self.start_agent_of(&ahead)?;
        let clocks = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time"));
        let is_ahead = clocks(&self.agent_pid()?.to_string())? != clocks("self")?;
        ensure!(is_ahead, "the agent has the clocks of the machine");
        Ok(())
    }

    /// Starts the agent with these variables, such as `A=1 B=2`, and does not wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_agent_with(&self, variables: &str) -> Result<()> {
        let programs = self.wrapped(&format!("env {variables}"))?;
        let agent = Agent::spawn(&programs, &self.config, &self.agent_log_path())?;
        self.inner.set_agent(agent)
    }

    /// The programs, with an agent that this command line starts in its own place.
    fn wrapped(&self, command: &str) -> Result<Programs> {
        let own = self.programs()?;
        let script = self.folder().join("wrapped-agent");
        let agent = own.agent.display();
        fs::write(
            &script,
            format!("#!/bin/sh\nexec {command} {agent} \"$@\"\n"),
        )?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(Programs {
            weaknesses: None,
            agent: script,
            flect: own.flect.clone(),
        })
    }

    /// Kills the agent with SIGKILL.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_agent(&self) -> Result<()> {
        self.inner.take_agent().context("no agent runs")?.kill()
    }

    /// Stops the agent with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When there is none, or it does not end in time (it is killed then).
    pub fn stop_agent(&self) -> Result<()> {
        self.inner.take_agent().context("no agent runs")?.stop()
    }

    /// How the agent ended, if it did so by itself; told once.
    #[must_use]
    pub fn agent_ended(&self) -> Option<ExitStatus> {
        self.inner.agent_ended()
    }

    /// Kills Valkey with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_valkey(&self) -> Result<()> {
        let valkey = self.inner.take_valkey().context("Valkey does not run")?;
        valkey.kill().context("killing Valkey")
    }

    /// Starts Valkey again at its port, with its options and its folder.
    ///
    /// # Errors
    /// When it does not start; the message holds its log.
    pub fn start_valkey(&self) -> Result<()> {
        let port = self.port.number();
        let valkey = Valkey::spawn_at(&self.server, &self.inner, &self.server_options, port)?;
        self.inner.set_valkey(valkey)
    }

    /// The process id of the agent.
    ///
    /// # Errors
    /// When there is none.
    pub fn agent_pid(&self) -> Result<u32> {
        self.inner.agent_pid().context("no agent runs")
    }

    /// The process id of Valkey.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn valkey_pid(&self) -> Result<u32> {
        self.inner.valkey_pid().context("Valkey does not run")
    }

    /// Everything the agent has logged.
    #[must_use]
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.agent_log_path()).unwrap_or_default()
    }

    /// The agent's configuration file; tests may change it and start the agent again.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The agent's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// The folder of the bed's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.inner.folder()
    }

    /// The folder of the agent's pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.inner.name().pins()
    }

    /// Starts a process in the neighbour's cgroup that keeps its store busy with everything that
    /// must not be seen in `store`. It ends with the bed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_neighbour(&self, store: &str) -> Result<()> {
        let prefix = self.prefix(store)?;
        let mut command = neighbour::command(self.address(), self.operator_address(), &prefix)?;
        self.place(NEIGHBOUR, &mut command)?;
        self.inner.adopt(command, "the neighbour")
    }

    fn wait_ready(&self, seconds_max: u64) -> Result<()> {
        let programs = self.programs()?;
        let waited = agent::wait_until(Duration::from_secs(seconds_max), || {
            if let Some(end) = self.inner.agent_ended() {
                bail!("the agent ended: {end}");
            }
            Ok(agent::status(programs, &self.socket)
                .is_ok_and(|status| status["ready"] == serde_json::Value::Bool(true)))
        });
        waited.with_context(|| format!("flect-agent says:\n{}", tail(&self.agent_log())))
    }

    fn programs(&self) -> Result<&Programs> {
        self.programs.as_ref().context("a direct bed has no agent")
    }

    fn agent_log_path(&self) -> PathBuf {
        self.inner.folder().join("agent.log")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.inner.tear_down();
    }
}

/// The last lines of a log, enough to see why something ended.
fn tail(log: &str) -> String {
    const LINES_MAX: usize = 30;
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}
