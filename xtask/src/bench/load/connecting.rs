//! Connect, PING, close, again and again: what a client without a pool pays for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::connection::{Connection, READ_BYTES};
use super::poller::Poller;
use super::request::Request;
use super::{Expect, Outcome, PATIENCE, Spec, histogram, nanoseconds};

/// Keeps `spec.connections` at it at once; a latency is from connect to the first reply.
///
/// # Errors
/// When one is refused or not served.
pub fn run(spec: &Spec) -> Result<Outcome> {
    let ping = Request::new(&["PING".to_owned()], 0, 1);
    let expect = Expect {
        kind: '+',
        payload_bytes: None,
    };
    let poller = Poller::new()?;
    let mut latencies = histogram()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(spec.seconds);
    let mut slots: Vec<Option<(Instant, Connection)>> = Vec::new();
    slots.resize_with(spec.connections, || None);
    let begin = |index: usize| -> Result<(Instant, Connection)> {
        let since = Instant::now();
        // On loopback connect is done when it returns, so waiting in it costs no parallelism.
        let mut connection = Connection::open(spec.address)?;
        connection.unblock()?;
        connection.send(&ping, 1)?;
        poller.watch(&connection, index)?;
        Ok((since, connection))
    };
    for (index, slot) in slots.iter_mut().enumerate() {
        *slot = Some(begin(index)?);
    }
    let (mut count, mut busy) = (0, slots.len());
    while busy > 0 {
        poller.wait(end + PATIENCE, &mut ready)?;
        ensure!(Instant::now() < end + PATIENCE, "replies do not come");
        for event in &ready {
            let Some((since, connection)) = &mut slots[event.index] else {
                continue;
            };
            if connection.receive(&mut buffer, expect)? == 0 {
                continue;
            }
            latencies.saturating_record(nanoseconds(since.elapsed()));
            count += 1;
            slots[event.index] = None;
            if Instant::now() < end {
                slots[event.index] = Some(begin(event.index)?);
            } else {
                busy -= 1;
            }
        }
    }
    Ok(Outcome::new(count, start.elapsed(), &latencies))
}
