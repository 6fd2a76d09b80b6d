//! A process that talks to the control socket as another user and from another cgroup, since both are
//! judged by the process.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Gid, Uid};
use serde_json::Value;

use crate::child;
use crate::wire::Wire;

/// The role's name for [`child::dispatch`].
pub const ROLE: &str = "control-client";

/// Somebody who is nobody in particular, on every system.
pub const NOBODY: u32 = 65_534;

/// The trial's hold on such a process.
#[derive(Debug)]
pub struct Client {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// Starts one; `place` decides in which cgroup.
    pub fn start(
        socket: &Path,
        uid: u32,
        place: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let socket = socket.to_str().context("the path is no text")?;
        let mut command = child::command(ROLE, &[socket, &uid.to_string()])?;
        place(&mut command)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a client of the control socket")?;
        let orders = child.stdin.take().context("its stdin")?;
        let answers = BufReader::new(child.stdout.take().context("its stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// Asks the agent.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let answer = self.order(&format!("ask {request}"))?;
        serde_json::from_str(&answer).with_context(|| format!("no JSON: {answer:?}"))
    }

    /// What a new connection to an address answers to PING.
    pub fn ping(&mut self, address: SocketAddr) -> Result<String> {
        self.order(&format!("ping {address}"))
    }

    /// Its cgroup, as a path below the mount.
    pub fn cgroup(&self) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.child.id()))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(path.context("no cgroup v2")?.to_owned())
    }

    fn order(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}").context("the client is gone")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client's own process: `SOCKET UID`.
pub fn role(args: &[String]) -> Result<()> {
    let [socket, uid] = args else {
        bail!("expected SOCKET UID");
    };
    let uid: u32 = uid.parse()?;
    if uid != 0 {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_gid(Gid::from_raw(uid))?;
        // The process has one thread yet.
        rustix::thread::set_thread_uid(Uid::from_raw(uid))?;
    }
    let mut agent: Option<BufReader<UnixStream>> = None;
    for order in std::io::stdin().lines() {
        let order = order?;
        let answer = match order.split_once(' ') {
            Some(("ask", request)) => {
                let stream = match &mut agent {
                    Some(stream) => stream,
                    None => agent.insert(BufReader::new(UnixStream::connect(socket)?)),
                };
                writeln!(stream.get_mut(), "{request}")?;
                let mut line = String::new();
                stream.read_line(&mut line)?;
                line.trim_end().to_owned()
            }
            Some(("ping", address)) => match Wire::connect(address.parse()?) {
                Ok(mut wire) => super::said(&mut wire, "PING"),
                Err(error) => error.to_string(),
            },
            _ => bail!("no such order: {order}"),
        };
        println!("{answer}");
    }
    Ok(())
}
