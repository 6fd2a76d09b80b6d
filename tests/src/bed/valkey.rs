//! The private Valkey of a bed: on loopback, nothing on disk.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGKILL;

use super::Bed;
use super::cleanup::Inner;
use super::ports::{self, Reserved};
use super::{agent, place};

/// Valkey starts in 20 ms, in an emulated machine in a few seconds.
const START_SECONDS_MAX: u64 = 60;

/// The server's unix socket, in the bed's folder.
pub const SOCKET: &str = "valkey.sock";

impl Bed {
    /// Starts a further process beside Valkey, outside of what the agent manages; it ends with the bed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn adopt_beside_valkey(&self, mut command: Command, what: &str) -> Result<()> {
        if let Some(groups) = self.inner.groups() {
            place::in_cgroup(&mut command, groups.valkey())?;
        }
        self.inner.adopt(command, what)
    }
}

/// A running valkey-server.
#[derive(Debug)]
pub struct Valkey {
    child: Child,
}

impl Valkey {
    /// Starts a server on a free port of 127.0.0.1 and ::1 and waits until it takes connections.
    ///
    /// # Errors
    /// When it does not start; the message holds its log.
    pub fn spawn(server: &Path, inner: &Inner, options: &[String]) -> Result<(Self, Reserved)> {
        let port = ports::reserve()?;
        let valkey = Self::spawn_at(server, inner, options, port.number())?;
        Ok((valkey, port))
    }

    /// The same at a port that is the caller's, for a server that comes again.
    ///
    /// # Errors
    /// When it does not start; the message holds its log.
    pub fn spawn_at(server: &Path, inner: &Inner, options: &[String], port: u16) -> Result<Self> {
        let folder = inner.folder();
        let socket = folder.join(SOCKET);
        let log = folder.join("valkey.log");
        let mut command = Command::new(server);
        command
            .args(["--port", &port.to_string()])
            // The hyphen: a machine may have no IPv6.
            .args(["--bind", "127.0.0.1", "-::1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder)
            .arg("--unixsocket")
            .arg(&socket)
            // Test suites administer the server; it is private and on loopback.
            .args(["--enable-debug-command", "yes"])
            .args(["--enable-module-command", "yes"])
            .args(["--protected-mode", "no"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            // Ctrl-C in a terminal is for the command under test.
            .process_group(0);
        match inner.groups() {
            Some(groups) => place::in_cgroup(&mut command, groups.valkey())?,
            None => place::end_with_parent(&mut command, SIGKILL),
        }
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", server.display()))?;
        let mut valkey = Self { child };
        agent::wait_until(Duration::from_secs(START_SECONDS_MAX), || {
            if let Some(status) = valkey.child.try_wait()? {
                bail!("valkey-server ended: {status}");
            }
            Ok(UnixStream::connect(&socket).is_ok())
        })
        .with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{} says:\n{}", server.display(), super::tail(&said))
        })?;
        Ok(valkey)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server: nothing of it is kept but what it was told to write to its folder.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}
