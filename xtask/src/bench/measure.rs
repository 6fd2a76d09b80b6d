//! One case at one side, once.
//!
//! Invariant: a result is given only when every reply was right and, at flect, the agent itself counted the
//! requests: a load that went past it measures something else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::benchmark;
use super::cases::{BESIDE_BYTES, BESIDE_CONNECTIONS, BESIDE_KEY, Case, KEYS_CHOSEN, Metric, Way};
use super::load::{Expect, Load, Mode, Outcome, Spec};
use super::side::Running;

/// What was measured.
pub type Measurement = BTreeMap<Metric, f64>;

/// What a side showed while it became warm.
#[derive(Clone, Copy, Debug)]
pub struct Warm {
    /// Requests per second.
    pub rate: f64,
}

/// Warming up: enough to fill caches and buffers, and to know the rate to a few per cent.
const WARM_SECONDS: f64 = 0.15;
/// Connections while warming up, at most: opening ten thousand is no warmth.
const WARM_CONNECTIONS_MAX: usize = 50;
/// Requests of the first, unmeasured run of valkey-benchmark.
const WARM_REQUESTS: u64 = 3_000;
/// Below this a rate is mostly that of connecting.
const REQUESTS_MIN: f64 = 1_000.0;
/// Messages on their way to the subscribers at once.
const FANOUT_WINDOW: usize = 16;

/// Looks at the replies of one client, then warms up.
///
/// # Errors
/// When the side cannot do this case; the message says why.
pub fn warm_up(case: &Case, side: &Running) -> Result<Warm> {
    let rate = match case.way {
        Way::Fanout { .. } | Way::Connecting { .. } => {
            run(case, side, mode(case, 1.0), WARM_SECONDS)?.rate()
        }
        Way::Benchmark {
            connections,
            pipeline,
        } => {
            run(case, side, Mode::Closed { pipeline: 1 }, 0.0)?;
            let requests = WARM_REQUESTS * pipeline as u64;
            let shape = (connections, pipeline);
            let place = |command: &mut _| side.place(command);
            benchmark::run(case, side.address(), shape, requests, place)?.rate
        }
        Way::Closed { .. } | Way::Open { .. } | Way::Beside { .. } => {
            run(case, side, Mode::Closed { pipeline: 1 }, WARM_SECONDS)?.rate()
        }
    };
    Ok(Warm { rate })
}

fn run(case: &Case, side: &Running, mode: Mode, seconds: f64) -> Result<Outcome> {
    let mut spec = spec(case, side, mode, seconds);
    spec.connections = spec.connections.min(WARM_CONNECTIONS_MAX + 1);
    let mut load = Load::start(&spec, |command| side.place(command))?;
    load.go()?;
    load.outcome()
}

/// Measures for about so many seconds. `warm` is the side's own, `direct` that of direct Valkey.
///
/// # Errors
/// When a reply is wrong, or the requests did not reach the agent.
pub fn measure(
    case: &Case,
    side: &Running,
    seconds: f64,
    warm: Warm,
    direct: Warm,
) -> Result<Measurement> {
    let seen = side.requests_seen()?;
    let (measured, count) = match case.way {
        Way::Benchmark {
            connections,
            pipeline,
        } => {
            let requests = (warm.rate * seconds).max(REQUESTS_MIN) as u64;
            let cpu = Cpu::now(side)?;
            let shape = (connections, pipeline);
            let place = |command: &mut _| side.place(command);
            let outcome = benchmark::run(case, side.address(), shape, requests, place)?;
            let mut measured = cpu.per_request(side, requests)?;
            measured.insert(Metric::Rate, outcome.rate);
            measured.insert(Metric::P50, outcome.p50_us);
            measured.insert(Metric::P99, outcome.p99_us);
            (measured, requests)
        }
        Way::Beside { large, per_second } => beside(case, side, seconds, large, per_second)?,
        _ => own(case, side, seconds, mode(case, direct.rate))?,
    };
    if let (Some(before), Some(after)) = (seen, side.requests_seen()?) {
        ensure!(
            after >= before + count,
            "of {count} requests the agent saw {}: they went past it",
            after - before
        );
    }
    Ok(case
        .metrics
        .iter()
        .filter_map(|metric| Some((*metric, *measured.get(metric)?)))
        .collect())
}

/// The own generator; tells how many requests were made of it.
fn own(case: &Case, side: &Running, seconds: f64, mode: Mode) -> Result<(Measurement, u64)> {
    let spec = spec(case, side, mode, seconds);
    let mut load = Load::start(&spec, |command| side.place(command))?;
    let idle = side.own_memory()?;
    side.forget_peak()?;
    let cpu = Cpu::now(side)?;
    load.go()?;
    let outcome = load.outcome()?;
    let requests = match case.way {
        Way::Fanout { subscribers } => outcome.count / subscribers as u64,
        _ => outcome.count,
    };
    let mut all = cpu.per_request(side, outcome.count)?;
    all.insert(Metric::Rate, outcome.rate());
    all.insert(Metric::P50, outcome.p50_us);
    all.insert(Metric::P99, outcome.p99_us);
    all.insert(Metric::P999, outcome.p999_us);
    if let (Some(idle), Some(after)) = (idle, side.own_memory()?) {
        let more = |bytes: u64| bytes.saturating_sub(side.own_bytes_before()) as f64;
        let each = |bytes: u64| more(bytes) / spec.connections as f64;
        all.insert(Metric::IdleMemory, each(idle.now));
        all.insert(Metric::ActiveMemory, each(after.peak));
        all.insert(Metric::Growth, more(after.peak) / f64::from(1 << 20));
    }
    Ok((all, requests))
}

/// Small requests at a fixed rate while others move large values: two generators, so that the reading of
/// large values does not hold up the sending of small requests.
fn beside(
    case: &Case,
    side: &Running,
    seconds: f64,
    large: usize,
    per_second: f64,
) -> Result<(Measurement, u64)> {
    let small = spec(case, side, Mode::Open { per_second }, seconds);
    let mut big = spec(case, side, Mode::Closed { pipeline: 1 }, seconds + 0.3);
    big.connections = large;
    big.words = ["GET", BESIDE_KEY].map(str::to_owned).to_vec();
    big.expect = Expect {
        kind: '$',
        payload_bytes: Some(BESIDE_BYTES),
    };
    let mut big = Load::start(&big, |command| side.place(command))?;
    let mut small = Load::start(&small, |command| side.place(command))?;
    big.go()?;
    std::thread::sleep(Duration::from_millis(100));
    small.go()?;
    let outcome = small.outcome().context("the small requests")?;
    let moved = big.outcome().context("the large values")?;
    let all = [
        (Metric::P50, outcome.p50_us),
        (Metric::P99, outcome.p99_us),
        (Metric::P999, outcome.p999_us),
        (Metric::Rate, moved.rate()),
    ];
    Ok((all.into(), outcome.count + moved.count))
}

fn mode(case: &Case, direct_rate: f64) -> Mode {
    match case.way {
        Way::Benchmark { pipeline, .. } | Way::Closed { pipeline, .. } => Mode::Closed { pipeline },
        Way::Open { share, .. } => Mode::Open {
            per_second: direct_rate * share,
        },
        Way::Fanout { .. } => Mode::Fanout {
            window: FANOUT_WINDOW,
        },
        Way::Connecting { .. } => Mode::Connecting,
        Way::Beside { per_second, .. } => Mode::Open { per_second },
    }
}

fn spec(case: &Case, side: &Running, mode: Mode, seconds: f64) -> Spec {
    let connections = match case.way {
        Way::Benchmark { connections, .. }
        | Way::Closed { connections, .. }
        | Way::Open { connections, .. } => connections,
        Way::Fanout { subscribers } => subscribers + 1,
        Way::Connecting { at_once } => at_once,
        Way::Beside { .. } => BESIDE_CONNECTIONS,
    };
    Spec {
        address: side.address(),
        connections,
        // Elsewhere there are no stores to name.
        stores: if side.has_stores() { case.stores } else { 0 },
        words: case.words.iter().map(|&word| word.to_owned()).collect(),
        keys: KEYS_CHOSEN,
        value_bytes: case.value_bytes,
        expect: case.expect,
        mode,
        seconds,
    }
}

/// CPU time before.
struct Cpu {
    server: Duration,
    own: Option<Duration>,
}

impl Cpu {
    fn now(side: &Running) -> Result<Self> {
        Ok(Self {
            server: side.server_cpu()?,
            own: side.own_cpu()?,
        })
    }

    /// Microseconds of each since then, per request.
    fn per_request(&self, side: &Running, requests: u64) -> Result<Measurement> {
        let now = Self::now(side)?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1) as f64;
        let mut all = Measurement::new();
        all.insert(Metric::ServerCpu, each(now.server - self.server));
        if let (Some(now), Some(before)) = (now.own, self.own) {
            all.insert(Metric::OwnCpu, each(now - before));
        }
        Ok(all)
    }
}
