//! Tries on the running kernel whether the fast path of sk_msg can be told from TCP.
//!
//! Each scenario is played twice, through TCP and through the fast path, and what the two ends saw is
//! compared: TCP on this very kernel is the reference, not our idea of it. What only the agent could
//! see is left out where it does not care (it asks no FIONREAD, and takes EOF and reset alike); what
//! an app could see must be the same.
//!
//! Invariant: nothing of it outlives [`run`], and no other process is touched. The hooks are a second
//! instance with maps of their own, attached to the agent's cgroup, for one loopback port that the
//! test itself holds.

mod bench;
mod remembered;
mod scenarios;

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Acceleration, AccelerationVerdict, Check, InterceptionError};
use crate::cgroup::CgroupMount;
use bench::{Bench, Direction};
use scenarios::SCENARIOS;

/// When no further scenario is begun: a start must not wait for acceleration. All of them take less than two seconds,
/// ten times as long in an emulated machine; where it is so busy that they do not, the next start tries again.
const TESTED_WITHIN: Duration = Duration::from_secs(40);

/// The verdict on the running kernel: remembered since the machine has booted, or found out now.
///
/// # Errors
/// When the test cannot be played.
pub(super) fn verdict(
    mount: &CgroupMount,
    memory: Option<&Path>,
) -> Result<AccelerationVerdict, InterceptionError> {
    let Some(path) = memory else {
        return run(mount).map(|(verdict, _)| verdict);
    };
    let both = [Direction::ClientToAgent, Direction::AgentToClient];
    let names = |direction| {
        SCENARIOS
            .iter()
            .map(move |(name, _)| check_name(direction, name))
    };
    let names: Vec<_> = both.into_iter().flat_map(names).collect();
    if let Some(verdict) = remembered::recall(path, &names) {
        return Ok(verdict);
    }
    let (verdict, is_whole) = run(mount)?;
    if is_whole {
        remembered::remember(path, &verdict);
    }
    Ok(verdict)
}

fn check_name(direction: Direction, scenario: &str) -> String {
    format!("{direction}: {scenario}")
}

/// Plays all scenarios in both directions, in well under two seconds; answers whether it came to all of them.
fn run(mount: &CgroupMount) -> Result<(AccelerationVerdict, bool), InterceptionError> {
    let started = Instant::now();
    tracing::info!("testing whether this kernel's acceleration can be told from TCP");
    let bench = Bench::set_up(mount)?;
    let mut checks = Vec::new();
    let until = started + TESTED_WITHIN;
    let client_to_agent = direction(&bench, Direction::ClientToAgent, until, &mut checks);
    let agent_to_client = direction(&bench, Direction::AgentToClient, until, &mut checks);
    tracing::debug!(took = ?started.elapsed(), ?checks, "sk_msg self-test");
    let is_whole = client_to_agent.is_whole && agent_to_client.is_whole;
    let verdict = AccelerationVerdict {
        requested: Acceleration::Auto,
        client_to_agent: client_to_agent.passed(),
        agent_to_client: agent_to_client.passed(),
        reason: format!(
            "auto: {}; {}",
            summary(Direction::ClientToAgent, &client_to_agent),
            summary(Direction::AgentToClient, &agent_to_client)
        ),
        checks,
    };
    Ok((verdict, is_whole))
}

/// What came of one direction.
struct Tried {
    /// Names of the scenarios that failed.
    failed: Vec<&'static str>,
    /// All were played.
    is_whole: bool,
}

impl Tried {
    fn passed(&self) -> bool {
        self.failed.is_empty() && self.is_whole
    }
}

fn direction(
    bench: &Bench,
    direction: Direction,
    until: Instant,
    checks: &mut Vec<Check>,
) -> Tried {
    let mut tried = Tried {
        failed: Vec::new(),
        is_whole: true,
    };
    for (name, scenario) in SCENARIOS {
        let failure = if Instant::now() >= until {
            tried.is_whole = false;
            Some("not tried: the machine was too busy".to_owned())
        } else {
            let failure = match (
                scenario(bench, direction, false),
                scenario(bench, direction, true),
            ) {
                (Ok(tcp), Ok(fast)) if tcp == fast => None,
                (Ok(tcp), Ok(fast)) => Some(format!("through TCP: {tcp}; past it: {fast}")),
                (Err(error), _) => Some(format!("through TCP: {error}")),
                (Ok(tcp), Err(error)) => Some(format!("through TCP: {tcp}; past it: {error}")),
            };
            tried.failed.extend(failure.is_some().then_some(name));
            failure
        };
        checks.push(Check {
            name: check_name(direction, name),
            failure,
        });
    }
    tried
}

fn summary(direction: Direction, tried: &Tried) -> String {
    if tried.passed() {
        return format!("{direction} on");
    }
    let failed = tried.failed.join(", ");
    match (failed.is_empty(), tried.is_whole) {
        (true, _) => format!("{direction} off, since the machine was too busy for the test"),
        (false, true) => format!("{direction} off, since this kernel shows it by: {failed}"),
        (false, false) => format!(
            "{direction} off, since this kernel shows it by: {failed}; the machine was too busy for the rest"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_came_to_no_end_switches_nothing_on() {
        let said = |failed: &[&'static str], is_whole| {
            let tried = Tried {
                failed: failed.to_vec(),
                is_whole,
            };
            (tried.passed(), summary(Direction::ClientToAgent, &tried))
        };
        assert_eq!(said(&[], true), (true, "client to agent on".to_owned()));
        let (passed, text) = said(&[], false);
        assert!(!passed && text.ends_with("too busy for the test"), "{text}");
        let (passed, text) = said(&["order", "end"], false);
        assert!(
            !passed && text.contains("order, end; the machine"),
            "{text}"
        );
        let (passed, text) = said(&["order"], true);
        assert!(!passed && text.ends_with("by: order"), "{text}");
    }
}
