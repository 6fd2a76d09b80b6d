//! While everything runs: signals are passed on, and the first end of anything is noticed.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use flect_agent::manifest::Variables;
use rustix::process::Signal;

use super::agent::Agent;
use super::process;
use super::server::Server;
use super::signals::{Event, Signals, ends};

/// What a command gets to end in order when its stores are gone.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The servers, in the order in which they are stopped.
pub struct Servers {
    /// Where the command connects to.
    pub agent: Agent,
    /// Where its data is.
    pub server: Server,
}

impl Servers {
    fn check(&mut self) -> anyhow::Result<()> {
        self.server.check()?;
        self.agent.check()
    }
}

/// Waits for a signal that wants an end.
pub fn until_ended(signals: &Signals, servers: &mut Servers) -> anyhow::Result<ExitCode> {
    loop {
        match signals.wait(None)? {
            Event::Signal { number, .. } if ends(number) => return Ok(ExitCode::SUCCESS),
            _ => servers.check()?,
        }
    }
}

/// Runs the command to its end.
pub fn command(
    words: &[OsString],
    variables: &Variables,
    more: &[(&str, &OsStr)],
    signals: &Signals,
    servers: &mut Servers,
) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = words.split_first() else {
        anyhow::bail!("there is no command");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    command.envs(more.iter().copied());
    command.envs(variables.assignments());
    process::end_with_us(&mut command, signals, None);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(crate::run::not_started(program, &error)),
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(code(status));
        }
        if let Err(error) = servers.check() {
            stop(&mut child, signals)?;
            return Err(error);
        }
        match signals.wait(None)? {
            // The terminal has sent it to the command too.
            Event::Signal {
                from_terminal: true,
                ..
            } => {}
            Event::Signal { number, .. } => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    process::signal(&child, signal);
                }
            }
            Event::Child | Event::Nothing => {}
        }
    }
}

fn stop(child: &mut Child, signals: &Signals) -> anyhow::Result<()> {
    process::signal(child, Signal::TERM);
    let asked = Instant::now();
    while child.try_wait()?.is_none() {
        let left = COMMAND_ENDS_WITHIN.saturating_sub(asked.elapsed());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            break;
        }
        signals.wait(Some(left))?;
    }
    Ok(())
}

/// The command's exit code; ended by a signal, what a shell would say.
fn code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
