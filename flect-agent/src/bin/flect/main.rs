//! `flect`, the users' command.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::Value;

/// Key-value stores on a shared Valkey.
#[derive(Parser)]
#[command(name = "flect", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show whether the agent of this node serves, with what, and whom. Exit code 0 when it is
    /// ready, 1 otherwise.
    Status {
        /// The agent's control socket.
        #[arg(long, default_value = "/run/flect/agent.sock")]
        socket: PathBuf,
        /// Print the agent's report as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The agent answers at once; past this it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let Command::Status { socket, json } = Arguments::parse().command;
    match report(&socket) {
        Ok(report) => {
            let text = if json {
                format!("{report}")
            } else {
                shown(&report)
            };
            println!("{text}");
            if report["ready"] == true {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            if json {
                println!(
                    "{}",
                    serde_json::json!({ "ready": false, "error": format!("{error:#}") })
                );
            } else {
                eprintln!("flect: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn report(socket: &Path) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no agent answers at {}; is flect-agent running, and are you root?",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .context("the agent does not answer")?;
    serde_json::from_str(&text)
        .context("the agent's answer is not understood; is it another version?")
}

/// The report for people.
fn shown(report: &Value) -> String {
    use std::fmt::Write;
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let mut out = String::new();
    let state = if report["ready"] == true {
        "ready"
    } else {
        "not ready"
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "agent         {state}, version {}, pid {}",
        text(&report["version"]),
        report["pid"]
    );
    let reachable = if report["valkey"]["reachable"] == true {
        "reachable"
    } else {
        "not reachable"
    };
    let _ = writeln!(
        out,
        "valkey        {}, {reachable}",
        text(&report["valkey"]["address"])
    );
    let direction = |name: &str| {
        if report["acceleration"][name] == true {
            "on"
        } else {
            "off"
        }
    };
    let _ = writeln!(
        out,
        "acceleration  app to agent {}, agent to app {}: {}",
        direction("client_to_agent"),
        direction("agent_to_client"),
        text(&report["acceleration"]["reason"])
    );
    let mib = report["rss_bytes"].as_f64().unwrap_or(0.0) / 1_048_576.0;
    let _ = write!(
        out,
        "load          {} sessions, {} workers, {mib:.1} MiB",
        report["sessions"], report["workers"]
    );
    for store in report["stores"].as_array().into_iter().flatten() {
        let _ = write!(
            out,
            "\nstore         {} {} ({} sessions)",
            text(&store["name"]),
            text(&store["prefix"]),
            store["sessions"]
        );
    }
    out
}
