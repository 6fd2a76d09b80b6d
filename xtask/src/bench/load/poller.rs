//! epoll, and a timer that is finer than its milliseconds.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::PATIENCE;

/// Events taken at once.
const EVENTS: usize = 512;
/// The timer's own number; connections have those from 0 on.
const TIMER: u64 = u64::MAX;

/// What became ready.
pub struct Ready {
    /// Which connection.
    pub index: usize,
    /// It may be written to.
    pub writable: bool,
    /// It may be read from, or is closed.
    pub readable: bool,
}

/// An epoll with a timer in it.
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Poller {
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let data = epoll::EventData::new_u64(TIMER);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN)?;
        Ok(Self { epoll, timer })
    }

    /// # Errors
    /// When it is watched already.
    pub fn watch(&self, source: impl AsFd, index: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, source, data, epoll::EventFlags::IN).context("watching")
    }

    /// Whether to be told that it may be written to as well.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn want(&self, source: impl AsFd, index: usize, writable: bool) -> Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, writable);
        epoll::modify(&self.epoll, source, data, flags).context("watching")
    }

    /// Wakes the next [`wait`](Self::wait) after this time.
    ///
    /// # Errors
    /// Never, as timerfd_settime(2) has it.
    pub fn wake_after(&self, time: Duration) -> Result<()> {
        // Nothing at all would disarm it.
        let time = time.max(Duration::from_nanos(1));
        let value = Timespec {
            tv_sec: i64::try_from(time.as_secs())?,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let interval = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let new = Itimerspec {
            it_interval: interval,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &new)?;
        Ok(())
    }

    /// Waits for something, at most until `until`, and tells what.
    ///
    /// # Errors
    /// When nothing happens for a very long time.
    pub fn wait(&self, until: Instant, ready: &mut Vec<Ready>) -> Result<()> {
        ready.clear();
        let left = until
            .saturating_duration_since(Instant::now())
            .min(PATIENCE);
        // epoll has milliseconds; too late by one is nothing where this is the end of all.
        let timeout = Timespec::try_from(left + Duration::from_millis(1))?;
        let mut events = [MaybeUninit::uninit(); EVENTS];
        let found = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok((found, _)) => found,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("waiting"),
        };
        for event in found.iter() {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == TIMER {
                let mut count = [0; 8];
                // Armed anew since, it has nothing to tell.
                let _ = rustix::io::read(&self.timer, &mut count);
                continue;
            }
            ready.push(Ready {
                index: usize::try_from(data)?,
                writable: flags.contains(epoll::EventFlags::OUT),
                readable: flags.intersects(
                    epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
                ),
            });
        }
        Ok(())
    }
}
