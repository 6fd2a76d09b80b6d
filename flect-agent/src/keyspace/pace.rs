//! Holding work to so many units a second.

use std::time::{Duration, Instant};

/// Work that ran ahead is made up for in pauses of at least this long, since shorter ones cost more
/// than they save.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// What was not used for this long is not made up for, so that a slow server is not met by a burst.
const BEHIND_MAX: Duration = Duration::from_millis(200);

/// A limit of units (keys, bytes) per second; without one it never waits.
#[derive(Debug)]
pub struct Pace {
    per_second: Option<f64>,
    /// When what was done so far would have been done at exactly the limit.
    due: Instant,
}

impl Pace {
    /// So many units a second.
    #[must_use]
    pub fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second: per_second.map(|rate| rate.max(1) as f64),
            due: Instant::now(),
        }
    }

    /// Notes that `units` were done, and waits when that was too fast.
    pub async fn done(&mut self, units: u64) {
        if let Some(pause) = self.note(units, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    fn note(&mut self, units: u64, now: Instant) -> Option<Duration> {
        let per_second = self.per_second?;
        let earliest = now.checked_sub(BEHIND_MAX).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(units as f64 / per_second);
        let ahead = self.due.saturating_duration_since(now);
        (ahead >= PAUSE_MIN).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_the_limit() {
        let mut pace = Pace::new(Some(1000));
        let start = pace.due;
        let mut now = start;
        for _ in 0..100 {
            // Each batch takes the server 10 ms and would allow 10 keys; 50 are done.
            now += Duration::from_millis(10);
            if let Some(pause) = pace.note(50, now) {
                now += pause;
            }
        }
        let seconds = (now - start).as_secs_f64();
        assert!((4.7..5.3).contains(&seconds), "5000 keys took {seconds} s");
        assert!(Pace::new(None).note(u64::MAX, now).is_none());
    }
}
