//! Writes the agent's command table from what real servers say of themselves:
//!
//!     cargo run -p flect-agent --example generate-commands -- VALKEY-SERVER...
//!
//! Invariant: each server runs alone in a temporary folder, listens on a Unix socket there only, and is
//! stopped before the task ends.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use flect_agent::commands::Version;
use flect_agent::commands::generate::{CommandReply, generate};

/// Where the table stands, from the root of the workspace.
const TABLE: &str = "flect-agent/src/commands/generated.rs";

/// A server that has not opened its socket by then never will; starting takes a fraction of a second.
const START_SECONDS_MAX: u64 = 10;

fn main() -> anyhow::Result<()> {
    let valkeys: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if valkeys.is_empty() {
        bail!("name at least one valkey-server");
    }
    let mut dumps = Vec::new();
    for program in &valkeys {
        let dump = ask(program).with_context(|| format!("asking {}", program.display()))?;
        dumps.push(dump);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the agent stands in the workspace")?;
    std::fs::write(root.join(TABLE), generate(&dumps)?)
        .with_context(|| format!("writing {TABLE}"))?;
    Ok(())
}

/// Stops the server however the task ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has no data to save; that it is gone already is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(program: &Path) -> anyhow::Result<(Version, CommandReply)> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("valkey.sock");
    let child = Command::new(program)
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let server = Server(child);
    let mut stream = connect(&socket)?;
    let version = version(&mut stream)?;
    let mut answer = Vec::new();
    stream.write_all(b"*1\r\n$7\r\nCOMMAND\r\n")?;
    let reply = loop {
        read_some(&mut stream, &mut answer)?;
        if let Some(reply) = CommandReply::parse(&answer)? {
            break reply;
        }
    };
    drop(server);
    Ok((version, reply))
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(START_SECONDS_MAX)))?;
                return Ok(stream);
            }
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(anyhow!(error).context("the server opened no socket")),
        }
    }
}

/// From `valkey_version:8.1.1` in INFO.
fn version(stream: &mut UnixStream) -> anyhow::Result<Version> {
    stream.write_all(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n")?;
    let mut answer = Vec::new();
    let text = loop {
        read_some(stream, &mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let Some((header, body)) = text.split_once("\r\n") else {
            continue;
        };
        let bytes: usize = header
            .strip_prefix('$')
            .context("INFO is no bulk string")?
            .parse()?;
        if body.len() >= bytes + 2 {
            break body.to_owned();
        }
    };
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("valkey_version:"))
        .context("INFO names no version")?;
    let mut parts = version.trim().split('.');
    let mut part = || {
        parts
            .next()
            .and_then(|part| part.parse().ok())
            .with_context(|| format!("'{version}' is no version"))
    };
    Ok(Version {
        major: part()?,
        minor: part()?,
    })
}

fn read_some(stream: &mut UnixStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut chunk = [0; 64 * 1024];
    let bytes = stream.read(&mut chunk)?;
    if bytes == 0 {
        bail!("the server closed the connection");
    }
    answer.extend_from_slice(&chunk[..bytes]);
    Ok(())
}
