//! One publishes, many are subscribed: counted are messages that arrive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::connection::{Connection, READ_BYTES};
use super::poller::Poller;
use super::request::Request;
use super::{Expect, Outcome, PATIENCE, Spec, histogram, nanoseconds};

/// The channel of all.
const CHANNEL: &str = "news";

/// Subscribes all but the first.
///
/// # Errors
/// When one is refused.
pub fn subscribe(connections: &mut [Connection]) -> Result<()> {
    for connection in connections.iter_mut().skip(1) {
        connection.block()?;
        connection.ask(&["SUBSCRIBE", CHANNEL])?;
        connection.unblock()?;
    }
    Ok(())
}

/// Publishes for as long as the specification says; a message is published when the one `window` before
/// it has reached everybody, so nobody is disconnected for being slow.
///
/// # Errors
/// When a message is lost.
pub fn run(spec: &Spec, connections: &mut [Connection], window: usize) -> Result<Outcome> {
    let words = ["PUBLISH", CHANNEL, "__value__"].map(str::to_owned);
    let request = Request::new(&words, spec.value_bytes, 1);
    let message = Expect {
        kind: '*',
        payload_bytes: Some("message".len() + CHANNEL.len() + spec.value_bytes),
    };
    let number = Expect {
        kind: ':',
        payload_bytes: None,
    };
    let poller = Poller::new()?;
    for (index, connection) in connections.iter().enumerate() {
        poller.watch(connection, index)?;
    }
    let subscribers = connections.len() - 1;
    let mut latencies = histogram()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    // When each message on its way was published, and whom it has reached.
    let mut away: VecDeque<(Instant, usize)> = VecDeque::new();
    let mut received = vec![0_u64; connections.len()];
    let (mut complete, mut count) = (0_u64, 0_u64);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(spec.seconds);
    loop {
        let room = window.saturating_sub(away.len());
        if room > 0 && Instant::now() < end {
            let sent = connections[0].send(&request, room)?;
            ensure!(sent, "a window does not fit into a socket's buffer");
            away.extend(vec![(Instant::now(), 0); room]);
        }
        if away.is_empty() {
            return Ok(Outcome::new(count, start.elapsed(), &latencies));
        }
        poller.wait(end + PATIENCE, &mut ready)?;
        ensure!(Instant::now() < end + PATIENCE, "messages are lost");
        for event in &ready {
            let expect = if event.index == 0 { number } else { message };
            let messages = connections[event.index].receive(&mut buffer, expect)?;
            if event.index == 0 {
                continue;
            }
            for _ in 0..messages {
                let place = usize::try_from(received[event.index] - complete)?;
                away.get_mut(place).context("an unpublished message")?.1 += 1;
                received[event.index] += 1;
            }
            count += messages as u64;
            while let Some((since, _)) = away.front().filter(|(_, who)| *who == subscribers) {
                latencies.saturating_record(nanoseconds(since.elapsed()));
                away.pop_front();
                complete += 1;
            }
        }
    }
}
