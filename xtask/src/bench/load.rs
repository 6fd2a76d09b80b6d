//! The bench's own load generator: for what valkey-benchmark cannot do (a fixed rate, large values, many
//! stores, fan-out, connecting), and with the latencies that a client sees who does not wait politely.
//!
//! It is a process of its own, since only a process can be in an app's cgroup. One thread and one epoll,
//! like valkey-benchmark, so that both take about the same share of a small machine.
//!
//! Invariant: every reply is looked at; one of another kind or size than expected ends the measurement.

mod closed;
mod connecting;
mod connection;
mod fanout;
mod open;
mod poller;
mod request;
mod scanner;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flect_tests::child;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use request::Request;

/// The role's name for [`child::dispatch`].
pub const ROLE: &str = "load";
/// How long connections and replies may take: longer than any case lasts, so only what hangs meets it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A minute in nanoseconds: what takes longer is not a latency.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where.
    pub address: SocketAddr,
    /// Connections at once.
    pub connections: usize,
    /// Spread them over so many stores, by AUTH; 0 for the default store.
    pub stores: usize,
    /// The request's words; `__rand_int__` becomes 12 digits below `keys`, `__value__` the value.
    pub words: Vec<String>,
    /// How many keys there are.
    pub keys: u64,
    /// The length of `__value__`.
    pub value_bytes: usize,
    /// What each reply must be.
    pub expect: Expect,
    /// In which way.
    pub mode: Mode,
    /// For how long.
    pub seconds: f64,
}

/// What a reply must be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Expect {
    /// Its first byte.
    pub kind: char,
    /// Bytes of all bulk strings in it, where that is known.
    pub payload_bytes: Option<usize>,
}

/// The way of asking.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// So many requests in flight per connection; the next ones when all are answered.
    Closed { pipeline: usize },
    /// At a fixed rate, whatever the replies do; timed from when a request should have been sent.
    Open { per_second: f64 },
    /// One connection publishes, the others are subscribed.
    Fanout { window: usize },
    /// Connect, one PING, close; on so many at once.
    Connecting,
    /// Connect and wait.
    Idle,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Replies, or messages delivered, or connections served.
    pub count: u64,
    /// The time they took.
    pub seconds: f64,
    /// The time until all connections were served.
    pub connect_seconds: f64,
    /// Latencies.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Outcome {
    fn new(count: u64, time: Duration, latencies: &Histogram<u64>) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            count,
            seconds: time.as_secs_f64(),
            connect_seconds: 0.0,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: latencies.max() as f64 / 1_000.0,
        }
    }

    /// Per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds.max(f64::EPSILON)
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("a histogram")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos())
        .unwrap_or(LATENCY_NS_MAX)
        .clamp(1, LATENCY_NS_MAX)
}

/// A generator in a process of its own, whose connections are there.
pub struct Load {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Load {
    /// Starts one that `place` puts where it belongs, and waits until all its connections are served.
    ///
    /// # Errors
    /// When it cannot connect; the message has what it said.
    pub fn start(spec: &Spec, place: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        let text = serde_json::to_string(spec)?;
        let mut command = child::command(ROLE, &[&text])?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        place(&mut command)?;
        let mut child = command.spawn().context("starting the load")?;
        let to = child.stdin.take().context("its input")?;
        let from = BufReader::new(child.stdout.take().context("its output")?);
        let mut load = Self { child, to, from };
        load.line()?;
        Ok(load)
    }

    /// Lets it begin.
    ///
    /// # Errors
    /// When it is gone.
    pub fn go(&mut self) -> Result<()> {
        self.to.write_all(b"go\n").context("the load is gone")
    }

    /// Waits for the result; the connections stay until this is dropped.
    ///
    /// # Errors
    /// When a reply was not what it should be.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("no outcome: {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.is_empty() {
            let mut said = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                stderr.read_to_string(&mut said)?;
            }
            bail!("{}", said.trim().trim_start_matches("load: "));
        }
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends by itself when its input does, unless it hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the generator: connects, says `ready`, waits for a line, measures, says the outcome, waits for
/// the end of its input.
///
/// # Errors
/// When a connection breaks or a reply is not what it should be.
pub fn role(args: &[String]) -> Result<()> {
    let spec: Spec = serde_json::from_str(args.first().context("no specification")?)?;
    let request = Request::new(&spec.words, spec.value_bytes, spec.keys);
    let (mut connections, time) = match spec.mode {
        Mode::Connecting => (Vec::new(), Duration::ZERO),
        _ => connection::connect_all(&spec)?,
    };
    if let Mode::Fanout { .. } = spec.mode {
        fanout::subscribe(&mut connections)?;
    }
    let mut input = std::io::stdin().lock();
    say("ready")?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut outcome = match spec.mode {
        Mode::Closed { pipeline } => closed::run(&spec, &request, &mut connections, pipeline)?,
        Mode::Open { per_second } => open::run(&spec, &request, &mut connections, per_second)?,
        Mode::Fanout { window } => fanout::run(&spec, &mut connections, window)?,
        Mode::Connecting => connecting::run(&spec)?,
        Mode::Idle => Outcome::default(),
    };
    outcome.connect_seconds = time.as_secs_f64();
    say(&serde_json::to_string(&outcome)?)?;
    input.read_line(&mut line)?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush().context("nobody listens")
}
