//! Where attacks are made: a bed whose stores bear marks, and processes that play intruders in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flect_agent::weakened::Weakness;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ground::{Answer, Ground, KEY, SHARED};
use super::{APP, Attack, By, INTRUDER, NEIGHBOUR};
use crate::bed::{Bed, Builder};
use crate::child;
use crate::tools::Programs;

/// An app's share of network namespaces: small, so that an attack soon goes beyond it.
pub(super) const NAMESPACES_SHARE: usize = 16;

/// A bed with marks.
pub(super) struct Scene {
    pub(super) bed: Bed,
    /// What its agent lacks, as a list.
    lacks: String,
    /// Stands for the bus of a cluster.
    closed: TcpListener,
}

impl Scene {
    /// With an agent that lacks these defences, or with the real one.
    pub(super) fn new(lacks: &[Weakness]) -> Result<Self> {
        let names: Vec<&str> = lacks.iter().map(|lack| lack.name()).collect();
        let lacks = names.join(",");
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = closed.local_addr()?.port();
        let scene = Self {
            bed: builder(&lacks, port).start()?,
            lacks,
            closed,
        };
        scene.mark()?;
        // Somebody has been here before, whom an intruder might be taken for.
        scene.bed.connect(NEIGHBOUR)?.command(&["GET", KEY])?;
        Ok(scene)
    }

    /// Its agent, to be started once more.
    pub(super) fn agent(&self) -> Result<Command> {
        let programs = Programs::beside_current()?;
        let mut command = if self.lacks.is_empty() {
            Command::new(programs.agent)
        } else {
            Command::new(programs.weakened(&self.lacks)?.agent)
        };
        command
            .env("FLECT_WEAKENED", &self.lacks)
            .args(["run", "--config"])
            .arg(self.bed.config_path());
        Ok(command)
    }

    /// Writes the marks, as the operator: a weakened agent may not do it right.
    pub(super) fn mark(&self) -> Result<()> {
        let mut operator = self.bed.operator()?;
        operator.command(&["SET", KEY, SHARED])?;
        for (store, mark) in [("store1", APP), (NEIGHBOUR, NEIGHBOUR)] {
            let key = format!("{}:{KEY}", self.bed.prefix(store)?);
            operator.command(&["SET", &key, mark])?;
        }
        Ok(())
    }

    fn ground(&self) -> Result<Ground> {
        let app = self.bed.cgroup(APP)?;
        Ok(Ground {
            valkey_port: self.bed.address().port(),
            agent_port: self.bed.listen_port(),
            closed_port: self.closed.local_addr()?.port(),
            apps: app.parent().context("the apps' folder")?.to_owned(),
            pins: self.bed.pins(),
        })
    }

    /// Makes an attack, in a process of its own.
    pub(super) fn attack(&self, attack: &Attack) -> Result<Answer> {
        match attack.by {
            By::App(_) => self.intrude(attack.name, true),
            By::Outsider(_) => self.intrude(attack.name, false),
            By::Staged(_) => bail!("a staged attack has a scene of its own"),
        }
    }

    /// Lets a process do what `name` says, and returns what it tells.
    pub(super) fn intrude(&self, name: &str, in_app: bool) -> Result<Answer> {
        self.start(name, in_app)?.answer()
    }

    /// Starts such a process.
    pub(super) fn start(&self, name: &str, in_app: bool) -> Result<Intruder> {
        let arguments = self.ground()?.arguments();
        let mut all = vec![name];
        all.extend(arguments.iter().map(String::as_str));
        let mut command = child::command(INTRUDER, &all)?;
        // The test's own process stands outside of what a bed manages.
        if in_app {
            self.bed.place(APP, &mut command)?;
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting an intruder")?;
        Ok(Intruder {
            orders: process.stdin.take(),
            answers: BufReader::new(process.stdout.take().context("its stdout")?),
            process,
        })
    }

    /// Sends a signal to the agent.
    pub(super) fn signal_agent(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.bed.agent_pid()?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

/// A process that plays an intruder; it ends when this does.
pub(super) struct Intruder {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Intruder {
    /// The next thing it tells.
    pub(super) fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the intruder failed, see above");
        Answer::parse(line.trim_end())
    }

    /// Whether it has told something that was not read yet, or is gone.
    pub(super) fn has_answered(&mut self) -> Result<bool> {
        if !self.answers.buffer().is_empty() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(self.answers.get_ref(), PollFlags::IN)];
        Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self) -> Result<()> {
        Ok(writeln!(self.orders.as_mut().context("its stdin")?)?)
    }

    /// Lets it come to an end.
    pub(super) fn finish(&mut self) -> Result<Answer> {
        self.orders = None;
        self.answer()
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn builder(lacks: &str, closed_port: u16) -> Builder {
    let limits = format!("\n[limits]\nnamespaces = {NAMESPACES_SHARE}\n");
    let builder = Bed::builder()
        .apps(&[APP, NEIGHBOUR])
        .intercept_keys(&format!("closed_ports = [{closed_port}]"))
        .config_tail(&limits);
    if lacks.is_empty() {
        return builder;
    }
    builder.weakened(lacks)
}
