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
use std::time::Instant;

use super::{Acceleration, AccelerationVerdict, Check, InterceptionError};
use crate::cgroup::CgroupMount;
use bench::{Bench, Direction};
use scenarios::SCENARIOS;

/// The verdict on the running kernel: remembered since the machine has booted, or found out now.
///
/// # Errors
/// When the test cannot be played.
pub(super) fn verdict(
    mount: &CgroupMount,
    memory: Option<&Path>,
) -> Result<AccelerationVerdict, InterceptionError> {
    let Some(path) = memory else {
        return run(mount);
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
    let verdict = run(mount)?;
    remembered::remember(path, &verdict);
    Ok(verdict)
}

fn check_name(direction: Direction, scenario: &str) -> String {
    format!("{direction}: {scenario}")
}

/// Plays all scenarios in both directions, in well under two seconds.
fn run(mount: &CgroupMount) -> Result<AccelerationVerdict, InterceptionError> {
    let started = Instant::now();
    let bench = Bench::set_up(mount)?;
    let mut checks = Vec::new();
    let client_to_agent = direction(&bench, Direction::ClientToAgent, &mut checks);
    let agent_to_client = direction(&bench, Direction::AgentToClient, &mut checks);
    tracing::debug!(took = ?started.elapsed(), ?checks, "sk_msg self-test");
    Ok(AccelerationVerdict {
        requested: Acceleration::Auto,
        client_to_agent: client_to_agent.is_empty(),
        agent_to_client: agent_to_client.is_empty(),
        reason: format!(
            "auto: {}; {}",
            summary(Direction::ClientToAgent, &client_to_agent),
            summary(Direction::AgentToClient, &agent_to_client)
        ),
        checks,
    })
}

/// Names of the scenarios that failed.
fn direction(bench: &Bench, direction: Direction, checks: &mut Vec<Check>) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS {
        let failure = match (
            scenario(bench, direction, false),
            scenario(bench, direction, true),
        ) {
            (Ok(tcp), Ok(fast)) if tcp == fast => None,
            (Ok(tcp), Ok(fast)) => Some(format!("through TCP: {tcp}; past it: {fast}")),
            (Err(error), _) => Some(format!("through TCP: {error}")),
            (Ok(tcp), Err(error)) => Some(format!("through TCP: {tcp}; past it: {error}")),
        };
        if failure.is_some() {
            failed.push(name);
        }
        checks.push(Check {
            name: check_name(direction, name),
            failure,
        });
    }
    failed
}

fn summary(direction: Direction, failed: &[&str]) -> String {
    if failed.is_empty() {
        format!("{direction} on")
    } else {
        format!(
            "{direction} off, since this kernel shows it by: {}",
            failed.join(", ")
        )
    }
}
