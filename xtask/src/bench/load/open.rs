//! Open loop: requests leave at a fixed rate, whatever the replies do.
//!
//! Invariant: a request's latency begins when it should have been sent. So a server that stands still for
//! 10 ms is charged with every request that would have come meanwhile, not with the one that waits for it
//! ('coordinated omission'); and a generator that is late charges itself, alike on all sides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::connection::{Connection, READ_BYTES};
use super::poller::{Poller, Ready};
use super::request::Request;
use super::{Outcome, PATIENCE, Spec, histogram, nanoseconds};

/// Requests go round the connections at `per_second` for as long as the specification says.
///
/// # Errors
/// When a reply is not what it should be, or does not come.
pub fn run(
    spec: &Spec,
    request: &Request,
    connections: &mut [Connection],
    per_second: f64,
) -> Result<Outcome> {
    let poller = Poller::new()?;
    for (index, connection) in connections.iter().enumerate() {
        poller.watch(connection, index)?;
    }
    let mut latencies = histogram()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready: Vec<Ready> = Vec::new();
    let mut due: Vec<VecDeque<Instant>> = vec![VecDeque::new(); connections.len()];
    let mut wants_write = vec![false; connections.len()];
    let total = (per_second * spec.seconds).ceil().max(1.0) as u64;
    let (mut sent, mut count) = (0, 0);
    let start = Instant::now();
    let intended = |number: u64| start + Duration::from_secs_f64(number as f64 / per_second);
    let end = intended(total) + PATIENCE;
    while count < total {
        while sent < total {
            let at = intended(sent);
            let now = Instant::now();
            if at > now {
                poller.wake_after(at - now)?;
                break;
            }
            let index = usize::try_from(sent)? % connections.len();
            due[index].push_back(at);
            sent += 1;
            let all = connections[index].send(request, 1)?;
            if all == wants_write[index] {
                wants_write[index] = !all;
                poller.want(&connections[index], index, !all)?;
            }
        }
        poller.wait(end, &mut ready)?;
        ensure!(Instant::now() < end, "replies do not come");
        for event in &ready {
            let (index, connection) = (event.index, &mut connections[event.index]);
            if event.writable && connection.flush(request)? && wants_write[index] {
                wants_write[index] = false;
                poller.want(&*connection, index, false)?;
            }
            if !event.readable {
                continue;
            }
            let replies = connection.receive(&mut buffer, spec.expect)?;
            let now = Instant::now();
            for _ in 0..replies {
                let Some(at) = due[index].pop_front() else {
                    anyhow::bail!("more replies than requests");
                };
                latencies.saturating_record(nanoseconds(now - at));
            }
            count += replies as u64;
        }
    }
    Ok(Outcome::new(count, start.elapsed(), &latencies))
}
