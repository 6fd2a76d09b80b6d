//! The conversation with the environment's Valkey, for commands that work on it directly.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use flect_agent::admin::Admin;
use flect_agent::config::Valkey;
use flect_agent::config::environments::Folders;
use flect_agent::store::Slug;

use crate::Global;
use crate::failure::Failure;

/// How long the agent may take to say why it refuses.
const AGENT_WITHIN: Duration = Duration::from_secs(3);

/// The operator's connection to the chosen environment.
pub struct Operator {
    /// What people call the environment.
    pub environment: String,
    /// How it is reached.
    pub valkey: Valkey,
    /// The connection.
    pub admin: Admin,
}

/// Runs a command that talks to Valkey.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

impl Operator {
    /// Connects to the environment that the command line, the variables or the user chose.
    pub async fn connect(global: &Global) -> anyhow::Result<Self> {
        Self::connect_to(global.env.as_deref()).await
    }

    /// Connects to the environment of this name, or the chosen one.
    pub async fn connect_to(name: Option<&str>) -> anyhow::Result<Self> {
        let (environment, known) = Folders::from_env().choose(name)?;
        let admin = match Admin::connect(&known.valkey).await {
            Ok(admin) => admin,
            Err(error) => return Err(explained(error.into(), &known.valkey)),
        };
        Ok(Self {
            environment,
            valkey: known.valkey,
            admin,
        })
    }
}

/// Where this process is intercepted itself, the agent breaks the connection off, which says nothing:
/// asked in the plainest way, it says why.
fn explained(error: anyhow::Error, valkey: &Valkey) -> anyhow::Error {
    match agents_words(valkey) {
        Some(words) => anyhow::anyhow!(
            "this node's agent takes the connection for an app's ({words}); run it as root, or from outside of the managed cgroup"
        )
        .context(Failure::Unreachable),
        None => error,
    }
}

/// The agent's refusal, if it is the agent who answers.
fn agents_words(valkey: &Valkey) -> Option<String> {
    if valkey.socket.is_some() || valkey.tls.is_some() {
        // No connection over a unix socket is intercepted; with TLS, the agent's words are its error.
        return None;
    }
    let address = valkey.address.resolve().ok()?.into_iter().next()?;
    let mut stream = TcpStream::connect_timeout(&address, AGENT_WITHIN).ok()?;
    // Refusals wait for a store that may appear, for a second.
    stream.set_read_timeout(Some(AGENT_WITHIN)).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line.strip_prefix("-DENIED ")?.trim_end().to_owned())
}

/// A store's name, as clap wants it read.
pub fn slug(text: &str) -> Result<Slug, String> {
    Slug::try_from(text.to_owned()).map_err(|error| error.to_string())
}
