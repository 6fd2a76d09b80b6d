//! Signals as things to wait for: they are blocked and taken one by one.
//!
//! Invariant: children start with the signals blocked that were before, and signals that `nohup` and
//! shells let be ignored stay ignored.
#![expect(
    unsafe_code,
    reason = "neither std nor rustix waits for signals together with who sent them"
)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Some child ended or stopped.
    Child,
    /// Somebody sent this signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the terminal sent it, and so to the command as well.
        from_terminal: bool,
    },
    /// Nothing, in the time given.
    Nothing,
}

/// What is passed on to the command.
const PASSED_ON: [i32; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The blocked signals.
pub struct Signals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks them, for the rest of the process; before any thread is made.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set; the other calls read and write it and structures
        // on this stack only.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            libc::sigaddset(&mut set, libc::SIGCHLD);
            for number in PASSED_ON {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed();
                if libc::sigaction(number, ptr::null(), action.as_mut_ptr()) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // Linux queues a blocked signal even when it is ignored.
                if action.assume_init().sa_sigaction != libc::SIG_IGN {
                    libc::sigaddset(&mut set, number);
                }
            }
            let mut before = MaybeUninit::zeroed();
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) {
                0 => Ok(Self {
                    set,
                    before: before.assume_init(),
                }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// What was blocked before, for children.
    pub fn before(&self) -> libc::sigset_t {
        self.before
    }

    /// Waits for the next one; without a time for as long as it takes.
    pub fn wait(&self, time_max: Option<Duration>) -> io::Result<Event> {
        let time = time_max.map(|time| libc::timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: all three point to values of this frame or are null, which means no time.
        let number = unsafe { libc::sigtimedwait(&self.set, info.as_mut_ptr(), time) };
        if number < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(Event::Nothing),
                _ => Err(error),
            };
        }
        // SAFETY: the kernel has filled it, and every bit pattern is one.
        let info = unsafe { info.assume_init() };
        Ok(match number {
            libc::SIGCHLD => Event::Child,
            number => Event::Signal {
                number,
                from_terminal: info.si_code == libc::SI_KERNEL,
            },
        })
    }

    /// Waits while something is being started; a signal that wants an end is an error.
    pub fn pause(&self, time: Duration) -> anyhow::Result<()> {
        match self.wait(Some(time))? {
            Event::Signal { number, .. } if ends(number) => {
                anyhow::bail!("stopped by a signal before everything was ready")
            }
            _ => Ok(()),
        }
    }
}

/// Whether a signal asks for the end.
pub fn ends(number: i32) -> bool {
    matches!(
        number,
        libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT
    )
}
