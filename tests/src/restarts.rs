//! Restarts of the agent while clients are at work: what they see of it.
//!
//! ```text
//! way -> the agent is followed by another: handed over, restarted by a supervisor, killed
//! clients (load) -> hooks -> agent -> Valkey     all the time, each counting what it was acknowledged
//!         -> report: refused, failed, tried again; time to ready
//! ```
//!
//! Invariant: a client tries a request again only where its connection ended before a byte of the answer came,
//! and then knows from the server whether it was carried out.

pub mod load;
#[cfg(feature = "trials")]
mod state;
#[cfg(feature = "trials")]
mod trials;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bed::supervisor::Supervisor;
use crate::bed::{Bed, Builder};
use load::{Load, Tally};
#[cfg(feature = "trials")]
pub use trials::trials;

/// Lines of the agents' log in a report.
const LOG_LINES: usize = 60;

/// How the agent is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `flect-agent upgrade`.
    Upgraded,
    /// SIGTERM, and a start with what the supervisor has kept: `systemctl restart`.
    Supervised,
    /// SIGKILL, and a start by a supervisor that keeps nothing.
    Killed,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgraded => "flect-agent upgrade",
            Self::Supervised => "systemctl restart",
            Self::Killed => "kill -9",
        })
    }
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How.
    pub way: Way,
    /// How often.
    pub count: usize,
    /// Work between two of them.
    pub calm: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What clients have seen.
    pub tally: Tally,
    /// From the start of each successor until it accepts.
    pub ready: Vec<Duration>,
    /// The longest that a client waited for an answer.
    pub longest: Duration,
    /// The end of the agents' log.
    pub log: String,
}

impl Report {
    /// What a person wants to read of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut ready = self.ready.clone();
        ready.sort();
        let at = |share: usize| {
            ready.get((ready.len() * share / 100).min(ready.len().saturating_sub(1)))
        };
        let ms = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
        format!(
            "{} restarts; ready after {} ms (median), {} ms (95 of 100), {} ms (longest)\n\
             {:?}; an answer took {} ms at most",
            ready.len(),
            ms(at(50)),
            ms(at(95)),
            ms(ready.last()),
            self.tally,
            self.longest.as_millis(),
        )
    }
}

/// Restarts under load; what clients see is no error.
///
/// # Errors
/// When the bed cannot be made, or an agent does not come up.
pub fn run(builder: Builder, settings: &Settings, tell: impl Fn(&str)) -> Result<Report> {
    let bed = Arc::new(builder.agent_later().start()?);
    let supervisor = match settings.way {
        Way::Supervised => Some(Supervisor::start(&bed)?),
        Way::Upgraded | Way::Killed => None,
    };
    match &supervisor {
        Some(supervisor) => {
            supervisor.launch(&bed)?;
            bed.wait_until_ready_again(0)?;
        }
        None => bed.start_agent()?,
    }
    let load = Load::start(&bed);
    load.wait_served().context("before the first restart")?;
    let mut report = Report::default();
    for number in 1..=settings.count {
        thread::sleep(settings.calm);
        let ready = restart(&bed, settings.way, supervisor.as_ref())
            .with_context(|| format!("restart {number}"))?;
        tell(&format!("{number}: ready after {} ms", ready.as_millis()));
        report.ready.push(ready);
        load.wait_served()
            .with_context(|| format!("after restart {number}"))?;
    }
    (report.tally, report.longest) = load.stop()?;
    let log = bed.agent_log();
    let lines: Vec<_> = log.lines().collect();
    report.log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    Ok(report)
}

/// Lets another agent follow, and tells how long it took from its start until it accepted.
///
/// # Errors
/// When it does not come up.
pub fn restart(bed: &Bed, way: Way, supervisor: Option<&Supervisor>) -> Result<Duration> {
    let before = bed.times_ready();
    match (way, supervisor) {
        (Way::Upgraded, _) => return bed.upgrade_agent(),
        (Way::Supervised, Some(_)) => bed.stop_agent()?,
        (Way::Supervised | Way::Killed, _) => bed.kill_agent()?,
    }
    let start = Instant::now();
    match supervisor {
        Some(supervisor) => supervisor.launch(bed)?,
        None => bed.spawn_agent_with("")?,
    }
    bed.wait_until_ready_again(before)?;
    Ok(start.elapsed())
}
