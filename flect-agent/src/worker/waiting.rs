//! How a worker waits for the next event: asleep, or for a moment awake.
//!
//! To be woken costs more than to serve a request: on a virtual machine whose core has gone idle, tens of
//! microseconds, twice for each request of a single client. So a worker whose events come close
//! together looks for the next one a little longer before it sleeps. How long follows the waits, as in
//! the kernel's haltpoll governor (drivers/cpuidle/governors/haltpoll.c): a wait that ended within
//! [`AWAKE_MAX`] makes it longer, a longer wait ends it. An agent with little to do never stays awake, and
//! one whose core is wanted by others, as the yield tells, sleeps at once.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

/// The longest a worker stays awake for nothing. A request to Valkey and back, both woken, takes about
/// as long where waking is slow.
const AWAKE_MAX: Duration = Duration::from_micros(100);

/// The first wait that is spent awake.
const AWAKE_MIN: Duration = Duration::from_micros(25);

/// A yield that took longer has let somebody else run: the core is wanted.
const YIELD_MAX: Duration = Duration::from_micros(4);

/// After the core was wanted, so many waits are spent asleep.
const ASLEEP_WAITS: u32 = 64;

/// What past waits have taught.
#[derive(Debug, Default)]
pub struct Waiting {
    awake: Duration,
    asleep: u32,
}

impl Waiting {
    /// Waits for events, for as long as `timeout` at most.
    ///
    /// # Errors
    /// What epoll_wait(2) says.
    pub fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        timeout: Duration,
    ) -> io::Result<()> {
        if timeout.is_zero() {
            return poll.poll(events, Some(timeout));
        }
        let begin = Instant::now();
        if self.awake > Duration::ZERO && self.awake < timeout {
            let mut now = begin;
            while now - begin < self.awake {
                poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
                let before = Instant::now();
                std::thread::yield_now();
                now = Instant::now();
                if now - before > YIELD_MAX {
                    self.awake = Duration::ZERO;
                    self.asleep = ASLEEP_WAITS;
                    break;
                }
            }
        }
        poll.poll(events, Some(timeout))?;
        self.learn(begin.elapsed());
        Ok(())
    }

    fn learn(&mut self, waited: Duration) {
        if self.asleep > 0 {
            self.asleep -= 1;
            return;
        }
        self.awake = if waited > AWAKE_MAX {
            Duration::ZERO
        } else {
            (self.awake * 2).clamp(AWAKE_MIN, AWAKE_MAX)
        };
    }
}
