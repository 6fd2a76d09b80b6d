//! valkey-benchmark, and what it says.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flect_tests::tools;

use super::cases::{Case, KEYS_CHOSEN};

/// What one run came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Requests per second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
}

/// Runs it with so many requests; `place` puts it where it belongs.
///
/// # Errors
/// When it fails, or says that a reply was an error.
pub fn run(
    case: &Case,
    address: SocketAddr,
    (connections, pipeline): (usize, usize),
    requests: u64,
    place: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Outcome> {
    let mut command = Command::new(tools::program("valkey-benchmark")?);
    command
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-c", &connections.to_string()])
        .args(["-P", &pipeline.to_string()])
        .args(["-n", &requests.to_string()])
        .args(["-r", &KEYS_CHOSEN.to_string()])
        .arg("--csv");
    for word in case.words {
        match *word {
            "__value__" => command.arg("x".repeat(case.value_bytes)),
            other => command.arg(other),
        };
    }
    command.stdin(Stdio::null());
    place(&mut command)?;
    let output = command.output().context("starting valkey-benchmark")?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success() && !complains(&said) && !complains(&complained),
        "valkey-benchmark ended with {}:\n{said}{complained}",
        output.status
    );
    parse(&said).with_context(|| format!("valkey-benchmark said:\n{said}"))
}

/// It goes on after some errors, and tells them on either stream.
fn complains(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        // It asks for the server's configuration, which a store does not tell: no request of the case.
        line.contains("error") && !line.contains("could not fetch server config")
    })
}

/// The last line of its CSV, by the names in the first.
fn parse(said: &str) -> Result<Outcome> {
    let mut lines = said.lines().filter(|line| line.starts_with('"'));
    let head = fields(lines.next().context("no heading")?);
    let last = fields(lines.next_back().context("no result")?);
    // The test's name is the whole command, which may hold commas: the numbers are counted from the end.
    let number = |name: &str| -> Result<f64> {
        let at = head.iter().rev().position(|field| *field == name);
        let at = at.with_context(|| format!("no column {name}"))?;
        let field = last.iter().rev().nth(at).context("a short line")?;
        field.parse().with_context(|| format!("no number: {field}"))
    };
    let outcome = Outcome {
        rate: number("rps")?,
        p50_us: number("p50_latency_ms")? * 1_000.0,
        p99_us: number("p99_latency_ms")? * 1_000.0,
    };
    if outcome.rate <= 0.0 {
        bail!("a rate of {}", outcome.rate);
    }
    Ok(outcome)
}

fn fields(line: &str) -> Vec<&str> {
    line.trim().trim_matches('"').split("\",\"").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_read_by_its_heading() {
        let said = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"EVAL return f('GET', \",\",1)\",\"50000.00\",\"0.4\",\"0.1\",\"0.383\",\"0.5\",\"0.703\",\"1.2\"\n";
        let outcome = parse(said).unwrap();
        assert!((outcome.rate - 50_000.0).abs() < 1e-9);
        assert!((outcome.p50_us - 383.0).abs() < 1e-9);
        assert!((outcome.p99_us - 703.0).abs() < 1e-9);
        assert!(parse("\"test\",\"rps\"\n").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn errors_are_noticed() {
        assert!(complains("Error from server: ERR unknown command"));
        assert!(!complains("WARNING: Could not fetch server CONFIG"));
        assert!(!complains("\"rps\"\n"));
    }
}
