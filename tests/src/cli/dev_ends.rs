//! How `flect dev` ends: with the command, on signals, killed, and when its servers fail.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Body;
use super::project::{Ended, Project, TWO};
use crate::wire::Wire;

pub const TRIALS: &[(&str, Body)] = &[
    ("dev_ends_as_its_command", as_command),
    ("dev_passes_signals_on", passes_on),
    ("dev_killed_takes_all_along", killed),
    ("dev_without_a_command_waits", waits),
    ("dev_tells_of_a_dead_server", dead_server),
];

/// Ends take milliseconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `flect dev` and its output.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(project: &Project, args: &[&str]) -> Result<Self> {
        let mut command = project.dev(args)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, stdout })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            let mut said = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                stderr.read_to_string(&mut said)?;
            }
            bail!("flect dev ended: {said}");
        }
        Ok(line.trim_end().to_owned())
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("pid")?;
        kill_process(pid, signal).context("kill")
    }

    /// The processes that it has started, by what they are.
    fn children(&self) -> Result<Vec<(u32, String)>> {
        let own = self.child.id();
        let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        list.split_whitespace()
            .map(|pid| {
                Ok((
                    pid.parse()?,
                    fs::read_to_string(format!("/proc/{pid}/comm"))?,
                ))
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gone(processes: &[(u32, String)]) -> Result<()> {
    let started = Instant::now();
    for (pid, name) in processes {
        // Gone, or dead and waiting for whoever inherits it.
        let lives = || {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        while lives() {
            ensure!(started.elapsed() < PATIENCE, "{name} ({pid}) lives on");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn as_command() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    Ended::of(&mut project.dev(&["--", "sh", "-c", "exit 42"])?)?.expect(42, "")?;
    Ended::of(&mut project.dev(&["--", "sh", "-c", "kill -TERM $$"])?)?.expect(143, "")?;
    Ended::of(&mut project.dev(&["--", "no-such-command"])?)?
        .expect(127, "there is no such command")?;
    Ended::of(&mut project.dev(&["--", "./flect.toml"])?)?.expect(126, "Permission denied")?;
    // Signals are as they were before flect: none blocked, and ignored what nohup ignores.
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status; read line; echo got:$line";
    let mut command = project.dev(&["--", "sh", "-c", look])?;
    let ran = Ended::of(&mut command)?.expect(0, "SigBlk:\t0000000000000000\n")?;
    ensure!(ran.stdout.ends_with("got:\n"), "{ran:?}");
    ensure!(!ignores_hangup(&ran)?, "{ran:?}");
    let mut nohup = std::process::Command::new("sh");
    nohup
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(project.path())
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nohup.env(name, value),
            None => nohup.env_remove(name),
        };
    }
    project.own(&mut nohup);
    let ran = Ended::of(&mut nohup)?.expect(0, "SigBlk:\t0000000000000000\n")?;
    ensure!(ignores_hangup(&ran)?, "{ran:?}");
    Ok(())
}

/// Whether the first bit of the ignored signals is set.
fn ignores_hangup(ran: &Ended) -> Result<bool> {
    let line = ran
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"));
    let set = u64::from_str_radix(line.context("no SigIgn")?.trim(), 16)?;
    Ok(set & 1 == 1)
}

fn passes_on() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    for (signal, name, code) in [
        (Signal::TERM, "TERM", 9),
        (Signal::HUP, "HUP", 8),
        (Signal::USR1, "USR1", 7),
    ] {
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = Running::start(&project, &["--", "sh", "-c", &script])?;
        ensure!(running.line()? == "ready", "not ready");
        let children = running.children()?;
        ensure!(children.len() == 3, "{children:?}");
        running.kill(signal)?;
        let status = running.child.wait()?;
        ensure!(status.code() == Some(code), "{name}: {status}");
        gone(&children)?;
    }
    Ok(())
}

/// The kernel ends what a killed one leaves, and the next one finds the data.
fn killed() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    let wait = ["--json"];
    let mut running = Running::start(&project, &wait)?;
    let mut wire = connect(&mut running, "CACHE_URL")?;
    ensure!(wire.command(&["SET", "kept", "yes"])?.text() == "OK", "SET");
    let children = running.children()?;
    ensure!(children.len() == 2, "{children:?}");
    running.kill(Signal::KILL)?;
    ensure!(running.child.wait()?.signal() == Some(9), "not killed");
    let mut next = Running::start(&project, &wait)?;
    gone(&children)?;
    let mut wire = connect(&mut next, "CACHE_URL")?;
    ensure!(
        wire.command(&["GET", "kept"])?.text() == "yes",
        "the data is gone"
    );
    Ok(())
}

/// Reads the JSON document and logs in to a store.
fn connect(running: &mut Running, variable: &str) -> Result<Wire> {
    let mut text = String::new();
    let shown: serde_json::Value = loop {
        text.push_str(&running.line()?);
        if let Ok(shown) = serde_json::from_str(&text) {
            break shown;
        }
    };
    let url = shown["variables"][variable].as_str().context("no URL")?;
    let rest = url.strip_prefix("redis://").context("no redis URL")?;
    let (login, address) = rest.split_once('@').context("no login")?;
    let (user, token) = login.split_once(':').context("no token")?;
    let mut wire = Wire::connect(address.parse()?)?;
    ensure!(wire.command(&["AUTH", user, token])?.text() == "OK", "AUTH");
    Ok(wire)
}

fn waits() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = Running::start(&project, &[])?;
        ensure!(running.line()?.contains("are ready"), "not ready");
        let mut lines = String::new();
        while !lines.contains("SESSION_STORE_URL=redis://store2:") {
            lines.push_str(&running.line()?);
        }
        let children = running.children()?;
        running.kill(signal)?;
        ensure!(running.child.wait()?.code() == Some(0), "not 0");
        gone(&children)?;
    }
    // The same port again, or the one that is asked for.
    let port = crate::bed::ports::reserve()?.number().to_string();
    let mut running = Running::start(&project, &["--json", "--port", &port])?;
    connect(&mut running, "SESSION_STORE_URL")?;
    ensure!(
        fs::read_to_string(project.path().join(".flect/port"))?.trim() == port,
        "another port"
    );
    Ok(())
}

fn dead_server() -> Result<()> {
    let project = Project::of_nobody(TWO)?;
    for victim in ["valkey-server", "flect-agent"] {
        let script = "trap 'echo told; exit 1' TERM; echo ready; while :; do sleep 0.05; done";
        let mut running = Running::start(&project, &["--", "sh", "-c", script])?;
        ensure!(running.line()? == "ready", "not ready");
        let children = running.children()?;
        let (pid, _) = children
            .iter()
            .find(|(_, name)| name.trim() == victim)
            .context(victim)?;
        let pid = Pid::from_raw(i32::try_from(*pid)?).context("pid")?;
        kill_process(pid, Signal::KILL)?;
        ensure!(running.line()? == "told", "the command was not told");
        ensure!(running.child.wait()?.code() == Some(125), "not 125");
        let mut said = String::new();
        running
            .child
            .stderr
            .take()
            .context("stderr")?
            .read_to_string(&mut said)?;
        ensure!(
            said.contains(&format!("{victim} ended (signal: 9")),
            "{said}"
        );
        gone(&children)?;
    }
    Ok(())
}
