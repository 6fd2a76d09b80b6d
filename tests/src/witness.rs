//! A witness of how others are treated: a client of the neighbour's store that keeps asking, knows every reply in advance, and says how
//! long each took.
//!
//! Invariant: it uses what any app uses, small commands and transactions, on connections that it makes
//! anew now and then, so that whatever an attack denies is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bed::{Bed, NEIGHBOUR};
use crate::wire::Wire;

/// Rounds on one connection.
const ROUNDS_PER_CONNECTION: u64 = 64;

/// How long progress may take: long even for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The neighbour at work.
pub struct Witness {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<u32>>>>,
}

impl Witness {
    /// Begins to ask.
    ///
    /// # Errors
    /// When it cannot connect for the first time.
    pub fn start(bed: &Bed) -> Result<Self> {
        let connector = bed.connector(NEIGHBOUR)?;
        let address = bed.address();
        let connect = move || -> Result<Wire> { Ok(Wire::new(connector.connect(address)?)?) };
        let first = connect().context("the neighbour's first connection")?;
        let rounds = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (rounds.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut wire = first;
            let mut times_us = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed) + 1;
                if number.is_multiple_of(ROUNDS_PER_CONNECTION) {
                    wire = connect().context("the neighbour connects again")?;
                }
                round(&mut wire, number, &mut times_us)?;
                counted.store(number, Ordering::Relaxed);
            }
            Ok(times_us)
        });
        Ok(Self {
            rounds,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until it has been served so many rounds more.
    ///
    /// # Errors
    /// When it has got a wrong reply, or is not served.
    pub fn progresses(&mut self, rounds: u64) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Relaxed) + rounds;
        let begin = Instant::now();
        while self.rounds.load(Ordering::Relaxed) < wanted {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                self.end()?;
                bail!("the neighbour has ended");
            }
            ensure!(begin.elapsed() < PATIENCE, "the neighbour is not served");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it; how long each request took, in microseconds.
    ///
    /// # Errors
    /// What went wrong for it.
    pub fn end(&mut self) -> Result<Vec<u32>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().expect("no panic"),
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn round(wire: &mut Wire, number: u64, times_us: &mut Vec<u32>) -> Result<()> {
    let text = number.to_string();
    let requests: [(&[&str], &str); 6] = [
        (&["SET", "neighbour:number", &text], "OK"),
        (&["GET", "neighbour:number"], &text),
        (&["MULTI"], "OK"),
        (&["SET", "neighbour:number", "0"], "QUEUED"),
        (&["EXEC"], "[OK]"),
        (&["PING"], "PONG"),
    ];
    for (request, expected) in requests {
        let begin = Instant::now();
        let got = wire.command(request)?.text();
        ensure!(
            got == expected,
            "the neighbour got {got} instead of {expected}"
        );
        times_us.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(())
}
