//! One agent after the other in a bed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::agent::{self, Agent};
use super::{Bed, tail};

/// Between two looks at the log, which tell when an agent accepts: some of the milliseconds that it takes.
const LOOK: Duration = Duration::from_millis(2);
/// How long a predecessor may take to end, beyond what its configuration says.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

impl Bed {
    /// How often an agent has come to accept here, by the log.
    #[must_use]
    pub fn times_ready(&self) -> usize {
        let log = self.agent_log();
        log.lines().filter(|line| line.contains(": ready ")).count()
    }

    /// Waits until one more has.
    ///
    /// # Errors
    /// When the agent ends, or it is not ready in time; the message holds its log.
    pub fn wait_until_ready_again(&self, before: usize) -> Result<()> {
        let start = Instant::now();
        while self.times_ready() <= before {
            if let Some(end) = self.inner.agent_ended() {
                bail!("the agent ended: {end}\n{}", tail(&self.agent_log()));
            }
            if start.elapsed() > Duration::from_secs(agent::READY_SECONDS_MAX) {
                bail!("the agent is not ready\n{}", tail(&self.agent_log()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets a successor take over from the agent; how long it took from its start until it accepted. The
    /// predecessor has ended, without an error, when this returns.
    ///
    /// # Errors
    /// When the successor does not come up, or the predecessor does not end.
    pub fn upgrade_agent(&self) -> Result<Duration> {
        let before = self.times_ready();
        let start = Instant::now();
        let predecessor = self.swap_agent(self.spawn_successor()?)?;
        self.wait_until_ready_again(before)?;
        let took = start.elapsed();
        predecessor(ENDED_WITHIN)?;
        Ok(took)
    }

    /// The bed's agent is this one from now on. What is given back waits for the end of the one before, and kills
    /// it if it does not end, or is dropped.
    ///
    /// # Errors
    /// When there is none before, or the bed is being removed.
    pub fn swap_agent(&self, successor: Agent) -> Result<impl FnOnce(Duration) -> Result<()>> {
        let predecessor = self.inner.take_agent().context("no agent runs")?;
        if let Err(error) = self.inner.set_agent(successor) {
            predecessor.kill()?;
            return Err(error);
        }
        let mut predecessor = Ending(Some(predecessor));
        Ok(move |within: Duration| predecessor.wait(within))
    }

    /// Starts `flect-agent upgrade` beside the agent of this bed, and leaves it to the caller.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_successor(&self) -> Result<Agent> {
        Agent::spawn_as(
            self.programs()?,
            "upgrade",
            &self.config,
            &self.agent_log_path(),
        )
    }
}

/// An agent that is to end by itself.
struct Ending(Option<Agent>);

impl Ending {
    fn wait(&mut self, within: Duration) -> Result<()> {
        let mut status = None;
        agent::wait_until(within, || {
            status = self.0.as_mut().and_then(Agent::ended);
            Ok(status.is_some())
        })
        .context("the predecessor does not end")?;
        self.0 = None;
        ensure!(
            status.is_some_and(|status| status.success()),
            "the predecessor ended with {status:?}"
        );
        Ok(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // It has failed already, whoever drops it like this.
        if let Some(agent) = self.0.take() {
            let _ = agent.kill();
        }
    }
}
