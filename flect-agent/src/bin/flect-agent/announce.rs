//! `flect-agent notify`: the running agent is told of a workload before it runs, so that it listens in its
//! network namespace already when the first connection comes.
//!
//! Container runtimes call it as a hook (OCI runtime specification, `createRuntime`: namespaces and cgroup
//! exist, the workload's own program does not run yet) and give the container's state on stdin.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write, stdin};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// The state of a container is a few hundred bytes; annotations make it longer.
const STATE_BYTES_MAX: u64 = 1 << 20;

/// Between two tries while the agent starts.
const PAUSE: Duration = Duration::from_millis(50);

/// The arguments of `flect-agent notify`.
#[derive(clap::Args)]
pub struct Args {
    /// A process of the workload, as this node numbers it [default: `pid` of the OCI state on stdin].
    #[arg(long)]
    pid: Option<u32>,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH", default_value = "/run/flect/agent.sock")]
    socket: PathBuf,
    /// How long to wait for an agent that is starting.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// Exit code 0 although the agent could not be told, which stderr says: the workload may start, and its
    /// first connections are refused.
    #[arg(long)]
    best_effort: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// What the OCI runtime specification calls the state of a container, as far as it matters here.
#[derive(Deserialize)]
struct State {
    pid: u32,
}

/// What the agent answers.
#[derive(Deserialize)]
struct Answer {
    cgroup: String,
    app: Option<String>,
}

/// Tells the agent and waits until it listens.
///
/// # Errors
/// When it does not; none with `--best-effort`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match notify(args) {
        Err(error) if args.best_effort => {
            eprintln!("flect-agent: {error:#}");
            Ok(())
        }
        result => result,
    }
}

fn notify(args: &Args) -> anyhow::Result<()> {
    let process = match args.pid {
        Some(process) => process,
        None => process_on_stdin()?,
    };
    let value = ask(args, process)?;
    if args.json {
        println!("{value}");
        return Ok(());
    }
    let answer = Answer::deserialize(&value)
        .context("the agent's answer is not understood; is it another version?")?;
    match answer.app {
        Some(app) => println!("process {process} of app '{app}': connections are taken"),
        None => println!(
            "process {process}: no app claims its cgroup {}, so its connections are refused",
            answer.cgroup
        ),
    }
    Ok(())
}

fn process_on_stdin() -> anyhow::Result<u32> {
    if stdin().is_terminal() {
        bail!("name a process: --pid PID. Only a container runtime gives its state on stdin");
    }
    let mut text = String::new();
    stdin()
        .take(STATE_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read stdin")?;
    let state: State = serde_json::from_str(&text).context(
        "stdin holds no state of a container as the OCI runtime specification has it; name a process: --pid PID",
    )?;
    Ok(state.pid)
}

/// Asks until the agent is past its start.
fn ask(args: &Args, process: u32) -> anyhow::Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let last = match ask_once(args, process) {
            Ok(Value::Null) => "the agent is starting".to_owned(),
            Ok(value) => return Ok(value),
            Err(Failure::Refused(message)) => bail!(message),
            Err(Failure::Unreachable(error)) => format!("{error:#}"),
        };
        if Instant::now() + PAUSE > deadline {
            bail!("{last} (waited {} s)", args.timeout);
        }
        std::thread::sleep(PAUSE);
    }
}

enum Failure {
    /// It would say the same again.
    Refused(String),
    /// It may be starting.
    Unreachable(anyhow::Error),
}

/// The agent's answer; null while it cannot have one yet.
fn ask_once(args: &Args, process: u32) -> Result<Value, Failure> {
    let line = exchange(args, process).map_err(Failure::Unreachable)?;
    let mut answer: Value = serde_json::from_str(&line)
        .context("the agent's answer is not understood; is it another version?")
        .map_err(Failure::Unreachable)?;
    match (
        answer["error"]["code"].as_str(),
        answer["error"]["message"].as_str(),
    ) {
        (Some("starting"), _) => Ok(Value::Null),
        (_, Some(message)) => Err(Failure::Refused(message.to_owned())),
        _ => Ok(answer["ok"].take()),
    }
}

fn exchange(args: &Args, process: u32) -> anyhow::Result<String> {
    let socket = args.socket.display();
    let mut stream = UnixStream::connect(&args.socket)
        .with_context(|| format!("no agent answers at {socket}; is flect-agent running?"))?;
    let patience = Some(Duration::from_secs(args.timeout.max(1)));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let request = json!({ "op": "announce", "process": process });
    writeln!(stream, "{request}").context("the agent hung up")?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("the agent does not answer")?;
    if line.is_empty() {
        bail!("the agent hung up");
    }
    Ok(line)
}
