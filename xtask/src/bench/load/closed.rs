//! Closed loop: a connection asks again when it has all its replies, as valkey-benchmark does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::connection::{Connection, READ_BYTES};
use super::poller::Poller;
use super::request::Request;
use super::{Outcome, PATIENCE, Spec, histogram, nanoseconds};

/// What a connection waits for.
struct Turn {
    since: Instant,
    owed: usize,
    wants_write: bool,
}

/// Asks for as long as the specification says, then waits for what is owed: nothing is cut off.
///
/// # Errors
/// When a reply is not what it should be, or does not come.
pub fn run(
    spec: &Spec,
    request: &Request,
    connections: &mut [Connection],
    pipeline: usize,
) -> Result<Outcome> {
    let poller = Poller::new()?;
    let mut latencies = histogram()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(spec.seconds);
    let mut turns = Vec::with_capacity(connections.len());
    for (index, connection) in connections.iter_mut().enumerate() {
        poller.watch(&*connection, index)?;
        let since = Instant::now();
        let sent = connection.send(request, pipeline)?;
        if !sent {
            poller.want(&*connection, index, true)?;
        }
        turns.push(Turn {
            since,
            owed: pipeline,
            wants_write: !sent,
        });
    }
    let (mut count, mut busy) = (0, turns.len());
    while busy > 0 {
        poller.wait(end + PATIENCE, &mut ready)?;
        ensure!(Instant::now() < end + PATIENCE, "replies do not come");
        for event in &ready {
            let (connection, turn) = (&mut connections[event.index], &mut turns[event.index]);
            let mut sent = !turn.wants_write;
            if event.writable {
                sent = connection.flush(request)?;
            }
            if event.readable {
                let replies = connection.receive(&mut buffer, spec.expect)?;
                ensure!(replies <= turn.owed, "more replies than requests");
                turn.owed -= replies;
                count += replies as u64;
                if turn.owed == 0 && replies > 0 {
                    let now = Instant::now();
                    latencies.saturating_record(nanoseconds(now - turn.since));
                    if now < end {
                        turn.since = now;
                        turn.owed = pipeline;
                        sent = connection.send(request, pipeline)?;
                    } else {
                        busy -= 1;
                    }
                }
            }
            if sent == turn.wants_write {
                turn.wants_write = !sent;
                poller.want(&*connection, event.index, !sent)?;
            }
        }
    }
    Ok(Outcome::new(count, start.elapsed(), &latencies))
}
