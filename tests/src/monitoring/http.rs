//! As much of HTTP as a scraper speaks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, Builder};

/// A loop that does not turn is told after two seconds.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// The status code and the body of a reply.
pub type Reply = (u16, String);

/// Lines of `[agent]` for a bed whose agent answers at a socket.
pub fn with_socket(builder: Builder, folder: &Path) -> (Builder, PathBuf) {
    let socket = folder.join("metrics.sock");
    let tail = format!("\n[agent.metrics]\nsocket = \"{}\"\n", socket.display());
    (builder.config_tail(&tail), socket)
}

/// Asks at a unix socket.
pub fn at_socket(socket: &Path, path: &str) -> Result<Reply> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    ask(stream, path, "")
}

/// Asks at a port.
pub fn at_port(address: SocketAddr, path: &str, headers: &str) -> Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    ask(stream, path, headers)
}

fn ask(mut stream: impl Read + Write, path: &str, headers: &str) -> Result<Reply> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: agent\r\n{headers}\r\n"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no reply")?;
    let code = head.split(' ').nth(1).context("no code")?.parse()?;
    Ok((code, body.to_owned()))
}

/// A whole scrape of the agent behind a socket.
pub fn scrape(socket: &Path) -> Result<String> {
    let (code, text) = at_socket(socket, "/metrics")?;
    ensure!(code == 200, "{code} {text}");
    Ok(text)
}

/// A bed whose agent answers at a socket, and the socket.
pub fn bed(builder: Builder) -> Result<(Bed, tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let (builder, socket) = with_socket(builder, folder.path());
    let bed = builder.start()?;
    crate::bed::agent::wait_until(REPLY_WITHIN, || Ok(socket.exists()))?;
    Ok((bed, folder, socket))
}
