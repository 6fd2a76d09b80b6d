//! The conversation with this node's agent over its control socket: one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::failure::Failure;

/// The agent answers at once; past this it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A connection to the agent.
pub struct Node {
    stream: BufReader<UnixStream>,
}

impl Node {
    /// Connects to the agent's control socket.
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| {
                format!(
                    "no agent answers at {}; is flect-agent running?",
                    socket.display()
                )
            })
            .context(Failure::Unreachable)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks one thing and waits for the answer.
    pub fn ask(&mut self, request: &Value) -> anyhow::Result<Value> {
        writeln!(self.stream.get_mut(), "{request}").context("the agent hung up")?;
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .context("the agent does not answer")
            .context(Failure::Unreachable)?;
        let mut answer: Value = serde_json::from_str(&line)
            .context("the agent's answer is not understood; is it another version?")?;
        if let Some(message) = answer["error"]["message"].as_str() {
            bail!("{message}");
        }
        Ok(answer["ok"].take())
    }
}
