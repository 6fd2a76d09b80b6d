//! `flect-agent notify` by itself: whom it serves, and what it says of what cannot be.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

use super::Body;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed, UNCLAIMED};
use crate::tools::Programs;

pub const BODIES: [(&str, Body); 4] = [
    ("announcements_tell_whose_it_is", whose),
    ("announcements_come_as_a_state_on_stdin", on_stdin),
    ("announcements_of_apps_are_refused", of_apps),
    ("announcements_wait_for_an_agent", without_an_agent),
];

/// How long the audit log may take.
const NOTED_WITHIN: Duration = Duration::from_secs(10);

fn notify(bed: &Bed) -> Result<Command> {
    let mut command = Command::new(Programs::beside_current()?.agent);
    command
        .args(["notify", "--socket"])
        .arg(bed.socket())
        .stdin(Stdio::null());
    Ok(command)
}

fn told(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A process in a cgroup of the bed's; ends with the trial.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn of(bed: &Bed, app: &str) -> Result<Self> {
        let child = bed.command(app, "/bin/sleep")?.arg("600").spawn()?;
        Ok(Self(child))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may be gone with its bed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn whose() -> Result<()> {
    let bed = Bed::builder().start()?;
    let (app, nobody) = (Sleeper::of(&bed, APP1)?, Sleeper::of(&bed, UNCLAIMED)?);
    let own = std::process::id().to_string();
    for (process, code, words) in [
        (app.pid(), 0, "of app 'app1': connections are taken"),
        (nobody.pid(), 0, "no app claims its cgroup"),
        (own, 1, "not below the managed root"),
        // Beyond what the kernel gives (PID_MAX_LIMIT).
        ("4999999".to_owned(), 1, "there is no process 4999999"),
    ] {
        let output = notify(&bed)?.args(["--pid", &process]).output()?;
        let said = told(&output);
        ensure!(output.status.code() == Some(code), "{process}: {said}");
        ensure!(said.contains(words), "{process}: {said}");
    }
    let output = notify(&bed)?
        .args(["--json", "--pid", &app.pid()])
        .output()?;
    let answer: Json = serde_json::from_slice(&output.stdout).context(told(&output))?;
    // It lives in the agent's own namespace, where the agent listens from the start.
    ensure!(
        answer["app"] == APP1 && answer["opened"] == false,
        "{answer}"
    );
    Ok(())
}

fn on_stdin() -> Result<()> {
    let bed = Bed::builder().start()?;
    let app = Sleeper::of(&bed, APP1)?;
    let state = json!({
        "ociVersion": "1.0.2", "id": "app", "status": "creating", "pid": app.0.id(), "bundle": "/b"
    });
    for (text, code, words) in [
        (state.to_string(), 0, "of app 'app1'"),
        ("{}".to_owned(), 1, "name a process: --pid PID"),
        (String::new(), 1, "name a process: --pid PID"),
    ] {
        let mut child = notify(&bed)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("stdin")?
            .write_all(text.as_bytes())?;
        let output = child.wait_with_output()?;
        let said = told(&output);
        ensure!(output.status.code() == Some(code), "{text:?}: {said}");
        ensure!(said.contains(words), "{text:?}: {said}");
    }
    Ok(())
}

/// What lives where apps do cannot make the agent enter a namespace of its choice.
fn of_apps() -> Result<()> {
    let bed = Bed::builder().start()?;
    let neighbour = Sleeper::of(&bed, "app2")?;
    let mut command = bed.command(APP1, Programs::beside_current()?.agent)?;
    let output = command
        .args(["notify", "--pid", &neighbour.pid(), "--socket"])
        .arg(bed.socket())
        .output()?;
    let said = told(&output);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(said.contains("apps may not see the node"), "{said}");
    wait_until(NOTED_WITHIN, || {
        Ok(bed.agent_log().contains("announce: refused to a tenant"))
    })
    .context("the audit log does not tell")
}

fn without_an_agent() -> Result<()> {
    let bed = Bed::builder().agent_later().start()?;
    let app = Sleeper::of(&bed, APP1)?;
    let output = notify(&bed)?
        .args(["--timeout", "0", "--pid", &app.pid()])
        .output()?;
    let said = told(&output);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(said.contains("is flect-agent running?"), "{said}");
    let output = notify(&bed)?
        .args(["--best-effort", "--timeout", "0", "--pid", &app.pid()])
        .output()?;
    ensure!(output.status.success(), "{}", told(&output));
    ensure!(!output.stderr.is_empty(), "nothing said of it");
    // One that comes meanwhile is waited for.
    let mut waiting = notify(&bed)?
        .args(["--timeout", "60", "--pid", &app.pid()])
        .stdout(Stdio::null())
        .spawn()?;
    bed.start_agent()?;
    ensure!(
        waiting.wait()?.success(),
        "the agent came, and was not told"
    );
    Ok(())
}
